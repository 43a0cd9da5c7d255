//! `graphql-transport-ws` to the letter: every close code, and what does not close.

use std::time::Duration;

use api::settings::{Settings, SocketSettings};
use futures_util::SinkExt as _;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::{
    socket::{HANDSHAKE, Handshake, Socket},
    test_server::{JSON, TestServer},
};

const VIEWER: &str = "{ viewer { username } }";
const EVENTS: &str = "subscription { events { __typename cursor } }";

fn sockets(sockets: SocketSettings) -> Settings {
    Settings { sockets, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_subprotocol_is_closed_with_4406() {
    let server = TestServer::start().await;
    for subprotocol in ["graphql-ws", "soap", "graphql-transport-ws2"] {
        let handshake = Handshake { subprotocol: Some(subprotocol), ..HANDSHAKE };
        let mut socket = Socket::with(&server, handshake).await.expect("opens, so that the code arrives");
        assert_eq!(socket.closed().await, (4406, "Subprotocol not acceptable".to_owned()));
    }
    let none = Socket::with(&server, Handshake { subprotocol: None, ..HANDSHAKE }).await;
    let Err(tungstenite::Error::Http(answer)) = none else { panic!("opened without a subprotocol") };
    assert_eq!(answer.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_origin_is_refused_before_the_upgrade() {
    let server = TestServer::start().await;
    let foreign = Handshake { origin: Some("https://evil.example"), ..HANDSHAKE };
    let Err(tungstenite::Error::Http(answer)) = Socket::with(&server, foreign).await else {
        panic!("opened for a foreign origin")
    };
    assert_eq!(answer.status(), 403);
    let own = format!("http://{}", server.address);
    assert!(Socket::with(&server, Handshake { origin: Some(&own), ..HANDSHAKE }).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_initialise_in_time_is_closed_with_4408() {
    let settings = SocketSettings { init_timeout: Duration::from_millis(100), ..SocketSettings::default() };
    let server = TestServer::with(sockets(settings)).await;
    assert_eq!(Socket::open(&server).await.closed().await.0, 4408);
    let mut initialised = Socket::initialised(&server, None).await;
    sleep(Duration::from_millis(200)).await;
    initialised.say(json!({ "type": "ping" })).await;
    assert_eq!(initialised.hear().await, json!({ "type": "pong" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribing_first_is_4401_and_initialising_twice_is_4429() {
    let server = TestServer::start().await;
    let mut hasty = Socket::open(&server).await;
    hasty.subscribe("1", VIEWER, json!({})).await;
    assert_eq!(hasty.closed().await, (4401, "Unauthorized".to_owned()));
    let mut twice = Socket::initialised(&server, None).await;
    twice.init(None).await;
    assert_eq!(twice.closed().await.0, 4429);
    let mut at_once = Socket::open(&server).await;
    at_once.init(None).await;
    at_once.init(None).await;
    assert_eq!(at_once.closed().await.0, 4429);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_none_are_closed_with_4400() {
    let server = TestServer::start().await;
    let wrong = [
        "",
        "nonsense",
        "[]",
        r#"{"id":"1"}"#,
        r#"{"type":"start","id":"1"}"#,
        r#"{"type":"subscribe","id":"1"}"#,
        r#"{"type":"subscribe","id":"","payload":{"query":"{ a }"}}"#,
        r#"{"type":"subscribe","id":"1","payload":{"query":7}}"#,
        r#"{"type":"connection_init","payload":"token"}"#,
    ];
    for text in wrong {
        let mut socket = Socket::initialised(&server, None).await;
        socket.send(Message::text(text)).await;
        let (code, reason) = socket.closed().await;
        assert_eq!(code, 4400, "{text}");
        assert!((1..=123).contains(&reason.len()), "{reason}");
    }
    let mut binary = Socket::initialised(&server, None).await;
    binary.send(Message::binary(br#"{"type":"ping"}"#.as_slice())).await;
    assert_eq!(binary.closed().await.0, 4400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_is_closed_with_1009_and_one_that_fits_is_read() {
    let server = TestServer::start().await;
    let limit = SocketSettings::default().message_bytes_max;
    let ping = |bytes: usize| {
        let frame = json!({ "type": "ping", "payload": { "text": "" } }).to_string();
        json!({ "type": "ping", "payload": { "text": "x".repeat(bytes - frame.len()) } }).to_string()
    };
    let mut socket = Socket::initialised(&server, None).await;
    socket.send(Message::text(ping(limit))).await;
    assert_eq!(socket.hear().await["type"], "pong");
    for bytes in [limit + 1, limit * 2, limit * 5] {
        let mut socket = Socket::initialised(&server, None).await;
        // The server may close while it is still being written to.
        let _ =
            timeout(Duration::from_secs(10), async { socket.0.send(Message::text(ping(bytes))).await }).await;
        assert_eq!(socket.closed().await.0, 1009, "{bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_use_is_closed_with_4409_and_a_finished_one_is_free_again() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    for _ in 0..2 {
        socket.subscribe("q", VIEWER, json!({})).await;
        assert_eq!(socket.hear().await["payload"]["data"]["viewer"]["username"], "ada");
        assert_eq!(socket.hear().await, json!({ "id": "q", "type": "complete" }));
    }
    socket.subscribe("s", EVENTS, json!({})).await;
    assert_eq!(socket.hear().await["payload"]["data"]["events"]["__typename"], "StreamOpened");
    socket.subscribe("s", EVENTS, json!({})).await;
    assert_eq!(socket.closed().await, (4409, "Subscriber for this id already exists".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_completes_is_silent_from_then_on() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    socket.subscribe("s", EVENTS, json!({})).await;
    for expected in ["StreamOpened", "StreamLive"] {
        assert_eq!(socket.hear().await["payload"]["data"]["events"]["__typename"], expected);
    }
    socket.say(json!({ "id": "s", "type": "complete" })).await;
    let create = "mutation { createGroup(input: { title: \"Tea\", memberIds: [] }) { userErrors { code } } }";
    socket.subscribe("m", create, json!({})).await;
    // Neither an echo of `complete` nor an event of the conversation that was made.
    assert_eq!(socket.hear().await["id"], "m");
    assert_eq!(socket.hear().await, json!({ "id": "m", "type": "complete" }));
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.hear().await["type"], "pong");
    socket.say(json!({ "id": "unknown", "type": "complete" })).await;
    socket.subscribe("s", EVENTS, json!({})).await;
    assert_eq!(socket.hear().await["id"], "s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_run_is_an_error_frame_and_the_socket_lives_on() {
    let server = TestServer::start().await;
    let mut socket = Socket::initialised(&server, None).await;
    let wrong = [
        ("{", json!({}), "BAD_REQUEST"),
        ("{ nothing }", json!({}), "BAD_REQUEST"),
        ("query($id: ID!) { node(id: $id) { id } }", json!({}), "BAD_REQUEST"),
        (EVENTS, json!({}), "UNAUTHENTICATED"),
        ("subscription { events(after: \"forged\") { __typename } }", json!({}), "UNAUTHENTICATED"),
    ];
    for (index, (query, variables, code)) in wrong.into_iter().enumerate() {
        let id = index.to_string();
        socket.subscribe(&id, query, variables).await;
        let message = socket.hear().await;
        let found = json!([message["id"], message["type"], message["payload"][0]["extensions"]["code"]]);
        assert_eq!(found, json!([id, "error", code]), "{query}: {message}");
    }
    socket.subscribe("t", "{ __typename }", json!({})).await;
    assert_eq!(socket.hear().await["payload"]["data"]["__typename"], "Query");
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_that_are_forged_altered_or_of_a_page_are_bad_requests() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    let create = "mutation { createGroup(input: { title: \"Tea\", memberIds: [] }) { conversation { id } } }";
    socket.subscribe("m", create, json!({})).await;
    drop((socket.hear().await, socket.hear().await));
    socket.subscribe("p", "{ conversations(first: 1) { pageInfo { endCursor } } }", json!({})).await;
    let page = socket.hear().await["payload"]["data"]["conversations"]["pageInfo"]["endCursor"].clone();
    assert!(page.is_string());
    drop(socket.hear().await);
    socket.subscribe("s", EVENTS, json!({})).await;
    let cursor = socket.hear().await["payload"]["data"]["events"]["cursor"].clone();
    let good = cursor.as_str().expect("a cursor").to_owned();
    drop(socket.hear().await);
    let mut altered = good.clone().into_bytes();
    let middle = altered.len() / 2;
    altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).expect("text");
    let after = "subscription($after: EventCursor) { events(after: $after) { __typename } }";
    for (index, cursor) in
        [json!(""), json!("forged"), json!(altered), json!(good[1..]), page].into_iter().enumerate()
    {
        let id = format!("c{index}");
        socket.subscribe(&id, after, json!({ "after": cursor })).await;
        let message = socket.hear().await;
        let found = json!([message["id"], message["type"], message["payload"][0]["extensions"]["code"]]);
        assert_eq!(found, json!([id, "error", "BAD_REQUEST"]), "{cursor}: {message}");
        assert!(message["payload"][0].get("locations").is_none(), "no place of the document: {message}");
    }
    socket.subscribe("g", after, json!({ "after": good })).await;
    assert_eq!(socket.hear().await["payload"]["data"]["events"]["__typename"], "StreamOpened");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hundred_and_first_operation_is_refused_and_the_others_go_on() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    for index in 0..100 {
        socket.subscribe(&format!("s{index}"), EVENTS, json!({})).await;
    }
    for _ in 0..200 {
        assert_eq!(socket.hear().await["type"], "next");
    }
    socket.subscribe("more", VIEWER, json!({})).await;
    let refused = socket.hear().await;
    assert_eq!((&refused["id"], &refused["type"]), (&json!("more"), &json!("error")));
    assert_eq!(refused["payload"][0]["extensions"]["code"], "LIMIT_EXCEEDED");
    socket.say(json!({ "id": "s0", "type": "complete" })).await;
    socket.subscribe("more", VIEWER, json!({})).await;
    assert_eq!(socket.hear().await["payload"]["data"]["viewer"]["username"], "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn mutations_over_a_socket_are_answered_in_the_order_they_came() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    let create = "mutation { createGroup(input: { title: \"Tea\", memberIds: [] }) { conversation { id } } }";
    let answer = server.request(reqwest::Method::POST, "/graphql").header("content-type", JSON);
    let body = json!({ "query": create }).to_string();
    let answer =
        crate::test_server::answer(answer.header("authorization", format!("Bearer {token}")).body(body))
            .await;
    let id = answer.json()["data"]["createGroup"]["conversation"]["id"].clone();
    let send = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { seq } userErrors { message } } }";
    for index in 0..50 {
        let input = json!({ "conversationId": id, "clientMessageId": format!("k{index}"), "content": { "text": { "text": "x" } } });
        socket.subscribe(&format!("m{index}"), send, json!({ "input": input })).await;
    }
    let mut seqs = std::collections::BTreeMap::new();
    while seqs.len() < 50 {
        let message = socket.hear().await;
        assert_ne!(message["type"], "error", "{message}");
        if message["type"] == "next" {
            let id: usize = message["id"].as_str().expect("text")[1..].parse().expect("a number");
            let seq = message["payload"]["data"]["sendMessage"]["message"]["seq"].as_u64();
            seqs.insert(id, seq.unwrap_or_else(|| panic!("{message}")));
        }
    }
    let seqs: Vec<u64> = seqs.into_values().collect();
    // The system message of the creation may come first.
    let first = seqs[0];
    assert_eq!(seqs, (first..first + 50).collect::<Vec<_>>());
}
