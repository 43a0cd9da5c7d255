//! `kill -9` during sends: what was acked is there, in order, without holes; what was unknown is there once after a retry.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use crate::server::{Server, ask, client, confab, mariadb, register, settings};

const ROUNDS: usize = 20;
const SENDERS: usize = 8;
/// Acks of a round before the kill; more are under way at that moment.
const ACKS_A_ROUND: usize = 25;

const SEND: &str =
    "mutation($id: ID!, $key: String!) { sendMessage(input: { conversationId: $id, clientMessageId: $key,
    content: { text: { text: $key } } }) { message { id seq } userErrors { code message } } }";

#[derive(Default)]
struct Journal {
    /// Key to conversation, id and seq.
    acked: BTreeMap<String, (String, String, i64)>,
    unknown: BTreeMap<String, String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acked_on_sqlite_survives_twenty_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    let make = || {
        let mut command = confab();
        settings(&mut command, folder.path());
        command
    };
    survive(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acked_on_mariadb_survives_twenty_kills() {
    let Some(database) = mariadb() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let make = || {
        let mut command = confab();
        settings(&mut command, folder.path());
        command.env("CONFAB_DATABASE_URL", &database);
        command
    };
    assert!(make().arg("migrate").status().expect("runs").success());
    assert!(make().args(["keys", "new"]).status().expect("runs").success());
    survive(make).await;
}

async fn survive(make: impl Fn() -> Command) {
    let client = client();
    let mut server = Server::start(make());
    let (_, owner) = register(&client, &server.url, "owner").await;
    let (other, _) = register(&client, &server.url, "other").await;
    let mut conversations = Vec::new();
    for _ in 0..3 {
        let query = "mutation($ids: [ID!]!) { createGroup(input: { title: \"t\", memberIds: $ids }) { conversation { id } userErrors { message } } }";
        let data =
            ask(&client, &server.url, Some(&owner), query, json!({ "ids": [other] })).await.expect("a group");
        conversations.push(data["createGroup"]["conversation"]["id"].as_str().expect("an id").to_owned());
    }
    let journal = Arc::new(Mutex::new(Journal::default()));
    for round in 0..ROUNDS {
        send_until_killed(&client, &mut server, &owner, &conversations, &journal, round).await;
        server = Server::start(make());
        retry_unknown(&client, &server.url, &owner, &journal).await;
    }
    let journal = std::mem::take(&mut *journal.lock().expect("whole"));
    assert!(journal.acked.len() >= ROUNDS * ACKS_A_ROUND, "{} acked", journal.acked.len());
    for id in &conversations {
        check(&client, &server.url, &owner, id, &journal).await;
    }
}

async fn send_until_killed(
    client: &reqwest::Client,
    server: &mut Server,
    token: &str,
    conversations: &[String],
    journal: &Arc<Mutex<Journal>>,
    round: usize,
) {
    let acks = Arc::new(AtomicUsize::new(0));
    let url = server.url.clone();
    let senders = (0..SENDERS).map(|sender| {
        let (client, url, token) = (client.clone(), url.clone(), token.to_owned());
        let (journal, acks) = (journal.clone(), acks.clone());
        let conversation = conversations[sender % conversations.len()].clone();
        async move {
            for index in 0.. {
                let key = format!("{round}-{sender}-{index}");
                let variables = json!({ "id": conversation, "key": key });
                let answer = ask(&client, &url, Some(&token), SEND, variables).await;
                let message =
                    answer.map(|data| data["sendMessage"]["message"].clone()).filter(Value::is_object);
                let mut journal = journal.lock().expect("whole");
                let Some(message) = message else {
                    journal.unknown.insert(key, conversation.clone());
                    return;
                };
                note(&mut journal, &key, &conversation, &message);
                acks.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let kill = async {
        while acks.load(Ordering::Relaxed) < ACKS_A_ROUND {
            tokio::task::yield_now().await;
        }
        server.kill();
    };
    tokio::join!(futures_util::future::join_all(senders), kill);
}

async fn retry_unknown(client: &reqwest::Client, url: &str, token: &str, journal: &Arc<Mutex<Journal>>) {
    let unknown = std::mem::take(&mut journal.lock().expect("whole").unknown);
    for (key, conversation) in unknown {
        let mut first = None;
        // Twice: the second answer is the first one's message.
        for _ in 0..2 {
            let variables = json!({ "id": conversation, "key": key });
            let data = ask(client, url, Some(token), SEND, variables).await.expect("the server is back");
            let message = data["sendMessage"]["message"].clone();
            assert!(message.is_object(), "{data}");
            assert_eq!(first.get_or_insert(message.clone()), &message);
        }
        if let Some(message) = first {
            note(&mut journal.lock().expect("whole"), &key, &conversation, &message);
        }
    }
}

fn note(journal: &mut Journal, key: &str, conversation: &str, message: &Value) {
    let id = message["id"].as_str().expect("an id").to_owned();
    let seq = message["seq"].as_i64().expect("a seq");
    journal.acked.insert(key.to_owned(), (conversation.to_owned(), id, seq));
}

/// The conversation's whole history against the journal.
async fn check(client: &reqwest::Client, url: &str, token: &str, conversation: &str, journal: &Journal) {
    let query = "query($id: ID!, $after: String) { conversation(id: $id) { lastSeq messages(first: 100, after: $after) {
        nodes { id seq clientMessageId } pageInfo { hasNextPage endCursor } } } }";
    let (mut after, mut found, mut last_seq) = (Value::Null, BTreeMap::new(), 0);
    loop {
        let variables = json!({ "id": conversation, "after": after });
        let data = ask(client, url, Some(token), query, variables).await.expect("reads");
        let page = &data["conversation"]["messages"];
        for message in page["nodes"].as_array().expect("a page") {
            let key = message["clientMessageId"].as_str().expect("a key").to_owned();
            let seq = message["seq"].as_i64().expect("a seq");
            assert_eq!(seq, last_seq + 1, "no hole");
            last_seq = seq;
            let place = (message["id"].as_str().expect("an id").to_owned(), seq);
            assert!(found.insert(key, place).is_none(), "no key twice");
        }
        if page["pageInfo"]["hasNextPage"] != true {
            assert_eq!(data["conversation"]["lastSeq"], last_seq);
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    let ids: BTreeSet<&String> = found.values().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), found.len(), "no id twice");
    let acked = journal.acked.iter().filter(|(_, (place, ..))| place == conversation);
    for (key, (_, id, seq)) in acked {
        assert_eq!(found.get(key), Some(&(id.clone(), *seq)), "{key} was acked");
    }
}
