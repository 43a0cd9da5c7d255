//! Rules of the specification that the executor's own validator does not hold.

use serde_json::{Value, json};

use crate::{
    socket::Socket,
    test_server::{GRAPHQL_RESPONSE, TestServer},
};

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_one_key_that_cannot_be_merged_are_refused_wherever_they_stand() {
    let server = TestServer::start().await;
    let mut socket = Socket::initialised(&server, None).await;
    for (query, path) in [
        ("{ viewer { a: id } viewer { a: displayName } }", "viewer.a"),
        (
            "query { conversation(id: \"c\") { messages(last: 1) { nodes { id } } }
                conversation(id: \"c\") { messages(last: 2) { nodes { id } } } }",
            "conversation.messages",
        ),
        (
            "{ node(id: \"c\") { ...A ... on Conversation { members(first: 2) { nodes { id } } } } }
                fragment A on Conversation { members { nodes { id } } }",
            "node.members",
        ),
        ("{ __schema { types { a: name } } __schema { types { a: description } } }", "__schema.types.a"),
        (
            "subscription { events { ... on MessageSent { message { a: id } } ... on MessageSent { message { a: seq } } } }",
            "events.message.a",
        ),
    ] {
        if !query.starts_with("subscription") {
            let answer = server.query(GRAPHQL_RESPONSE, query, json!({})).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "BAD_REQUEST"),
                "{query}: {}",
                answer.text
            );
            let errors = &answer.json()["errors"];
            let message = errors[0]["message"].as_str().unwrap_or_default();
            assert!(message.starts_with(&format!("Fields \"{path}\" conflict because")), "{message}");
            assert_eq!(errors[0]["locations"].as_array().map(Vec::len), Some(2), "{errors}");
        }
        socket.subscribe("1", query, json!({})).await;
        let refused = socket.hear().await;
        assert_eq!(refused["type"], "error", "{query}: {refused}");
        assert_eq!(refused["payload"][0]["extensions"]["code"], "BAD_REQUEST", "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_one_key_that_can_be_merged_are() {
    let server = TestServer::start().await;
    let query = "{ limits { idsMax } ...L ... on Query { limits { pageSizeMax } } } fragment L on Query { limits { idsMax } }";
    let answer = server.query(GRAPHQL_RESPONSE, query, json!({})).await;
    assert_eq!(answer.json(), json!({ "data": { "limits": { "idsMax": 100, "pageSizeMax": 100 } } }));
}

#[tokio::test(flavor = "multi_thread")]
async fn meta_fields_are_held_to_the_rules_of_others() {
    let server = TestServer::start().await;
    for query in [
        "{ __typename @nothing }",
        "{ __typename @deprecated }",
        "{ __typename @skip }",
        "{ __typename @skip(if: 1) }",
        "{ __typename @skip(if: true, unless: 1) }",
        "{ __typename @skip(if: true) @skip(if: true) }",
        "{ __typename @skip(if: $unknown) }",
        "query($a: Int!) { __typename @skip(if: $a) }",
        "{ __typename(a: 1) }",
        "{ __typename { id } }",
        "{ limits { __typename @nothing } }",
        "{ ...A } fragment A on Query { limits { ... { __typename @nothing } } }",
        "{ __schema(a: 1) { description } }",
        "{ __schema }",
        "{ __schema @nothing { description } }",
        "{ __type { name } }",
        "{ __type(name: 1) { name } }",
        "{ __type(name: \"User\", name: \"User\") { name } }",
        "{ __type(name: \"User\", id: 1) { name } }",
        "{ __type(name: \"User\") @skip { name } }",
        "{ limits { __schema { description } } }",
        "mutation { __schema { description } }",
        "mutation { __type(name: \"User\") { name } }",
    ] {
        let answer = server.query(GRAPHQL_RESPONSE, query, json!({ "a": 1 })).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "BAD_REQUEST"), "{query}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_only_a_meta_fields_directive_uses_is_used() {
    let server = TestServer::start().await;
    let query = "query($no: Boolean!) { limits { idsMax a: __typename @skip(if: $no) b: __typename @include(if: $no) } }";
    for (no, kept) in [(true, "b"), (false, "a")] {
        let answer = server.query(GRAPHQL_RESPONSE, query, json!({ "no": no })).await;
        assert_eq!(
            answer.json()["data"],
            json!({ "limits": { "idsMax": 100, kept: "Limits" } }),
            "{}",
            answer.text
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_with_many_faults_is_told_the_first_and_that_there_are_more() {
    let server = TestServer::start().await;
    let many = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<String>();
    for query in [
        format!("{{ {} }}", "usernam ".repeat(1_990)),
        format!("{{ {} }}", "__typename(a:1) ".repeat(280)),
        format!("query({}) {{ __typename }}", many(400, |index| format!("$a{index}: Int "))),
        format!("query({}) {{ __typename }}", many(300, |index| format!("$a{index}: Int! "))),
        format!("{{ {} }}", many(49, |index| format!("a{index}: node(id: {{}}) {{ id }} "))),
        format!(
            "{{ __typename }} {}",
            many(90, |index| format!("fragment F{index} on Query {{ __typename }} "))
        ),
    ] {
        let answer = server.query(GRAPHQL_RESPONSE, &query, json!({})).await;
        let name: String = query.chars().take(60).collect();
        assert_eq!((answer.status, answer.code().as_str()), (400, "BAD_REQUEST"), "{name}: {}", answer.text);
        assert!(answer.text.len() < 6_000, "{name}: {} bytes", answer.text.len());
        let Value::Array(errors) = &answer.json()["errors"] else { panic!("{}", answer.text) };
        if errors.len() > 1 {
            assert_eq!(errors.len(), 21, "{name}");
            assert_eq!(errors[20]["message"], "there are more errors: these are the first", "{name}");
        }
    }
}
