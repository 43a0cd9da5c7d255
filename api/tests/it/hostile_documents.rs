//! Documents that stop a server that trusts its parser, or keep it busy for seconds.

use std::{fmt::Write, time::Duration};

use serde_json::json;
use tokio::time::timeout;

use crate::{
    socket::Socket,
    test_server::{GRAPHQL_RESPONSE, TestServer},
};

/// Generous for a slow machine, and far below what an unguarded parser or validator takes.
const ANSWER_MAX: Duration = Duration::from_secs(2);

async fn refused(server: &TestServer, name: &str, query: &str, code: &str) {
    let asked = server.query(GRAPHQL_RESPONSE, query, json!({}));
    let answer = timeout(ANSWER_MAX, asked).await.unwrap_or_else(|_| panic!("{name} keeps the server busy"));
    assert_eq!((answer.status, answer.code().as_str()), (400, code), "{name}: {}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_brackets_are_refused_wherever_they_stand() {
    let server = TestServer::start().await;
    for levels in [65, 2_000, 15_000] {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        for query in [
            format!("{{ node(id: {open}1{close}) {{ id }} }}"),
            format!("{{ node(id: {open}"),
            format!("{{ __typename(nothing: {open}1{close}) }}"),
            format!("{{ __typename @skip(if: {open}1{close}) }}"),
            format!("query($a: Int = {open}1{close}) {{ __typename }}"),
            format!("query($a: {open}Int{close}) {{ __typename }}"),
            format!("{{ a(b: {}1{}) }}", "{a:".repeat(levels), "}".repeat(levels)),
            format!("{}a{}", "{a".repeat(levels), "}".repeat(levels)),
            format!("{{ a # \r{open}"),
            format!("{{ a(b: \"\\\\\" {open}"),
            format!("{{ a(b: \"\"\" \\\"\"\" \"\"\" {open}"),
        ] {
            refused(&server, &query[..query.len().min(40)], &query, "LIMIT_EXCEEDED").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doubling_fragments_are_refused_at_every_size() {
    let server = TestServer::start().await;
    for leaf in ["__typename", "viewer { id }"] {
        for count in [12, 24, 27, 60] {
            let mut query = "{ ...F0 }".to_owned();
            for index in 0..count {
                let next = index + 1;
                write!(query, " fragment F{index} on Query {{ ...F{next} ...F{next} }}").expect("writes");
            }
            write!(query, " fragment F{count} on Query {{ {leaf} }}").expect("writes");
            refused(&server, &format!("{count} fragments"), &query, "LIMIT_EXCEEDED").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cyclic_fragments_are_a_bad_request() {
    let server = TestServer::start().await;
    for query in [
        "{ ...A } fragment A on Query { ...A }",
        "{ ...A } fragment A on Query { ...B } fragment B on Query { viewer { id } ...A }",
        "{ __typename } fragment A on User { id ...B } fragment B on User { ...A }",
        "subscription { ...A } fragment A on Subscription { ...A }",
    ] {
        refused(&server, query, query, "BAD_REQUEST").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_directives_and_tokens_are_bounded() {
    let server = TestServer::start().await;
    let many = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<String>();
    for query in [
        format!("{{ {} }}", many(10_000, |index| format!("a{index}:viewer{{id}} "))),
        format!("{{ {} }}", many(101, |index| format!("a{index}:__typename "))),
        format!("{{ __typename {} }}", "@a ".repeat(10_000)),
        format!("{{ __typename {} }}", "@a ".repeat(51)),
        format!("{{ {} }}", "__typename ".repeat(2_001)),
        format!("{{ __typename }} #{}", "x".repeat(64 * 1024)),
        many(51, |index| format!("query A{index} {{ __typename }} ")),
        format!("{{ __typename }} {}", many(150, |index| format!("fragment F{index} on Query {{ a }} "))),
    ] {
        refused(&server, &query[..query.len().min(40)], &query, "LIMIT_EXCEEDED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn introspection_is_open_but_does_not_multiply() {
    let server = TestServer::start().await;
    let usual = "{ __schema { types { name fields { name args { name } type { kind ofType { kind ofType { kind ofType \
                 { kind ofType { kind ofType { kind ofType { kind ofType { name } } } } } } } } } } } }";
    let answer = server.query(GRAPHQL_RESPONSE, usual, json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let fields = "fields { type { ".repeat(3) + "name" + &"} }".repeat(3);
    refused(&server, "fields", &format!("{{ __schema {{ types {{ {fields} }} }} }}"), "LIMIT_EXCEEDED").await;
    let spread = "{ __schema { types { ...A } } } fragment A on __Type { fields { type { ...B } } } \
                  fragment B on __Type { fields { type { possibleTypes { name } } } }";
    refused(&server, "spread fields", spread, "LIMIT_EXCEEDED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_json_is_refused_and_the_server_lives_on() {
    let server = TestServer::start().await;
    let deep = format!("{{\"query\": \"{{ __typename }}\", \"variables\": {{\"a\": {}", "[".repeat(500_000));
    let answer = crate::test_server::answer(server.post(GRAPHQL_RESPONSE, deep)).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "LIMIT_EXCEEDED"));
    let answer = server.query(GRAPHQL_RESPONSE, "{ __typename }", json!({})).await;
    assert_eq!(answer.status, 200);
}

/// `Message.conversation` leads back to where the messages came from.
fn down(levels: usize, size: &str) -> String {
    let down = format!("messages(last: {size}) {{ nodes {{ id conversation {{ ").repeat(levels);
    format!("conversations(first: {size}) {{ nodes {{ {down} id {} }} }}", "} } }".repeat(levels))
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_within_pages_are_refused_by_what_they_cost() {
    let server = TestServer::start().await;
    let within = format!("query($n: Int) {{ {} }}", down(1, "$n"));
    for (query, variables) in [
        (format!("{{ {} }}", down(1, "100")), json!({})),
        (format!("{{ {} }}", down(3, "20")), json!({})),
        (within.clone(), json!({ "n": 100 })),
        (within.replace("$n: Int", "$n: Int = 100"), json!({})),
        (
            "query($id: ID!) { conversation(id: $id) { ...C } } fragment C on Conversation { messages(last: 100) {
                edges { node { conversation { messages { ...P } } } } } }
                fragment P on MessageConnection { nodes { conversation { messages(last: 10) { nodes { id } } } } }"
                .to_owned(),
            json!({ "id": "cnv_x" }),
        ),
        (
            format!("query($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on Conversation {{ {} }} }} }}",
                "messages(last: 100) { nodes { sender { id } } }"),
            json!({ "ids": vec!["cnv_x"; 60] }),
        ),
    ] {
        let answer = server.query(GRAPHQL_RESPONSE, &query, variables).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "LIMIT_EXCEEDED"), "{query}: {}", answer.text);
        assert!(answer.json().get("data").is_none(), "nothing ran: {}", answer.text);
    }
    let small = server.query(GRAPHQL_RESPONSE, &within, json!({ "n": 10 })).await;
    assert_eq!((small.status, small.code().as_str()), (200, "UNAUTHENTICATED"), "{}", small.text);
    // A page that is out of range says so, whatever it would cost.
    let list = "{ conversations(first: 2000000) { nodes { members(first: 90) { nodes { id } } } } }";
    let answer = server.query(GRAPHQL_RESPONSE, list, json!({})).await;
    assert_ne!(answer.code(), "LIMIT_EXCEEDED", "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_whose_answer_costs_too_much_writes_nothing() {
    let server = TestServer::start().await;
    let register = format!(
        "mutation {{ register(input: {{ username: \"ada\", password: \"correct horse\", displayName: \"Ada\" }}) {{
            user {{ id }} userErrors {{ code }} }}
            markRead(input: {{ conversationId: \"cnv_x\", seq: 1 }}) {{ conversation {{ {} }} }} }}",
        down(3, "100").trim_start_matches("conversations(first: 100) { nodes { ").trim_end_matches("} }"),
    );
    let answer = server.query(GRAPHQL_RESPONSE, &register, json!({})).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "LIMIT_EXCEEDED"), "{}", answer.text);
    server.register("ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_of_a_socket_cost_as_much_as_over_http() {
    let server = TestServer::start().await;
    let mut socket = Socket::initialised(&server, None).await;
    let events = "subscription { events { ... on MessageSent { conversation { ...Deep } } } }
        fragment Deep on Conversation { messages(last: 100) { nodes { conversation { messages(last: 100) { nodes { id } } } } } }";
    for (id, query) in [("q", format!("{{ {} }}", down(1, "100"))), ("s", events.to_owned())] {
        socket.subscribe(id, &query, json!({})).await;
        let refused = socket.hear().await;
        assert_eq!(
            (refused["type"].as_str(), refused["id"].as_str()),
            (Some("error"), Some(id)),
            "{refused}"
        );
        assert_eq!(refused["payload"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{refused}");
    }
}
