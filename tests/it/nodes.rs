//! Two servers on one database.

#![expect(clippy::disallowed_methods, reason = "tests read the environment")]

use std::{path::Path, process::Command, time::Duration};

use domain::DocumentHash;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    listener::Listener,
    server::{Server, ask, client, confab, mariadb, register, settings},
};

fn node(folder: &Path, database: &str, redis: Option<&str>) -> Command {
    let mut command = confab();
    settings(&mut command, folder);
    command.env("CONFAB_DATABASE_URL", database).env("CONFAB_KEYS_DIR", folder.join("keys"));
    if let Some(redis) = redis {
        command.env("CONFAB_REDIS_URL", redis);
    }
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_on_one_node_arrives_on_the_other_with_redis_and_without() {
    let Some(database) = mariadb() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    assert!(node(folder.path(), &database, None).arg("migrate").status().expect("runs").success());
    assert!(node(folder.path(), &database, None).args(["keys", "new"]).status().expect("runs").success());
    let redis = std::env::var("CONFAB_TEST_REDIS_URL").ok();
    if redis.is_none() {
        eprintln!("SKIPPED on Redis: CONFAB_TEST_REDIS_URL is not set (scripts/test sets it)");
    }
    let client = client();
    // Also with one that nobody answers at.
    let buses = [redis.as_deref(), None, Some("redis://127.0.0.1:1/0")];
    for (round, bus) in buses.into_iter().enumerate() {
        let here = Server::start(node(folder.path(), &database, bus));
        let there = Server::start(node(folder.path(), &database, bus));
        let (_, token) = register(&client, &here.url, &format!("ada{round}")).await;
        let create =
            "mutation { createGroup(input: { title: \"t\", memberIds: [] }) { conversation { id } } }";
        let data = ask(&client, &here.url, Some(&token), create, json!({})).await.expect("a group");
        let id = data["createGroup"]["conversation"]["id"].clone();
        let mut listener = Listener::open(&there.url, &token, None).await.expect("opens");
        listener.opening().await.expect("live");
        let send = "mutation($id: ID!, $key: String!) { sendMessage(input: { conversationId: $id, clientMessageId: $key,
            content: { text: { text: $key } } }) { message { seq } } }";
        for number in 0..20 {
            let key = format!("k{number}");
            let asked = Instant::now();
            ask(&client, &here.url, Some(&token), send, json!({ "id": id, "key": key })).await.expect("sent");
            let event = listener.event().await.expect("open");
            assert_eq!(event["message"]["clientMessageId"], key, "{event}");
            // Without the bus the heads tell, twice a second.
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?} over {bus:?}", asked.elapsed());
        }
    }
}

/// What a client registers on one node runs on the other, and what it spends there is spent here.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_one_redis_share_documents_and_budgets() {
    let Ok(redis) = std::env::var("CONFAB_TEST_REDIS_URL") else {
        eprintln!("SKIPPED: CONFAB_TEST_REDIS_URL is not set (scripts/test sets it)");
        return;
    };
    let Some(database) = mariadb() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    assert!(node(folder.path(), &database, None).arg("migrate").status().expect("runs").success());
    assert!(node(folder.path(), &database, None).args(["keys", "new"]).status().expect("runs").success());
    let start = || {
        let mut command = node(folder.path(), &database, Some(&redis));
        command.env("CONFAB_RATE_LIMITS", "on");
        command.env("CONFAB_USER_BUDGET_BURST", "1000").env("CONFAB_USER_BUDGET_PER_SECOND", "1");
        Server::start(command)
    };
    let (here, there) = (start(), start());
    let client = client();
    let (_, token) = register(&client, &here.url, "ada").await;
    let (_, token_of_other) = register(&client, &here.url, "bob").await;
    let post = async |token: &str, url: &str, body: Value| {
        let request = client.post(format!("{url}/graphql")).bearer_auth(token).json(&body);
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.expect("JSON"))
    };
    let persisted = |text: &str| {
        let hash = DocumentHash::of(text).hex();
        json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } })
    };
    // Both are connected to Redis once what one was told is known to the other. Asked for by another user, so that all of the budget is
    // left, and with next to no cost, so that theirs is enough.
    let cheap = "query Cheap { __typename }";
    let extensions = persisted(cheap);
    let (begun, mut pace) = (Instant::now(), tokio::time::interval(Duration::from_millis(100)));
    loop {
        pace.tick().await;
        let registered =
            post(&token_of_other, &here.url, json!({ "query": cheap, "extensions": extensions })).await;
        assert_eq!(registered.0, 200, "{registered:?}");
        let (status, answer) = post(&token_of_other, &there.url, json!({ "extensions": extensions })).await;
        if answer["data"]["__typename"].is_string() {
            break;
        }
        assert_eq!(
            (status, &answer["errors"][0]["extensions"]["code"]),
            (200, &json!("PERSISTED_QUERY_NOT_FOUND"))
        );
        assert!(begun.elapsed() < Duration::from_secs(10), "never shared");
    }
    let text = "query Sessions { sessions { id } }";
    let extensions = persisted(text);
    let registered = post(&token, &here.url, json!({ "query": text, "extensions": extensions })).await;
    assert_eq!(registered.0, 200, "{registered:?}");
    // About 20 each; each node alone would let 50 of them pass.
    let mut passed = 0;
    for url in [&here.url, &there.url].into_iter().cycle().take(100) {
        let (status, answer) = post(&token, url, json!({ "extensions": extensions })).await;
        passed += u32::from(status == 200);
        assert!(status == 200 || status == 429, "{answer}");
    }
    assert!(passed <= 50, "{passed} passed");
}
