//! Pages over GraphQL, of real histories and lists, while others write.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::test_server::{JSON, TestServer, answer};

async fn ask(server: &TestServer, token: &str, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables }).to_string();
    let answer = answer(server.post(JSON, body).bearer_auth(token)).await.json();
    assert!(answer.get("errors").is_none(), "{answer}");
    answer["data"].clone()
}

async fn group(server: &TestServer, token: &str) -> String {
    let create = "mutation { createGroup(input: { title: \"t\", memberIds: [] }) { conversation { id } } }";
    let data = ask(server, token, create, json!({})).await;
    data["createGroup"]["conversation"]["id"].as_str().expect("an id").to_owned()
}

async fn send(server: &TestServer, token: &str, id: &str, key: &str) {
    let send =
        "mutation($id: ID!, $key: String!) { sendMessage(input: { conversationId: $id, clientMessageId: $key,
        content: { text: { text: $key } } }) { message { seq } userErrors { code } } }";
    let data = ask(server, token, send, json!({ "id": id, "key": key })).await;
    assert_eq!(data["sendMessage"]["userErrors"], json!([]));
}

fn seqs(page: &Value) -> Vec<i64> {
    page["nodes"]
        .as_array()
        .expect("a page")
        .iter()
        .map(|node| node["seq"].as_i64().expect("a number"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_opens_around_a_message_and_at_the_ends_as_near_as_it_can() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let id = group(&server, &token).await;
    let history =
        "query($id: ID!, $around: Int, $first: Int, $last: Int, $after: String) { conversation(id: $id) {
        messages(aroundSeq: $around, first: $first, last: $last, after: $after) { nodes { seq }
            pageInfo { hasPreviousPage hasNextPage startCursor endCursor } } } }";
    let around = async |variables: Value| {
        let mut variables = variables;
        variables["id"] = json!(id);
        ask(&server, &token, history, variables).await["conversation"]["messages"].clone()
    };
    assert_eq!(seqs(&around(json!({ "around": 5, "first": 5 })).await), [0_i64; 0], "an empty history");
    for number in 1..=30 {
        send(&server, &token, &id, &format!("k{number}")).await;
    }
    let all = (true, true);
    for (seq, size, expected, (previous, next)) in [
        (15, 5, 13..=17, all),
        (15, 4, 13..=16, all),
        (15, 1, 15..=15, all),
        (1, 5, 1..=5, (false, true)),
        (2, 5, 1..=5, (false, true)),
        (3, 5, 1..=5, (false, true)),
        (4, 5, 2..=6, all),
        (28, 5, 26..=30, (true, false)),
        (30, 5, 26..=30, (true, false)),
        (1000, 5, 26..=30, (true, false)),
        (i32::MAX, 5, 26..=30, (true, false)),
        (0, 5, 1..=5, (false, true)),
        (i32::MIN, 5, 1..=5, (false, true)),
        (7, 100, 1..=30, (false, false)),
    ] {
        for size in [json!({ "first": size }), json!({ "last": size })] {
            let mut variables = size.clone();
            variables["around"] = json!(seq);
            let page = around(variables).await;
            assert_eq!(seqs(&page), expected.clone().collect::<Vec<i64>>(), "around {seq}, {size}");
            let info = &page["pageInfo"];
            assert_eq!(
                (&info["hasPreviousPage"], &info["hasNextPage"]),
                (&json!(previous), &json!(next)),
                "around {seq}, {size}"
            );
        }
    }
    // From the middle on as with any other page.
    let middle = around(json!({ "around": 15, "first": 5 })).await;
    let on = around(json!({ "first": 3, "after": middle["pageInfo"]["endCursor"] })).await;
    assert_eq!(seqs(&on), [18, 19, 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_shows_each_message_once_while_others_write() {
    let server = Arc::new(TestServer::start().await);
    let token = server.register("ada").await;
    let id = group(&server, &token).await;
    for number in 0..60 {
        send(&server, &token, &id, &format!("before{number}")).await;
    }
    let done = AtomicBool::new(false);
    let writing = async {
        let mut number = 0;
        while !done.load(Ordering::Relaxed) {
            send(&server, &token, &id, &format!("during{number}")).await;
            number += 1;
        }
        number
    };
    let reading = async {
        let history = "query($id: ID!, $first: Int, $after: String, $last: Int, $before: String) { conversation(id: $id) {
            messages(first: $first, after: $after, last: $last, before: $before) { edges { cursor } nodes { seq } pageInfo {
                hasPreviousPage hasNextPage startCursor endCursor } } } }";
        for _ in 0..5 {
            let (mut backwards, mut before) = (Vec::new(), Value::Null);
            loop {
                let variables = json!({ "id": id, "last": 7, "before": before });
                let page = ask(&server, &token, history, variables).await["conversation"]["messages"].clone();
                backwards.splice(0..0, seqs(&page));
                before = page["pageInfo"]["startCursor"].clone();
                assert_eq!(page["edges"][0]["cursor"], before);
                if page["pageInfo"]["hasPreviousPage"] == false {
                    break;
                }
            }
            assert!(
                !backwards.is_empty() && backwards.iter().copied().eq(1..=backwards[backwards.len() - 1]),
                "{backwards:?}"
            );
            let (mut forwards, mut after) = (Vec::new(), Value::Null);
            while forwards.len() < 60 {
                let variables = json!({ "id": id, "first": 7, "after": after });
                let page = ask(&server, &token, history, variables).await["conversation"]["messages"].clone();
                forwards.extend(seqs(&page));
                after = page["pageInfo"]["endCursor"].clone();
            }
            assert!(forwards.iter().copied().eq(1..=forwards[forwards.len() - 1]), "{forwards:?}");
        }
        done.store(true, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(writing, reading);
    assert!(written > 0, "somebody wrote meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_nothing_twice_while_conversations_move_up() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let mut ids = Vec::new();
    for _ in 0..25 {
        ids.push(group(&server, &token).await);
    }
    let list = "query($first: Int, $after: String) { conversations(first: $first, after: $after) {
        nodes { id } pageInfo { hasNextPage endCursor } } }";
    for round in 0..3 {
        let (mut seen, mut after) = (Vec::new(), Value::Null);
        loop {
            let page =
                ask(&server, &token, list, json!({ "first": 4, "after": after })).await["conversations"]
                    .clone();
            seen.extend(page["nodes"].as_array().expect("a page").iter().map(|node| node["id"].to_string()));
            // Between two pages some of those not yet seen move up, and some that were seen do too.
            for number in [3, 11, 19] {
                let id = &ids[(number + seen.len()) % ids.len()];
                send(&server, &token, id, &format!("{round}.{}.{number}", seen.len())).await;
            }
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        let distinct: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "nothing twice: {seen:?}");
    }
    // When nobody writes, all are there.
    let all = ask(&server, &token, list, json!({ "first": 100 })).await;
    assert_eq!(all["conversations"]["nodes"].as_array().map(Vec::len), Some(25));
}
