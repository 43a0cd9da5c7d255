//! Variables are checked before anything runs: a request that is refused has changed nothing.

use reqwest::header;
use serde_json::{Value, json};

use crate::test_server::{GRAPHQL_RESPONSE, TestServer, answer};

async fn ask(server: &TestServer, token: &str, query: &str, variables: Value) -> (u16, Value) {
    let body = json!({ "query": query, "variables": variables }).to_string();
    let request =
        server.post(GRAPHQL_RESPONSE, body).header(header::AUTHORIZATION, format!("Bearer {token}"));
    let answer = answer(request).await;
    (answer.status, answer.json())
}

const RENAME: &str = r#"renamed: updateProfile(input: {displayName: "renamed"}) { user { id } }"#;

/// Definitions, what stands beside the rename, and the variables.
fn invalid() -> Vec<(&'static str, &'static str, Value)> {
    let update = "b: updateProfile(input: $a) { user { id } }";
    let literal = "b: updateProfile(input: {displayName: $a}) { user { id } }";
    let leave = "b: leaveGroup(input: {conversationId: $a}) { userErrors { code } }";
    let send = "b: sendMessage(input: {conversationId: \"x\", clientMessageId: \"y\", content: $a}) { userErrors { code } }";
    let text = "b: sendMessage(input: {conversationId: \"x\", clientMessageId: \"y\", content: {text: $a}}) \
                { userErrors { code } }";
    vec![
        ("$a: UpdateProfileInput!", update, json!({})),
        ("$a: UpdateProfileInput!", update, json!({"a": null})),
        ("$a: UpdateProfileInput!", update, json!({"a": []})),
        ("$a: UpdateProfileInput!", update, json!({"a": "x"})),
        ("$a: UpdateProfileInput!", update, json!({"a": {"displayName": 3}})),
        ("$a: UpdateProfileInput!", update, json!({"a": {"displayName": "x", "more": 1}})),
        ("$a: UpdateProfileInput", update, json!({})),
        ("$a: Int!", literal, json!({"a": 3})),
        ("$a: ID!", leave, json!({"a": 1.5})),
        ("$a: ID!", leave, json!({"a": true})),
        ("$a: ID", leave, json!({})),
        ("$a: MessageContentInput!", send, json!({"a": {}})),
        ("$a: MessageContentInput!", send, json!({"a": {"text": null}})),
        ("$a: TextContentInput", text, json!({})),
        ("$a: TextContentInput", text, json!({"a": null})),
        ("$a: User", update, json!({"a": {}})),
        ("$a: Nothing", update, json!({"a": {}})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_variables_have_no_side_effect() {
    let server = TestServer::start().await;
    let token = server.register("before").await;
    for (definitions, beside, variables) in invalid() {
        let query = format!("mutation({definitions}) {{ {RENAME} {beside} }}");
        let (status, body) = ask(&server, &token, &query, variables.clone()).await;
        assert_eq!(status, 400, "{definitions} {variables}: {body}");
        assert!(body.get("data").is_none(), "{definitions} {variables}: {body}");
        assert_eq!(body["errors"][0]["extensions"]["code"], "BAD_REQUEST", "{definitions}: {body}");
    }
    let (_, body) = ask(&server, &token, "{ viewer { displayName } }", json!({})).await;
    assert_eq!(body, json!({"data": {"viewer": {"displayName": "before"}}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_fit_are_let_through() {
    let server = TestServer::start().await;
    let token = server.register("alice").await;
    for (query, variables) in [
        ("query($a: ID!) { node(id: $a) { id } }", json!({"a": "x"})),
        ("query($a: ID!) { node(id: $a) { id } }", json!({"a": 7, "other": 1})),
        ("query($a: [ID!]!) { nodes(ids: $a) { id } }", json!({"a": "x"})),
        ("query($a: [ID!]! = [\"x\"]) { nodes(ids: $a) { id } }", json!({})),
        ("query($a: UserBy!) { user(by: $a) { id } }", json!({"a": {"username": "alice"}})),
        ("query($a: String!) { user(by: {username: $a}) { id } }", json!({"a": "alice"})),
        ("query($a: Int) { conversations(first: $a) { edges { cursor } } }", json!({"a": null})),
        ("query($a: Boolean! = true) { viewer @include(if: $a) { id } }", json!({})),
    ] {
        let (status, body) = ask(&server, &token, query, variables.clone()).await;
        assert_eq!((status, body.get("errors")), (200, None), "{query} {variables}: {body}");
    }
}

/// Valid ones are not held against the rules a second time, others are.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_judged_the_same_however_often_it_comes() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let user = "query($by: UserBy!) { user(by: $by) { username } }";
    for round in 0..3 {
        for (query, variables) in [
            ("{ nothing }", json!({})),
            ("{ viewer }", json!({})),
            ("query($x: Int) { viewer { id } }", json!({})),
            ("{ user { id } }", json!({})),
            (user, json!({ "by": { "username": 7 } })),
            (user, json!({ "by": {} })),
            (user, json!({})),
        ] {
            let (status, answer) = ask(&server, &token, query, variables).await;
            assert_eq!(status, 400, "{query}, {round}: {answer}");
            assert!(answer.get("data").is_none(), "{query}, {round}: {answer}");
        }
        let (status, answer) = ask(&server, &token, user, json!({ "by": { "username": "ada" } })).await;
        assert_eq!((status, &answer["data"]["user"]["username"]), (200, &json!("ada")), "{round}: {answer}");
    }
}
