//! Several processes of each role as one installation, and what happens when one of them goes.

#![expect(clippy::disallowed_methods, reason = "tests start processes and read the environment")]

use std::{path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    listener::Listener,
    people::Site,
    server::{Server, ask, client, confab, mariadb, register, settings},
};

const SECRET: &str = "a-secret-of-the-tests-and-nobody-else";

/// Two of `confab domain` and two of `confab api` on one MariaDB.
struct Cluster {
    folder: tempfile::TempDir,
    database: String,
    domains: Vec<Server>,
    apis: Vec<Server>,
    client: reqwest::Client,
}

impl Cluster {
    /// `None`, loudly, without a MariaDB.
    fn start() -> Option<Self> {
        let database = mariadb()?;
        let folder = tempfile::tempdir().expect("a folder");
        for arguments in [&["migrate"][..], &["keys", "new"]] {
            let status = Self::command(folder.path(), &database).args(arguments).status();
            assert!(status.expect("runs").success(), "{arguments:?}");
        }
        let mut cluster = Self { folder, database, domains: Vec::new(), apis: Vec::new(), client: client() };
        cluster.domains = (0..2).map(|_| cluster.domain("127.0.0.1:0")).collect();
        cluster.apis = (0..2).map(|_| cluster.api()).collect();
        Some(cluster)
    }

    fn command(folder: &Path, database: &str) -> Command {
        let mut command = confab();
        settings(&mut command, folder);
        command
            .env("CONFAB_DATABASE_URL", database)
            .env("CONFAB_KEYS_DIR", folder.join("keys"))
            .env("CONFAB_SERVICE_SECRET", SECRET);
        if let Ok(redis) = std::env::var("CONFAB_TEST_REDIS_URL") {
            command.env("CONFAB_REDIS_URL", redis);
        }
        command
    }

    fn domain(&self, address: &str) -> Server {
        let mut command = Self::command(self.folder.path(), &self.database);
        command.arg("domain").env("CONFAB_DOMAIN_LISTEN", address);
        Server::start(command)
    }

    fn api(&self) -> Server {
        let mut command = Self::command(self.folder.path(), "mysql://nobody@127.0.0.1:1/nowhere");
        let urls: Vec<&str> = self.domains.iter().map(|domain| domain.url.as_str()).collect();
        command.arg("api").env("CONFAB_DOMAIN_URL", urls.join(","));
        Server::start(command)
    }

    async fn group(&self, token: &str) -> Value {
        let create =
            "mutation { createGroup(input: { title: \"t\", memberIds: [] }) { conversation { id } } }";
        let data =
            ask(&self.client, &self.apis[0].url, Some(token), create, json!({})).await.expect("a group");
        data["createGroup"]["conversation"]["id"].clone()
    }

    /// The message's `seq`; `None` when the outcome is unknown.
    async fn send(&self, api: usize, token: &str, conversation: &Value, key: &str) -> Option<i64> {
        let send = "mutation($id: ID!, $key: String!) { sendMessage(input: { conversationId: $id, clientMessageId: $key,
            content: { text: { text: $key } } }) { message { seq } userErrors { message } } }";
        let variables = json!({ "id": conversation, "key": key });
        let data = ask(&self.client, &self.apis[api].url, Some(token), send, variables).await?;
        Some(data["sendMessage"]["message"]["seq"].as_i64().unwrap_or_else(|| panic!("{data}")))
    }
}

fn signal(server: &Server, name: &str) {
    let pid = server.process.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_goes_on_while_domains_stop_answering_die_and_come_back() {
    let Some(mut cluster) = Cluster::start() else { return };
    let (_, token) = register(&cluster.client, &cluster.apis[0].url, "ada").await;
    let conversation = cluster.group(&token).await;
    let mut listener = Listener::open(&cluster.apis[1].url, &token, None).await.expect("opens");
    listener.opening().await.expect("live");
    let mut sent = 0;
    let mut round = async |cluster: &Cluster, listener: &mut Listener, what: &str| {
        for _ in 0..10 {
            let key = format!("k{sent}");
            let asked = Instant::now();
            let seq = cluster.send(sent % 2, &token, &conversation, &key).await;
            assert_eq!(seq, i64::try_from(sent + 1).ok(), "{what}");
            assert!(asked.elapsed() < Duration::from_secs(5), "{what}: {:?}", asked.elapsed());
            let event = listener.event().await.expect("open");
            assert_eq!(event["message"]["clientMessageId"], key, "{what}");
            sent += 1;
        }
    };
    round(&cluster, &mut listener, "both answer").await;

    for stopped in 0..2 {
        signal(&cluster.domains[stopped], "-STOP");
        round(&cluster, &mut listener, "one accepts and does not answer").await;
        signal(&cluster.domains[stopped], "-CONT");
        // Until both API nodes have heard of it.
        sleep(Duration::from_secs(2)).await;
    }
    for killed in 0..2 {
        let address = cluster.domains[killed].url.trim_start_matches("http://").to_owned();
        cluster.domains[killed].kill();
        round(&cluster, &mut listener, "one is dead").await;
        cluster.domains[killed] = cluster.domain(&address);
        sleep(Duration::from_secs(2)).await;
    }
    for stopped in 0..2 {
        let address = cluster.domains[stopped].url.trim_start_matches("http://").to_owned();
        assert_eq!(cluster.domains[stopped].terminate(), Some(0));
        round(&cluster, &mut listener, "one was stopped").await;
        cluster.domains[stopped] = cluster.domain(&address);
        sleep(Duration::from_secs(2)).await;
    }
    round(&cluster, &mut listener, "both are back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_while_their_node_stood_still_sees_nothing_from_before_the_removal() {
    let Some(cluster) = Cluster::start() else { return };
    let site = Site::new(&cluster.apis[1].url);
    let (ada, bob) = (site.join("ada").await, site.join("bob").await);
    let (left, kept) = (site.group(&ada, "left", &[&bob]).await, site.group(&ada, "kept", &[&bob]).await);
    let mut listener = Listener::open(&cluster.apis[0].url, &bob.token, None).await.expect("opens");
    listener.opening().await.expect("live");

    signal(&cluster.apis[0], "-STOP");
    site.send(&ada, &left, "nobody delivers this").await;
    site.send(&ada, &kept, "for a member").await;
    let input = json!({ "conversationId": left, "userId": bob.user });
    site.done(&ada, "removeMember", input, "conversation { id }").await;
    // A removal holds after a second.
    sleep(Duration::from_millis(1100)).await;
    signal(&cluster.apis[0], "-CONT");

    // The two may be in different lanes, whose order is free.
    let mut heard = [listener.event().await.expect("open"), listener.event().await.expect("open")];
    heard.sort_by_key(|event| event["conversation"]["id"] == kept.as_str());
    let [removed, message] = heard;
    assert_eq!(
        (&removed["__typename"], &removed["conversation"]["id"]),
        (&json!("MemberRemoved"), &json!(left))
    );
    assert_eq!(
        (&message["__typename"], &message["conversation"]["id"]),
        (&json!("MessageSent"), &json!(kept))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_with_the_way_out() {
    let Some(cluster) = Cluster::start() else { return };
    let mut command = Cluster::command(cluster.folder.path(), &cluster.database);
    command
        .arg("api")
        .env("CONFAB_DOMAIN_URL", &cluster.domains[0].url)
        .env("CONFAB_SERVICE_SECRET", "another-secret-that-is-long-enough");
    let output = command.output().expect("ends");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("CONFAB_SERVICE_SECRET"), "{text}");
}
