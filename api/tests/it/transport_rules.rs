//! The rules of `graphql-transport-ws` that close nothing, one test each; those that close are in `socket_protocol` and `socket_end`.
//!
//! After the protocol's document (enisdenjo/graphql-ws, PROTOCOL.md), in its order.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    socket::{HANDSHAKE, Handshake, Socket},
    test_server::TestServer,
};

const TYPENAME: &str = "{ __typename }";
const ANSWER: &str = r#"{"data":{"__typename":"Query"}}"#;

async fn anonymous() -> (TestServer, Socket) {
    let server = TestServer::start().await;
    let socket = Socket::initialised(&server, None).await;
    (server, socket)
}

async fn pings(socket: &mut Socket) {
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.hear().await, json!({ "type": "pong" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subprotocol_is_named_in_the_answer_to_the_handshake() {
    let server = TestServer::start().await;
    let offered = Handshake { subprotocol: Some("graphql-ws, graphql-transport-ws"), ..HANDSHAKE };
    let mut socket = Socket::with(&server, offered).await.expect("the client checks the choice");
    socket.init(None).await;
    assert_eq!(socket.hear().await["type"], "connection_ack");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_before_connection_init() {
    let server = TestServer::start().await;
    let mut socket = Socket::open(&server).await;
    socket.init(None).await;
    assert_eq!(socket.hear().await, json!({ "type": "connection_ack" }), "the first message");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_init_may_have_a_payload_of_anything_else() {
    let server = TestServer::start().await;
    for payload in
        [json!({}), json!({ "other": [1, { "a": null }] }), json!({ "authorization": null }), Value::Null]
    {
        let mut socket = Socket::open(&server).await;
        socket.say(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(socket.hear().await["type"], "connection_ack", "{payload}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_is_answered_before_connection_init_too_and_with_its_payload() {
    let server = TestServer::start().await;
    let mut socket = Socket::open(&server).await;
    let payload = json!({ "a": [1, "\u{e9}", { "b": null }] });
    socket.say(json!({ "type": "ping", "payload": payload })).await;
    assert_eq!(socket.hear().await, json!({ "type": "pong", "payload": payload }));
    pings(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pong_that_nobody_asked_for_is_taken_as_a_sign_of_life() {
    let server = TestServer::start().await;
    let mut socket = Socket::open(&server).await;
    socket.say(json!({ "type": "pong" })).await;
    socket.say(json!({ "type": "pong", "payload": { "a": 1 } })).await;
    pings(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_one_next_and_then_complete() {
    let (_server, mut socket) = anonymous().await;
    socket.subscribe("q", TYPENAME, json!({})).await;
    let answer: Value = serde_json::from_str(ANSWER).expect("JSON");
    assert_eq!(socket.hear().await, json!({ "id": "q", "type": "next", "payload": answer }));
    assert_eq!(socket.hear().await, json!({ "id": "q", "type": "complete" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_ends_its_operation_without_complete_and_its_id_is_free() {
    let (_server, mut socket) = anonymous().await;
    for _ in 0..2 {
        socket.subscribe("e", "{ nothing }", json!({})).await;
        let error = socket.hear().await;
        assert_eq!((&error["id"], &error["type"]), (&json!("e"), &json!("error")));
        assert!(error["payload"].as_array().is_some_and(|errors| !errors.is_empty()), "a list: {error}");
    }
    pings(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_field_comes_in_next_and_is_no_error_message() {
    let (_server, mut socket) = anonymous().await;
    socket.subscribe("f", "{ user(by: { username: \"x\" }) { id } __typename }", json!({})).await;
    let next = socket.hear().await;
    assert_eq!(next["type"], "next");
    assert_eq!(next["payload"]["data"], json!({ "user": null, "__typename": "Query" }));
    assert_eq!(next["payload"]["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    assert_eq!(socket.hear().await, json!({ "id": "f", "type": "complete" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_completes_an_unknown_operation_is_passed_over() {
    let (_server, mut socket) = anonymous().await;
    for id in ["never", "never"] {
        socket.say(json!({ "id": id, "type": "complete" })).await;
    }
    pings(&mut socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_run_side_by_side_under_their_ids() {
    let (_server, mut socket) = anonymous().await;
    let ids = ["1", "\u{e9}\"\\", " ", "a-very-long-id"];
    for id in ids {
        socket.subscribe(id, TYPENAME, json!({})).await;
    }
    let mut seen = Vec::new();
    for _ in 0..ids.len() * 2 {
        let message = socket.hear().await;
        if message["type"] == "complete" {
            seen.push(message["id"].as_str().expect("text").to_owned());
        }
    }
    seen.sort_unstable();
    let mut expected = ids.map(str::to_owned);
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_takes_fragments_at_its_root_and_one_field_alone() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    let fragments =
        "subscription { ...A } fragment A on Subscription { ... on Subscription { events { __typename } } }";
    socket.subscribe("f", fragments, json!({})).await;
    assert_eq!(socket.hear().await["payload"]["data"]["events"]["__typename"], "StreamOpened");
    assert_eq!(socket.hear().await["payload"]["data"]["events"]["__typename"], "StreamLive");
    socket
        .subscribe("two", "subscription { a: events { __typename } b: events { __typename } }", json!({}))
        .await;
    assert_eq!(socket.hear().await["type"], "error");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_beyond_those_of_the_protocol_are_passed_over() {
    let (_server, mut socket) = anonymous().await;
    let payload = json!({ "query": TYPENAME, "more": 1, "extensions": { "other": true } });
    socket.say(json!({ "id": "1", "type": "subscribe", "payload": payload, "more": [2] })).await;
    assert_eq!(socket.hear().await["type"], "next");
    assert_eq!(socket.hear().await["type"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_of_the_websocket_itself_are_answered_with_their_bytes() {
    let (_server, mut socket) = anonymous().await;
    socket.send(Message::Ping(b"as it is".as_slice().into())).await;
    assert_eq!(socket.frame().await, Some(Message::Pong(b"as it is".as_slice().into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_of_the_client_is_answered() {
    let (_server, mut socket) = anonymous().await;
    socket.send(Message::Close(None)).await;
    assert!(matches!(socket.frame().await, Some(Message::Close(_)) | None));
}
