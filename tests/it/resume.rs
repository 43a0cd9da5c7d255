//! Subscriptions that go on over the end of a server, and over the return of an older database.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::{
    listener::Listener,
    server::{Server, ask, client, confab, mariadb, register, settings, sql},
};

const SEND: &str =
    "mutation($id: ID!, $key: String!) { sendMessage(input: { conversationId: $id, clientMessageId: $key,
    content: { text: { text: $key } } }) { message { seq } userErrors { code message } } }";

fn embedded(folder: &Path) -> Command {
    let mut command = confab();
    settings(&mut command, folder);
    command
}

async fn group(client: &reqwest::Client, url: &str, token: &str) -> String {
    let query = "mutation { createGroup(input: { title: \"t\", memberIds: [] }) { conversation { id } } }";
    let data = ask(client, url, Some(token), query, json!({})).await.expect("a group");
    data["createGroup"]["conversation"]["id"].as_str().expect("an id").to_owned()
}

async fn send(client: &reqwest::Client, url: &str, token: &str, id: &str, key: &str) -> Option<i64> {
    let variables = json!({ "id": id, "key": key });
    ask(client, url, Some(token), SEND, variables).await?["sendMessage"]["message"]["seq"].as_i64()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["__typename"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_misses_nothing_over_five_kills_of_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = client();
    let mut server = Server::start(embedded(folder.path()));
    let (_, token) = register(&client, &server.url, "ada").await;
    let mut conversations = Vec::new();
    for _ in 0..3 {
        conversations.push(group(&client, &server.url, &token).await);
    }
    let url = Mutex::new(server.url.clone());
    let current = || url.lock().expect("whole").clone();
    let done = AtomicBool::new(false);

    let opened = tokio::sync::Notify::new();
    let acked = tokio::sync::watch::Sender::new(0);
    let sending = async {
        // Without a cursor, what was sent before is not missed.
        opened.notified().await;
        let mut sent: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for number in 0..600 {
            let (id, key) = (&conversations[number % conversations.len()], format!("k{number}"));
            // The same key until it is acked, as every client does.
            while send(&client, &current(), &token, id, &key).await.is_none() {
                tokio::task::yield_now().await;
            }
            sent.entry(id).or_default().insert(key);
            acked.send_replace(number + 1);
        }
        done.store(true, Ordering::Relaxed);
        sent
    };
    let killing = async {
        let mut acked = acked.subscribe();
        // In the middle of the sends, wherever they are then.
        for number in (60..600).step_by(120) {
            acked.wait_for(|acked| *acked >= number).await.expect("somebody sends");
            server.kill();
            server = Server::start(embedded(folder.path()));
            url.lock().expect("whole").clone_from(&server.url);
        }
    };
    let listening = async {
        let mut cursor: Option<String> = None;
        let mut heard: BTreeMap<String, BTreeMap<i64, String>> = BTreeMap::new();
        let mut connections = 0;
        let total = |heard: &BTreeMap<String, BTreeMap<i64, String>>| -> usize {
            heard.values().map(BTreeMap::len).sum()
        };
        while !done.load(Ordering::Relaxed) || total(&heard) < 600 {
            let Some(mut listener) = Listener::open(&current(), &token, cursor.as_deref()).await else {
                tokio::task::yield_now().await;
                continue;
            };
            connections += 1;
            while total(&heard) < 600
                && let Some(event) = listener.event().await
            {
                assert_ne!(event["__typename"], "ResyncRequired", "{event}");
                cursor = event["cursor"].as_str().map(str::to_owned);
                opened.notify_one();
                if event["__typename"] == "MessageSent" {
                    let text = |value: &Value| value.as_str().expect("text").to_owned();
                    let of = heard.entry(text(&event["conversation"]["id"])).or_default();
                    let seq = event["message"]["seq"].as_i64().expect("a number");
                    let key = text(&event["message"]["clientMessageId"]);
                    // In order, each once, or once more and recognisable by its seq.
                    let next = of.keys().next_back().map_or(seq, |last| last + 1);
                    assert!(seq <= next, "a hole before {seq}: {next} was expected");
                    assert_eq!(of.entry(seq).or_insert(key.clone()), &key);
                }
            }
        }
        (heard, connections)
    };
    let (sent, (), (heard, connections)) = tokio::join!(sending, killing, listening);
    assert!(connections >= 3, "{connections} connections");
    for (id, keys) in sent {
        let of = &heard[id];
        let (first, last) = (of.keys().next().expect("some"), of.keys().next_back().expect("some"));
        assert_eq!(usize::try_from(last - first + 1), Ok(of.len()), "no hole");
        assert_eq!(of.values().cloned().collect::<BTreeSet<_>>(), keys);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_from_before_an_older_copy_came_back_are_told_to_resynchronise() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let client = client();
    let mut server = Server::start(embedded(folder.path()));
    let (_, token) = register(&client, &server.url, "ada").await;
    let id = group(&client, &server.url, &token).await;
    send(&client, &server.url, &token, &id, "before").await.expect("sent");
    assert_eq!(server.terminate(), Some(0));
    fs::create_dir(&copy).expect("a folder");
    for file in fs::read_dir(&data).expect("the data") {
        let file = file.expect("a file");
        if file.file_name().to_string_lossy().starts_with("confab.sqlite") {
            fs::copy(file.path(), copy.join(file.file_name())).expect("copies");
        }
    }

    // Two devices see what the copy does not hold.
    let mut server = Server::start(embedded(folder.path()));
    for key in ["a", "b", "c"] {
        send(&client, &server.url, &token, &id, key).await.expect("sent");
    }
    let mut listener = Listener::open(&server.url, &token, None).await.expect("opens");
    let opening = listener.opening().await.expect("live");
    let newer = opening[0]["cursor"].as_str().expect("a cursor").to_owned();
    assert_eq!(server.terminate(), Some(0));
    for file in fs::read_dir(&data).expect("the data") {
        let file = file.expect("a file");
        if file.file_name().to_string_lossy().starts_with("confab.sqlite") {
            fs::remove_file(file.path()).expect("removes");
        }
    }
    for file in fs::read_dir(&copy).expect("the copy") {
        let file = file.expect("a file");
        fs::copy(file.path(), data.join(file.file_name())).expect("copies");
    }

    let mut server = Server::start(embedded(folder.path()));
    let mut first = Listener::open(&server.url, &token, Some(&newer)).await.expect("opens");
    let opening = first.opening().await.expect("live");
    assert_eq!(names(&opening), ["StreamOpened", "ResyncRequired", "StreamLive"]);
    let after_resync = opening[1]["cursor"].as_str().expect("a cursor").to_owned();
    // The same positions come again with other content: the cursor stays void.
    for key in ["x", "y", "z", "more"] {
        send(&client, &server.url, &token, &id, key).await.expect("sent");
    }
    let mut second = Listener::open(&server.url, &token, Some(&newer)).await.expect("opens");
    assert_eq!(
        names(&second.opening().await.expect("live")),
        ["StreamOpened", "ResyncRequired", "StreamLive"]
    );
    // What came with the word to resynchronise is good.
    let mut third = Listener::open(&server.url, &token, Some(&after_resync)).await.expect("opens");
    let missed = third.opening().await.expect("live");
    let keys: Vec<&str> =
        missed.iter().filter_map(|event| event["message"]["clientMessageId"].as_str()).collect();
    assert_eq!(keys, ["x", "y", "z", "more"]);
    let good = missed.last().expect("StreamLive")["cursor"].as_str().expect("a cursor").to_owned();

    // An operator who knows says so: cursors that could still pass are void at once.
    assert_eq!(server.terminate(), Some(0));
    let mut restored = embedded(folder.path());
    assert!(restored.args(["migrate", "--restored"]).status().expect("runs").success());
    let server = Server::start(embedded(folder.path()));
    let mut fourth = Listener::open(&server.url, &token, Some(&good)).await.expect("opens");
    assert_eq!(
        names(&fourth.opening().await.expect("live")),
        ["StreamOpened", "ResyncRequired", "StreamLive"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_log_goes_back_under_live_sockets_they_are_told_and_go_on() {
    let Some(database) = mariadb() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let node = || {
        let mut command = embedded(folder.path());
        command.env("CONFAB_DATABASE_URL", &database).env("CONFAB_KEYS_DIR", folder.path().join("keys"));
        command
    };
    assert!(node().arg("migrate").status().expect("runs").success());
    assert!(node().args(["keys", "new"]).status().expect("runs").success());
    let client = client();
    let server = Server::start(node());
    let (_, token) = register(&client, &server.url, "ada").await;
    let ids = [group(&client, &server.url, &token).await, group(&client, &server.url, &token).await];
    let mut listeners = Vec::new();
    for _ in 0..3 {
        let mut listener = Listener::open(&server.url, &token, None).await.expect("opens");
        listener.opening().await.expect("live");
        listeners.push(listener);
    }
    send(&client, &server.url, &token, &ids[0], "kept").await.expect("sent");
    for listener in &mut listeners {
        assert_eq!(listener.event().await.expect("open")["message"]["clientMessageId"], "kept");
    }

    let (_, name) = database.rsplit_once('/').expect("a database");
    let each = |sql: &str| {
        let tables = ["log_lane", "outbox", "conversation", "member", "message"];
        tables.map(|table| sql.replace("[]", table)).concat()
    };
    let copy = each(&format!("CREATE TABLE {name}_copy.[] AS SELECT * FROM {name}.[];"));
    sql(&database, &format!("DROP DATABASE IF EXISTS {name}_copy; CREATE DATABASE {name}_copy; {copy}"));
    let mut newest = String::new();
    for (index, key) in ["a", "b", "c"].into_iter().enumerate() {
        send(&client, &server.url, &token, &ids[index % 2], key).await.expect("sent");
        for listener in &mut listeners {
            let event = listener.event().await.expect("open");
            assert_eq!(event["message"]["clientMessageId"], key);
            event["cursor"].as_str().expect("a cursor").clone_into(&mut newest);
        }
    }
    let back = each(&format!("DELETE FROM {name}.[]; INSERT INTO {name}.[] SELECT * FROM {name}_copy.[];"));
    sql(&database, &format!("START TRANSACTION; {back} COMMIT; DROP DATABASE {name}_copy"));

    let mut cursor = String::new();
    for listener in &mut listeners {
        let told = listener.event().await.expect("the socket stays open");
        assert_eq!(told["__typename"], "ResyncRequired", "{told}");
        told["cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        assert_eq!(listener.event().await.expect("open")["__typename"], "StreamLive");
    }
    // The same places come again with other content, live in the same operations.
    for key in ["x", "y", "z"] {
        let seq = send(&client, &server.url, &token, &ids[0], key).await.expect("sent");
        for listener in &mut listeners {
            let event = listener.event().await.expect("open");
            assert_eq!(
                (&event["message"]["clientMessageId"], event["message"]["seq"].as_i64()),
                (&json!(key), Some(seq))
            );
        }
    }
    let mut resumed = Listener::open(&server.url, &token, Some(&cursor)).await.expect("opens");
    let missed = resumed.opening().await.expect("live");
    let keys: Vec<&str> =
        missed.iter().filter_map(|event| event["message"]["clientMessageId"].as_str()).collect();
    assert_eq!(keys, ["x", "y", "z"], "what came with the word is a good cursor");
    let mut void = Listener::open(&server.url, &token, Some(&newest)).await.expect("opens");
    assert_eq!(names(&void.opening().await.expect("live")), ["StreamOpened", "ResyncRequired", "StreamLive"]);
}
