//! Documents that clients name instead of sending them: registered by their hash, or listed in manifests.

use std::{fs, path::PathBuf, sync::Arc};

use api::{hub::HubLimits, settings::Settings};
use domain::{DocumentBounds, DocumentHash, Limits, adapter::ambient::SystemClock};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    redis,
    socket::Socket,
    test_server::{Answer, GRAPHQL_RESPONSE, JSON, Shared, TestServer, answer},
};

const DOCUMENT: &str = "query Who { viewer { username } __typename }";

fn persisted(text: &str) -> Value {
    json!({ "persistedQuery": { "version": 1, "sha256Hash": DocumentHash::of(text).hex() } })
}

async fn post(server: &TestServer, body: Value) -> Answer {
    answer(server.post(GRAPHQL_RESPONSE, body.to_string())).await
}

async fn get(server: &TestServer, parameters: &[(&str, String)]) -> Answer {
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| {
            let bytes = value.bytes().map(|byte| format!("%{byte:02X}"));
            format!("{name}={}", bytes.collect::<String>())
        })
        .collect();
    answer(server.request(Method::GET, &format!("/graphql?{}", query.join("&"))).header("accept", JSON)).await
}

async fn sharing(limits: Limits, shared: Shared) -> TestServer {
    let clock = Arc::new(SystemClock);
    TestServer::sharing(clock, Settings::default(), HubLimits::default(), limits, shared).await
}

fn unlimited() -> Limits {
    Limits { rate_limits: false, ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_nobody_knows_is_not_found_and_runs_once_its_text_was_sent_along() {
    let server = TestServer::start().await;
    let by_hash = json!({ "extensions": persisted(DOCUMENT) });
    let unknown = post(&server, by_hash.clone()).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "PERSISTED_QUERY_NOT_FOUND"));
    assert_eq!(
        unknown.json()["errors"][0]["message"],
        "PersistedQueryNotFound",
        "as Apollo's clients know it"
    );
    let as_json = answer(server.post(JSON, by_hash.to_string())).await;
    assert_eq!((as_json.status, as_json.code().as_str()), (200, "PERSISTED_QUERY_NOT_FOUND"));
    let expected = json!({ "data": { "viewer": null, "__typename": "Query" } });
    let with_text = json!({ "query": DOCUMENT, "extensions": persisted(DOCUMENT) });
    assert_eq!(post(&server, with_text).await.json(), expected);
    for _ in 0..2 {
        assert_eq!(post(&server, by_hash.clone()).await.json(), expected);
    }
    assert_eq!(get(&server, &[("extensions", persisted(DOCUMENT).to_string())]).await.json(), expected);
    let id = format!("sha256:{}", DocumentHash::of(DOCUMENT).hex());
    assert_eq!(get(&server, &[("documentId", id.clone())]).await.json(), expected);
    let mut socket = Socket::initialised(&server, None).await;
    for payload in [by_hash, json!({ "documentId": id })] {
        socket.say(json!({ "id": "1", "type": "subscribe", "payload": payload })).await;
        assert_eq!(socket.hear().await["payload"], expected);
        assert_eq!(socket.hear().await["type"], "complete");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_registered_over_a_socket_for_all_and_subscriptions_too() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    let events = "subscription Live { events { __typename } }";
    let by_hash = json!({ "extensions": persisted(events) });
    socket.say(json!({ "id": "1", "type": "subscribe", "payload": by_hash })).await;
    let unknown = socket.hear().await;
    assert_eq!(unknown["payload"][0]["extensions"]["code"], "PERSISTED_QUERY_NOT_FOUND", "{unknown}");
    let with_text = json!({ "query": events, "extensions": persisted(events) });
    for (id, payload) in [("2", with_text), ("3", by_hash)] {
        socket.say(json!({ "id": id, "type": "subscribe", "payload": payload })).await;
        for expected in ["StreamOpened", "StreamLive"] {
            let event = socket.hear().await;
            assert_eq!(event["payload"]["data"]["events"]["__typename"], expected, "{event}");
        }
        socket.say(json!({ "id": id, "type": "complete" })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_known_by_its_hash_still_cannot_be_sent_with_get() {
    let server = TestServer::start().await;
    let mutation = "mutation { signOut(input: {}) { userErrors { code } } }";
    post(&server, json!({ "query": mutation, "extensions": persisted(mutation) })).await;
    let refused = get(&server, &[("extensions", persisted(mutation).to_string())]).await;
    assert_eq!((refused.status, refused.header("allow")), (405, "POST"), "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_of_another_text_is_refused_and_nothing_is_registered() {
    let server = TestServer::start().await;
    let other = "{ viewer { id } }";
    let refused = post(&server, json!({ "query": other, "extensions": persisted(DOCUMENT) })).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "BAD_REQUEST"), "{}", refused.text);
    for text in [DOCUMENT, other] {
        let unknown = post(&server, json!({ "extensions": persisted(text) })).await;
        assert_eq!(unknown.code(), "PERSISTED_QUERY_NOT_FOUND", "{text}");
    }
    for hash in ["", "abc", &"x".repeat(64)] {
        let extensions = json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } });
        let refused = post(&server, json!({ "query": DOCUMENT, "extensions": extensions })).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "BAD_REQUEST"), "{hash}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_valid_is_never_registered() {
    let server = TestServer::start().await;
    let deep = format!("{{ a {}", "{ a".repeat(99));
    for (text, code) in [
        ("{", "BAD_REQUEST"),
        ("{ nothing }", "BAD_REQUEST"),
        ("{ viewer }", "BAD_REQUEST"),
        ("query($x: Int) { viewer { id } }", "BAD_REQUEST"),
        ("subscription { events { nothing } }", "BAD_REQUEST"),
        (deep.as_str(), "LIMIT_EXCEEDED"),
    ] {
        let refused = post(&server, json!({ "query": text, "extensions": persisted(text) })).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{text}: {}", refused.text);
        let unknown = post(&server, json!({ "extensions": persisted(text) })).await;
        assert_eq!(unknown.code(), "PERSISTED_QUERY_NOT_FOUND", "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_kept_and_the_rest_makes_room() {
    let limits = Limits { documents: DocumentBounds { documents_max: 3, bytes_max: 400 }, ..unlimited() };
    let server = sharing(limits, Shared::default()).await;
    let register = async |text: &str| {
        let answer = post(&server, json!({ "query": text, "extensions": persisted(text) })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    let known =
        async |text: &str| post(&server, json!({ "extensions": persisted(text) })).await.status == 200;
    let small = |number: usize| format!("query N{number} {{ __typename }}");
    for number in 0..4 {
        register(&small(number)).await;
        assert!(known(&small(0)).await, "asked for each time");
    }
    assert!(!known(&small(1)).await && known(&small(2)).await && known(&small(3)).await);
    // Of 400 bytes in all, one of 390 leaves no room for others.
    let large = format!("query Large {{ __typename }} #{}", "x".repeat(360));
    register(&large).await;
    assert!(known(&large).await && !known(&small(2)).await);
    let too_large = format!("query TooLarge {{ __typename }} #{}", "x".repeat(400));
    register(&too_large).await;
    assert!(!known(&too_large).await && known(&large).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_registered_runs_on_the_others() {
    let limits = unlimited();
    let Some(nodes) = redis::nodes(2, &limits).await else { return };
    let here = sharing(limits.clone(), nodes[0].shared.clone()).await;
    let there = sharing(limits, nodes[1].shared.clone()).await;
    let by_hash = json!({ "extensions": persisted(DOCUMENT) });
    assert_eq!(post(&there, by_hash.clone()).await.code(), "PERSISTED_QUERY_NOT_FOUND");
    let registered = post(&here, json!({ "query": DOCUMENT, "extensions": persisted(DOCUMENT) })).await;
    assert_eq!(registered.status, 200, "{}", registered.text);
    assert_eq!(post(&there, by_hash).await.json()["data"]["__typename"], "Query");
}

struct Manifests {
    _folder: tempfile::TempDir,
    files: Vec<PathBuf>,
}

fn manifests(texts: &[Value]) -> Manifests {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |(number, text): (usize, &Value)| {
        let file = folder.path().join(format!("{number}.json"));
        fs::write(&file, text.to_string()).expect("writes");
        file
    };
    let files = texts.iter().enumerate().map(write).collect();
    Manifests { _folder: folder, files }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_manifests_only_what_they_list_runs() {
    let of_apollo = "query Types { __typename }";
    let events = "subscription Live { events { __typename } }";
    let apollo = json!({
        "format": "apollo-persisted-query-manifest",
        "version": 1,
        "operations": [
            { "id": DocumentHash::of(of_apollo).hex(), "name": "Types", "type": "query", "body": of_apollo },
            { "id": "live", "name": "Live", "type": "subscription", "body": events },
        ],
    });
    let register = "mutation Register($input: RegisterInput!) { register(input: $input) { credentials { accessToken } } }";
    let manifests = manifests(&[json!({ "d0c1": DOCUMENT, "d0c2": register }), apollo]);
    let settings = Settings { trusted_documents: manifests.files, ..Settings::default() };
    let server = TestServer::with(settings).await;
    for body in [
        json!({ "documentId": "d0c1" }),
        json!({ "query": DOCUMENT }),
        json!({ "query": DOCUMENT, "documentId": "d0c1" }),
        json!({ "extensions": persisted(of_apollo) }),
        json!({ "documentId": DocumentHash::of(DOCUMENT).hex() }),
    ] {
        let answer = post(&server, body.clone()).await;
        assert_eq!(answer.json()["data"]["__typename"], "Query", "{body}: {}", answer.text);
    }
    assert_eq!(get(&server, &[("documentId", "d0c1".to_owned())]).await.status, 200);
    let other = "{ viewer { id } }";
    for body in [
        json!({ "query": other }),
        json!({ "query": "{ __schema { types { name } } }" }),
        json!({ "documentId": "d0c3" }),
        json!({ "query": other, "documentId": "d0c1" }),
        json!({ "query": other, "extensions": persisted(other) }),
        json!({ "extensions": persisted(other) }),
        json!({ "query": "{" }),
    ] {
        let refused = post(&server, body.clone()).await;
        let found = (refused.status, refused.code());
        assert_eq!(found, (400, "DOCUMENT_NOT_TRUSTED".to_owned()), "{body}: {}", refused.text);
    }
    let input = json!({ "username": "ada", "password": "correct horse", "displayName": "Ada" });
    let registered = post(&server, json!({ "documentId": "d0c2", "variables": { "input": input } })).await;
    let token = registered.json()["data"]["register"]["credentials"]["accessToken"].clone();
    let mut socket = Socket::initialised(&server, token.as_str()).await;
    socket.say(json!({ "id": "1", "type": "subscribe", "payload": { "query": other } })).await;
    assert_eq!(socket.hear().await["payload"][0]["extensions"]["code"], "DOCUMENT_NOT_TRUSTED");
    socket.say(json!({ "id": "2", "type": "subscribe", "payload": { "documentId": "live" } })).await;
    assert_eq!(socket.hear().await["payload"]["data"]["events"]["__typename"], "StreamOpened");
}
