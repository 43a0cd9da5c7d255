//! Which status and type an answer has, by what the client takes and by what went wrong.

use std::io::Read as _;

use reqwest::{
    Method,
    header::{self, HeaderValue},
};
use serde_json::json;

use crate::test_server::{GRAPHQL_RESPONSE, JSON, TestServer, answer};

/// What the client says that it takes, and the type it gets; `None` is 406.
const ACCEPTS: &[(&str, Option<&str>)] = &[
    ("*/*", Some(JSON)),
    ("application/*", Some(JSON)),
    (JSON, Some(JSON)),
    (GRAPHQL_RESPONSE, Some(GRAPHQL_RESPONSE)),
    ("application/graphql-response+json, application/json;q=0.9", Some(GRAPHQL_RESPONSE)),
    ("application/graphql-response+json;q=0.5, application/json", Some(JSON)),
    ("text/html, */*;q=0.1", Some(JSON)),
    ("text/html", None),
    ("application/json;q=0", None),
    ("", Some(JSON)),
    ("application/json;q=0, */*", Some(GRAPHQL_RESPONSE)),
    ("*/*;q=0, application/json;q=0.1", Some(JSON)),
    ("application/*;q=0, */*", None),
];

/// A body, the status under either type, the error's code, and whether there is `data`.
const OUTCOMES: &[(&str, u16, u16, &str, bool)] = &[
    (r#"{"query": "{ __typename }"}"#, 200, 200, "", true),
    (r#"{"query": "{ viewer { id } }"}"#, 200, 200, "", true),
    (r#"{"query": "{ conversations { edges { cursor } } }"}"#, 200, 200, "UNAUTHENTICATED", true),
    (r#"{"query": "{"}"#, 200, 400, "BAD_REQUEST", false),
    (r#"{"query": ""}"#, 200, 400, "BAD_REQUEST", false),
    (r#"{"query": "{ nothing }"}"#, 200, 400, "BAD_REQUEST", false),
    (r#"{"query": "query A { a } query B { b }"}"#, 200, 400, "BAD_REQUEST", false),
    (r#"{"query": "{ __typename }", "operationName": "A"}"#, 200, 400, "BAD_REQUEST", false),
    (r#"{"query": "query($a: ID!) { node(id: $a) { id } }"}"#, 200, 400, "BAD_REQUEST", false),
    (r#"{"query": "subscription { events { cursor } }"}"#, 200, 400, "BAD_REQUEST", false),
    ("{", 400, 400, "BAD_REQUEST", false),
    ("[{\"query\": \"{ __typename }\"}]", 400, 400, "BAD_REQUEST", false),
    (r#"{"query": {}}"#, 400, 400, "BAD_REQUEST", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn status_and_type_follow_accept_and_what_went_wrong() {
    let server = TestServer::start().await;
    for &(accept, media) in ACCEPTS {
        for &(body, json_status, graphql_status, code, has_data) in OUTCOMES {
            let case = format!("{accept} {body}");
            let answer = answer(server.post(accept, body)).await;
            let Some(media) = media else {
                assert_eq!((answer.status, answer.media()), (406, JSON), "{case}");
                continue;
            };
            let status = if media == JSON { json_status } else { graphql_status };
            assert_eq!((answer.status, answer.media()), (status, media), "{case}: {}", answer.text);
            assert_eq!(answer.header("content-type"), format!("{media}; charset=utf-8"), "{case}");
            assert_eq!(answer.code(), code, "{case}: {}", answer.text);
            assert_eq!(answer.json().get("data").is_some(), has_data, "{case}: {}", answer.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_has_a_code_and_no_text_of_the_parser() {
    let server = TestServer::start().await;
    for query in ["{ node(id: 3, x: 4) { id } }", "{ a", "{ viewer }", "{ viewer @a { id } }", "{ ...A }"] {
        let answer = server.query(GRAPHQL_RESPONSE, query, json!({})).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        let body = answer.json();
        for error in body["errors"].as_array().expect("errors") {
            assert_eq!(error["extensions"]["code"], "BAD_REQUEST", "{query}: {error}");
            assert!(!error["message"].as_str().expect("a message").contains('\n'), "{query}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_runs_queries_only() {
    let server = TestServer::start().await;
    let get = async |query: &[(&str, &str)]| {
        let pairs: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
        let path = format!("/graphql?{}", pairs.join("&"));
        answer(server.request(Method::GET, &path).header(header::ACCEPT, GRAPHQL_RESPONSE)).await
    };
    let plain = get(&[("query", "{ __typename }"), ("operationName", ""), ("variables", "")]).await;
    assert_eq!(plain.text, r#"{"data":{"__typename":"Query"}}"#);
    let named = "query A { a: __typename } query B { b: __typename }";
    let named = get(&[("query", named), ("operationName", "B")]).await;
    assert_eq!(named.text, r#"{"data":{"b":"Query"}}"#);
    let variables = "query($a: Boolean!) { viewer @skip(if: $a) { id } }";
    let variables = get(&[("query", variables), ("variables", r#"{"a": true}"#)]).await;
    assert_eq!(variables.text, r#"{"data":{}}"#);
    for query in
        ["mutation { signOut(input: {}) { userErrors { code } } }", "subscription { events { cursor } }"]
    {
        let refused = get(&[("query", query)]).await;
        assert_eq!((refused.status, refused.header("allow")), (405, "POST"), "{query}");
        assert_eq!(refused.code(), "BAD_REQUEST");
    }
    for query in [&[][..], &[("query", "{a}"), ("variables", "[]")], &[("query", "{a}"), ("variables", "{")]]
    {
        assert_eq!(get(query).await.status, 400, "{query:?}");
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let refused = answer(server.request(method.clone(), "/graphql")).await;
        assert_eq!((refused.status, refused.header("allow")), (405, "GET, POST"), "{method}");
    }
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_compressed_for_those_who_take_it() {
    let server = TestServer::start().await;
    let introspection = json!({ "query": "{ __schema { types { name description } } }" }).to_string();
    let ask = async |encoding: &str| {
        let request = server.post(JSON, introspection.clone()).header("accept-encoding", encoding);
        let response = request.send().await.expect("an answer");
        let coding = response.headers().get("content-encoding").cloned();
        assert_eq!(response.headers()["vary"], "accept, accept-encoding, origin");
        (coding, response.bytes().await.expect("whole"))
    };
    let (coding, plain) = ask("identity").await;
    assert_eq!(coding, None);
    for (accept, coding) in
        [("gzip", "gzip"), ("br", "br"), ("gzip, deflate, br", "br"), ("br;q=0.5, gzip;q=0.8", "gzip")]
    {
        let (found, small) = ask(accept).await;
        assert_eq!(found.as_ref().map(HeaderValue::as_bytes), Some(coding.as_bytes()), "{accept}");
        assert!(small.len() * 2 < plain.len(), "{accept}: {} of {}", small.len(), plain.len());
        let mut read = Vec::new();
        match coding {
            "br" => brotli::Decompressor::new(&*small, 4096).read_to_end(&mut read).expect("brotli"),
            _ => flate2::read::GzDecoder::new(&*small).read_to_end(&mut read).expect("gzip"),
        };
        assert_eq!(read, plain, "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_too_long_is_414() {
    let server = TestServer::start().await;
    let get = async |padding: usize| {
        let path = format!("/graphql?query=%7B__typename%7D%23{}", "x".repeat(padding));
        answer(server.request(Method::GET, &path).header(header::ACCEPT, JSON)).await
    };
    assert_eq!(get(20_000).await.status, 200);
    let refused = get(25_000).await;
    assert_eq!((refused.status, refused.code().as_str()), (414, "LIMIT_EXCEEDED"), "{}", refused.text);
}
