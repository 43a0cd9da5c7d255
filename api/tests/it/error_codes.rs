//! Each code of the catalogue, as a client meets it: over HTTP and over a socket, in the place, with the status and with what else its row of
//! the table says. A row that nothing here produces fails the test.

use std::{collections::BTreeSet, fs, net::SocketAddr, sync::Arc, time::Duration};

use api::{hub::HubLimits, settings::Settings};
use domain::{
    ConversationId, ErrorCode, Limits, Rate, Refill, Title, adapter::ambient::SystemClock, error::Surface,
    service::create_group::CreateGroup, wiring::Wiring,
};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::{
    edge_run,
    people::Person,
    socket::Socket,
    test_server::{Answer, GRAPHQL_RESPONSE, JSON, TestServer, answer, client},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Payload,
    TopLevel,
    /// Over HTTP, with the status of the table.
    InPlaceOfData,
}

/// Which codes were met, and where.
#[derive(Default)]
struct Met(BTreeSet<(&'static str, Place)>);

impl Met {
    /// The same operation over both edges.
    async fn meets(&mut self, code: ErrorCode, server: &TestServer, who: Option<&Person>, request: Value) {
        let token = who.map(|person| &*person.token);
        self.meets_over_http(code, server.address, token, &request).await;
        self.meets_on_socket(code, server, token, &request).await;
    }

    async fn meets_over_http(
        &mut self,
        code: ErrorCode,
        address: SocketAddr,
        token: Option<&str>,
        request: &Value,
    ) {
        let ask = async |media: &str| {
            let mut post = client().post(format!("http://{address}/graphql")).header("accept", media);
            if let Some(token) = token {
                post = post.bearer_auth(token);
            }
            answer(post.header("content-type", JSON).body(request.to_string())).await
        };
        let answer = ask(GRAPHQL_RESPONSE).await;
        let body = answer.json();
        self.meets_in(code, &body);
        if body.get("data").is_some() {
            assert_eq!(answer.status, 200, "{body}");
            return;
        }
        assert_eq!(answer.status, code.info().http_status, "{body}");
        self.0.insert((code.name(), Place::InPlaceOfData));
        let told_when = |answer: &Answer| answer.headers.contains_key("retry-after");
        assert_eq!(told_when(&answer), code == ErrorCode::RateLimited, "{body}");
        let status = match code {
            ErrorCode::Unauthenticated | ErrorCode::RateLimited => code.info().http_status,
            _ => 200,
        };
        assert_eq!(ask(JSON).await.status, status, "under {JSON}: {body}");
    }

    async fn meets_on_socket(
        &mut self,
        code: ErrorCode,
        server: &TestServer,
        token: Option<&str>,
        request: &Value,
    ) {
        let mut socket = Socket::initialised(server, token).await;
        socket.say(json!({ "id": "1", "type": "subscribe", "payload": request })).await;
        let message = socket.hear().await;
        match message["type"].as_str() {
            Some("error") => self.meets_in(code, &json!({ "errors": message["payload"] })),
            _ => self.meets_in(code, &message["payload"]),
        }
    }

    fn meets_in(&mut self, code: ErrorCode, answer: &Value) {
        let payload = answer["data"].as_object().and_then(|data| data.values().next());
        let (place, said) = match (answer.pointer("/errors/0/extensions"), payload) {
            (Some(extensions), _) => (Place::TopLevel, extensions),
            (None, Some(payload)) => (Place::Payload, &payload["userErrors"][0]),
            (None, None) => panic!("no error: {answer}"),
        };
        assert_eq!(said["code"], code.name(), "{answer}");
        if place == Place::TopLevel {
            assert_eq!(said["retryable"], code.retryable(), "{answer}");
            assert_eq!(said["requestId"].is_string(), code == ErrorCode::Internal, "{answer}");
        }
        let wait = said["retryAfterSeconds"].as_u64();
        assert_eq!(wait.is_some_and(|wait| wait > 0), code == ErrorCode::RateLimited, "{answer}");
        self.0.insert((code.name(), place));
    }

    /// What the table promises and nobody met.
    fn lacks(&self) -> Vec<(&'static str, Place)> {
        let promised = |code: &ErrorCode| {
            let info = code.info();
            let mut places = match info.surface {
                Surface::Payload => vec![Place::Payload],
                Surface::TopLevel => vec![Place::TopLevel],
                Surface::Both => vec![Place::Payload, Place::TopLevel],
            };
            if info.http_status != 200 {
                places.push(Place::InPlaceOfData);
            }
            places.into_iter().map(move |place| (info.name, place))
        };
        ErrorCode::ALL.iter().flat_map(promised).filter(|promise| !self.0.contains(promise)).collect()
    }
}

/// A mutation with the input that it is to refuse.
fn mutation(name: &str, input: &Value) -> Value {
    let mut kind = name.to_owned();
    kind[..1].make_ascii_uppercase();
    let query = format!(
        "mutation($input: {kind}Input!) {{ {name}(input: $input) {{ userErrors {{ code retryAfterSeconds }} }} }}"
    );
    json!({ "query": query, "variables": { "input": input } })
}

fn message(conversation: ConversationId, key: &str, text: &str) -> Value {
    let content = json!({ "text": { "text": text } });
    json!({ "conversationId": conversation.to_string(), "clientMessageId": key, "content": content })
}

fn sign_in(password: &str) -> Value {
    mutation("signIn", &json!({ "username": "ada", "password": password }))
}

async fn server(settings: Settings, limits: Limits) -> TestServer {
    TestServer::of(Arc::new(SystemClock), settings, HubLimits::default(), limits).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_of_the_table_is_produced_as_its_row_says() {
    let mut met = Met::default();
    payloads(&mut met).await;
    documents(&mut met).await;
    rates(&mut met).await;
    a_server_in_trouble(&mut met).await;
    let lacks = met.lacks();
    assert!(lacks.is_empty(), "in the table, but nothing here produces them: {lacks:?}");
}

/// What a mutation refuses.
async fn payloads(met: &mut Met) {
    let limits = Limits { rate_limits: false, group_members_max: 2, ..Limits::default() };
    let server = server(Settings::default(), limits.clone()).await;
    let (ada, bob, eve) =
        (server.person("ada").await, server.person("bob").await, server.person("eve").await);
    let id = server.group(&ada, &bob).await;
    server.send(&ada, id, "said").await;
    let (group, of_eve) = (id.to_string(), eve.caller.user.to_string());
    let register = json!({ "username": "ADA", "password": "correct horse", "displayName": "Ada" });
    let role = json!({ "conversationId": group, "userId": of_eve, "role": "ADMIN" });
    let rename = json!({ "conversationId": group, "title": "Coffee" });
    let add = json!({ "conversationId": group, "userIds": [of_eve] });
    let leave = json!({ "conversationId": group });
    for (code, who, request) in [
        (ErrorCode::UsernameTaken, None, mutation("register", &register)),
        (ErrorCode::InvalidCredentials, None, sign_in("wrong horse")),
        (ErrorCode::InvalidInput, Some(&ada), mutation("sendMessage", &message(id, "empty", ""))),
        (ErrorCode::NotAMember, Some(&ada), mutation("setMemberRole", &role)),
        (ErrorCode::Forbidden, Some(&bob), mutation("updateGroup", &rename)),
        (ErrorCode::IdempotencyConflict, Some(&ada), mutation("sendMessage", &message(id, "said", "other"))),
        (ErrorCode::TooManyMembers, Some(&ada), mutation("addMembers", &add)),
        (ErrorCode::LastOwner, Some(&ada), mutation("leaveGroup", &leave)),
        (ErrorCode::NotFound, Some(&eve), mutation("leaveGroup", &leave)),
    ] {
        met.meets(code, &server, who, request).await;
    }
    let query = "subscription($ids: [ID!]) { events(conversationIds: $ids) { cursor } }";
    let strange = json!({ "query": query, "variables": { "ids": [group] } });
    met.meets_on_socket(ErrorCode::NotFound, &server, Some(&eve.token), &strange).await;

    // Another process made it, and counted to the end.
    let elsewhere = Wiring::new(server.store.clone(), server.keys.clone(), limits).build();
    let title = Title::new("Full".to_owned()).expect("a title");
    let command = CreateGroup { title, members: Vec::new(), client_key: None };
    let full = elsewhere.create_group(&ada.caller, command).await.expect("a group").conversation.id;
    let sql = format!("UPDATE conversation SET last_seq = {} WHERE title = 'Full'", i32::MAX);
    server.store.connection().execute_unprepared(&sql).await.expect("sets");
    let more = mutation("sendMessage", &message(full, "more", "x"));
    met.meets(ErrorCode::ConversationFull, &server, Some(&ada), more).await;
}

/// What does not run, or not as it was asked.
async fn documents(met: &mut Met) {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = folder.path().join("manifest.json");
    fs::write(&manifest, json!({ "one": "{ __typename }" }).to_string()).expect("writes");
    let settings = Settings { trusted_documents: vec![manifest], ..Settings::default() };
    let trusting = TestServer::with(settings).await;
    met.meets(ErrorCode::DocumentNotTrusted, &trusting, None, json!({ "documentId": "two" })).await;

    let server = TestServer::start().await;
    let ada = server.person("ada").await;
    let hash = json!({ "persistedQuery": { "version": 1, "sha256Hash": "ab".repeat(32) } });
    let deep = format!("{}a{}", "{ a ".repeat(65), "}".repeat(65));
    let first = |first: i32| format!("{{ conversations(first: {first}) {{ nodes {{ id }} }} }}");
    let malformed_id = "{ conversation(id: \"nonsense\") { id } }";
    for (code, who, request) in [
        (ErrorCode::PersistedQueryNotFound, None, json!({ "extensions": hash })),
        (ErrorCode::BadRequest, None, json!({ "query": "{ nothing }" })),
        (ErrorCode::BadRequest, Some(&ada), json!({ "query": malformed_id })),
        (ErrorCode::LimitExceeded, None, json!({ "query": deep })),
        (ErrorCode::PageSizeOutOfRange, Some(&ada), json!({ "query": first(0) })),
        (ErrorCode::Unauthenticated, None, json!({ "query": first(1) })),
    ] {
        met.meets(code, &server, who, request).await;
    }
    let request = json!({ "query": first(1) });
    met.meets_over_http(ErrorCode::Unauthenticated, server.address, Some("nonsense"), &request).await;
}

async fn rates(met: &mut Met) {
    let once = Rate { burst: 1, refill: Duration::from_hours(1) };
    let user_budget = Refill { burst: 100, per_second: 1 };
    let limits = Limits { sign_in_pair_rate: once, user_budget, ..Limits::default() };
    let server = server(Settings::default(), limits).await;
    let ada = server.person("ada").await;
    met.meets_over_http(ErrorCode::InvalidCredentials, server.address, None, &sign_in("wrong horse")).await;
    met.meets(ErrorCode::RateLimited, &server, None, sign_in("wrong horse")).await;
    // Five lists of twenty are all that there is.
    let aliased = ["a", "b", "c", "d", "e"].map(|alias| format!("{alias}: sessions {{ id }}")).join(" ");
    let request = json!({ "query": format!("{{ {aliased} }}") });
    let post = server.post(JSON, request.to_string()).bearer_auth(&ada.token);
    assert_eq!(answer(post).await.code(), "", "the first one runs");
    met.meets(ErrorCode::RateLimited, &server, Some(&ada), request).await;
}

async fn a_server_in_trouble(met: &mut Met) {
    let busy = TestServer::with(Settings { operations_max: 0, ..Settings::default() }).await;
    met.meets(ErrorCode::Unavailable, &busy, None, json!({ "query": "{ __typename }" })).await;

    let broken = TestServer::start().await;
    let ada = broken.person("ada").await;
    broken.store.connection().execute_unprepared("ALTER TABLE member RENAME TO gone").await.expect("renames");
    let query = "{ conversations { nodes { id } } }";
    met.meets(ErrorCode::Internal, &broken, Some(&ada), json!({ "query": query })).await;
    let panicking = edge_run::start(Duration::from_secs(10), 10);
    let request = json!({ "query": "{ panics }" });
    met.meets_over_http(ErrorCode::Internal, panicking.address, None, &request).await;
}
