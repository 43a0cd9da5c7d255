//! Traces as a collector gets them, from one process and from several.

#![expect(clippy::disallowed_methods, reason = "tests start processes and read the environment")]

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use p256::{SecretKey, pkcs8::EncodePrivateKey as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    collector::{Collector, Seen},
    server::{Server, ask, client, confab, free_port, mariadb, register, settings},
};

/// Of a client that exports its own spans.
const CLIENT_SPAN: &str = "00f067aa0ba902b7";
const TEXT: &str = "what nobody else may read";
const SEND: &str =
    "mutation Send($id: ID!, $key: String!, $text: String!) { sendMessage(input: { conversationId: $id, clientMessageId: $key,
        content: { text: { text: $text } } }) { message { seq } userErrors { message } } }";
const DOMAIN_SERVICE: &str = "confab.v1.Domain";

/// Two users of a group; the other one has a browser that is away.
struct Chat {
    client: reqwest::Client,
    url: String,
    token: String,
    conversation: Value,
    keys: u32,
}

impl Chat {
    async fn new(url: &str, push_url: &str) -> Self {
        let client = client();
        let (_, token) = register(&client, url, "ada").await;
        let (other, token_of_other) = register(&client, url, "bob").await;
        // The keys of the example in RFC 8291.
        let device = "mutation($endpoint: String!) { registerDevice(input: { device: { webPush: { endpoint: $endpoint,
            p256dh: \"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4\",
            auth: \"BTBZMqHH6r4Tts7J_aSIgg\" } } }) { provider userErrors { message } } }";
        let data = ask(&client, url, Some(&token_of_other), device, json!({ "endpoint": push_url })).await;
        assert_eq!(data.expect("registers")["registerDevice"]["provider"], "WEB_PUSH");
        let create = "mutation($other: ID!) { createGroup(input: { title: \"t\", memberIds: [$other] }) { conversation { id } } }";
        let data = ask(&client, url, Some(&token), create, json!({ "other": other })).await.expect("a group");
        let conversation = data["createGroup"]["conversation"]["id"].clone();
        Self { client, url: url.to_owned(), token, conversation, keys: 0 }
    }

    /// Sends a message, perhaps as a part of a client's trace; the trace it was.
    async fn send(&mut self, traceparent: Option<&str>) -> String {
        self.keys += 1;
        let variables = json!({ "id": self.conversation, "key": format!("k{}", self.keys), "text": TEXT });
        let mut request = self
            .client
            .post(format!("{}/graphql", self.url))
            .bearer_auth(&self.token)
            .json(&json!({ "query": SEND, "variables": variables }));
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let answer = request.send().await.expect("answers");
        let trace = answer.headers()["x-request-id"].to_str().expect("a text").to_owned();
        let answer: Value = answer.json().await.expect("JSON");
        assert!(answer["data"]["sendMessage"]["message"]["seq"].is_i64(), "{answer}");
        trace
    }

    /// With an id of its own for each number.
    async fn send_sampled(&mut self, number: u8) -> String {
        let trace = format!("{number:032x}");
        assert_eq!(self.send(Some(&format!("00-{trace}-{CLIENT_SPAN}-01"))).await, trace);
        trace
    }
}

/// Takes every push that browsers are to get.
fn push_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut begin = [0; 4096];
                let _ = stream.read(&mut begin);
                let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer);
            });
        }
    });
    format!("http://{address}/push/secret-of-the-device")
}

/// The settings of a process that exports, and pushes to browsers.
fn exporting(folder: &Path, endpoint: &str) -> Command {
    let mut command = confab();
    settings(&mut command, folder);
    let key = folder.join("vapid.pem");
    if !key.exists() {
        let secret = SecretKey::from_slice(&[7; 32]).expect("a key");
        fs::write(&key, secret.to_pkcs8_pem(p256::pkcs8::LineEnding::LF).expect("PEM").as_bytes())
            .expect("writes");
    }
    command
        .env("CONFAB_OTLP_ENDPOINT", endpoint)
        .env("CONFAB_PUSH_VAPID_KEY", key)
        .env("CONFAB_PUSH_VAPID_SUBJECT", "mailto:somebody@example.org")
        .env("CONFAB_PUSH_PRIVATE_ENDPOINTS", "on");
    command
}

/// Follows parents from the span of this name and role to the one that the client knows.
fn path_to<'a>(spans: &'a [Seen], last: (&str, &str)) -> Vec<(&'a str, &'a str, SpanKind)> {
    let find = |matches: &dyn Fn(&Seen) -> bool| spans.iter().find(|span| matches(span));
    let last = find(&|span| (span.role.as_str(), span.name.as_str()) == last);
    let mut at = last.unwrap_or_else(|| panic!("no such span in {spans:#?}"));
    let mut path = vec![(at.role.as_str(), at.name.as_str(), at.kind)];
    while at.parent != CLIENT_SPAN {
        let parent = find(&|span| span.id == at.parent);
        at = parent.unwrap_or_else(|| panic!("{} has no parent in {spans:#?}", at.name));
        path.push((at.role.as_str(), at.name.as_str(), at.kind));
    }
    path.reverse();
    path
}

fn assert_discreet(spans: &[Seen]) {
    for span in spans {
        let text = format!("{span:?}");
        for secret in [TEXT, "secret-of-the-device", "127.0.0.1", "sendMessage(", "correct horse"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_exports_the_way_of_a_message_to_a_device() {
    let collector = Collector::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(exporting(folder.path(), &collector.url));
    let mut chat = Chat::new(&server.url, &push_service()).await;
    let trace = chat.send_sampled(1).await;
    let names = ["mutation Send", "commit", "relay events", "process task.push", "push web_push"];
    let spans = collector.trace(&trace, &names).await;
    let here = |name, kind| ("serve", name, kind);
    assert_eq!(
        path_to(&spans, ("serve", "push web_push")),
        [
            here("mutation Send", SpanKind::Server),
            here("commit", SpanKind::Internal),
            here("relay events", SpanKind::Producer),
            here("process task.push", SpanKind::Consumer),
            here("push web_push", SpanKind::Client),
        ]
    );
    let of = |name: &str| spans.iter().find(|span| span.name == name).expect("there");
    assert_eq!(of("mutation Send").fields["graphql.operation.type"], "mutation");
    assert_eq!(of("mutation Send").fields["graphql.operation.name"], "Send");
    assert_eq!(of("commit").fields["confab.items"], "1");
    assert_eq!(of("commit").fields["confab.pos"], of("relay events").fields["confab.pos"]);
    assert!(spans.iter().all(|span| span.service == "confab" && !span.failed), "{spans:#?}");

    // One that says it is not sampled is left alone by everybody; what begins here has the id that the client was told.
    let silent = format!("{:032x}", 2);
    chat.send(Some(&format!("00-{silent}-{CLIENT_SPAN}-00"))).await;
    let own = chat.send(None).await;
    let spans = collector.trace(&own, &["mutation Send", "commit", "process task.push"]).await;
    let begin = spans.iter().find(|span| span.name == "mutation Send").expect("there");
    assert_eq!(begin.parent, "");
    // What is left leaves with the process.
    let last = chat.send_sampled(3).await;
    assert_eq!(server.terminate(), Some(0));
    collector.trace(&last, &["mutation Send", "commit"]).await;
    let seen = collector.seen();
    assert!(seen.iter().all(|span| span.trace != silent), "{seen:#?}");
    assert_discreet(&seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ratio_of_none_leaves_what_clients_trace() {
    let collector = Collector::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = exporting(folder.path(), &collector.url);
    command.env("CONFAB_OTLP_SAMPLING_RATIO", "0");
    let mut server = Server::start(command);
    let mut chat = Chat::new(&server.url, &push_service()).await;
    chat.send(None).await;
    let trace = chat.send_sampled(1).await;
    assert_eq!(server.terminate(), Some(0));
    collector.trace(&trace, &["mutation Send", "commit"]).await;
    let seen = collector.seen();
    assert!(seen.iter().all(|span| span.trace == trace), "{seen:#?}");
}

/// A process that says a line when it works; killed when dropped.
struct Process(Child);

impl Process {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        assert_eq!(line, "working\n");
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_every_role_export_one_trace() {
    let Ok(brokers) = env::var("CONFAB_TEST_KAFKA_BROKERS") else {
        eprintln!("SKIPPED: CONFAB_TEST_KAFKA_BROKERS is not set (scripts/test sets it)");
        return;
    };
    let Some(database) = mariadb() else { return };
    let prefix = database.rsplit('/').next().expect("a name").to_owned();
    let collector = Collector::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let command = |arguments: &[&str]| {
        let mut command = exporting(folder.path(), &collector.url);
        command
            .args(arguments)
            .env("CONFAB_DATABASE_URL", &database)
            .env("CONFAB_KEYS_DIR", folder.path().join("keys"))
            .env("CONFAB_SERVICE_SECRET", "a-secret-of-the-tests-and-nobody-else")
            .env("CONFAB_DOMAIN_LISTEN", "127.0.0.1:0")
            .env("CONFAB_KAFKA_BROKERS", &brokers)
            .env("CONFAB_KAFKA_TOPIC_PREFIX", &prefix);
        if let Ok(redis) = env::var("CONFAB_TEST_REDIS_URL") {
            command.env("CONFAB_REDIS_URL", redis);
        }
        command
    };
    for arguments in [&["migrate"][..], &["keys", "new"]] {
        assert!(command(arguments).status().expect("runs").success(), "{arguments:?}");
    }
    let domain = Server::start(command(&["domain"]));
    let of_domain = |role: &str| {
        let mut command = command(&[role]);
        command.env("CONFAB_DOMAIN_URL", &domain.url);
        command
    };
    let api = Server::start(of_domain("api"));
    let _worker = Process::start(of_domain("worker"));
    let mut chat = Chat::new(&api.url, &push_service()).await;
    let trace = chat.send_sampled(1).await;
    let due = format!("{DOMAIN_SERVICE}/DuePushes");
    let sends = format!("{DOMAIN_SERVICE}/SendMessages");
    // Once from each side.
    let names = [
        "mutation Send",
        &sends,
        &sends,
        "commit",
        "relay events",
        "process task.push",
        &due,
        &due,
        "push web_push",
    ];
    let spans = collector.trace(&trace, &names).await;
    let sent = [
        ("api", "mutation Send", SpanKind::Server),
        ("api", &sends, SpanKind::Client),
        ("domain", &sends, SpanKind::Server),
        ("domain", "commit", SpanKind::Internal),
        ("worker", "relay events", SpanKind::Producer),
        ("worker", "process task.push", SpanKind::Consumer),
    ];
    let asked = [("worker", due.as_str(), SpanKind::Client), ("domain", due.as_str(), SpanKind::Server)];
    let pushed = [("worker", "push web_push", SpanKind::Client)];
    assert_eq!(path_to(&spans, ("domain", &due)), [&sent[..], &asked].concat());
    assert_eq!(path_to(&spans, ("worker", "push web_push")), [&sent[..], &pushed].concat());
    let call = spans.iter().find(|span| span.name == sends).expect("there");
    assert_eq!((&*call.fields["rpc.system"], &*call.fields["rpc.method"]), ("grpc", "SendMessages"));
    assert!(spans.iter().all(|span| span.service == "confab" && !span.failed), "{spans:#?}");
    assert_discreet(&collector.seen());
}

/// More spans than wait in the smallest queue.
const SENDS: u32 = 400;
/// Many times what it takes; spans that sends would wait for are lost after 5 s each batch.
const LONG: Duration = Duration::from_mins(1);

/// How often the log says that spans are lost.
async fn complaints(endpoint: &str) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let mut command = exporting(folder.path(), endpoint);
    command
        .env("CONFAB_OTLP_QUEUE_SPANS_MAX", "512")
        .stdout(Stdio::piped())
        .stderr(File::create(&log).expect("a log"));
    let mut process = command.spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("listening on ").expect("listens").to_owned();
    let mut server = Server { process, url };
    let ended = timeout(LONG, async {
        let mut chat = Chat::new(&server.url, &push_service()).await;
        for _ in 0..SENDS {
            chat.send(None).await;
        }
        tokio::task::spawn_blocking(move || server.terminate()).await.expect("waits")
    });
    assert_eq!(ended.await.expect("in time"), Some(0));
    let log = fs::read_to_string(log).expect("the log");
    log.lines().filter(|line| line.contains("spans are lost")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_is_named_once_and_fails_no_send() {
    let nobody = free_port();
    assert_eq!(complaints(&format!("http://127.0.0.1:{nobody}")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_up_neither_sends_nor_the_end() {
    // Accepted by the system, and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = silent.local_addr().expect("bound");
    assert!(complaints(&format!("http://{address}")).await <= 1);
}

#[test]
fn an_endpoint_that_is_none_exits_78_and_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = exporting(folder.path(), "127.0.0.1:4317").output().expect("runs");
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("CONFAB_OTLP_ENDPOINT"), "{text}");
}
