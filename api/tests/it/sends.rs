//! Sends as clients make them, many at once: once each, in order, without holes.

use std::{collections::BTreeSet, sync::Arc};

use api::{hub::HubLimits, settings::Settings};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{
    Caller, ConversationId, Limits, Session, SessionId, Timestamp, Title, User, UserId,
    adapter::ambient::SystemClock,
    port::{Accounts as _, Clock as _, accounts::NewSession},
    service::create_group::CreateGroup,
};
use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    people::{Person, node},
    test_server::{JSON, TestServer, answer},
};

const SEND: &str = "mutation($input: SendMessageInput!) { sendMessage(input: $input) {
    message { id seq rev createdAt clientMessageId content { ... on TextContent { text } } sender { id } }
    userErrors { code } } }";
const SENDERS: usize = 500;
/// Requests on their way at once.
const AT_ONCE: usize = 100;

impl TestServer {
    /// What a client gets that sends a message.
    async fn send_over_http(&self, token: &str, conversation: ConversationId, key: &str) -> Value {
        let content = json!({ "text": { "text": "hello" } });
        let input =
            json!({ "conversationId": conversation.to_string(), "clientMessageId": key, "content": content });
        let body = json!({ "query": SEND, "variables": { "input": input } }).to_string();
        answer(self.post(JSON, body).bearer_auth(token)).await.json()
    }

    /// Somebody who is signed in though no password was hashed, which takes long.
    async fn quick_person(&self, number: i64) -> Person {
        let (user, now) = (UserId(number), SystemClock.now());
        let name: Arc<str> = format!("user{number}").into();
        let session =
            Session { id: SessionId(number), user, device_name: None, created_at: now, last_used_at: now };
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        let new = NewSession { session, token_hash: Sha256::digest(secret).into() };
        let user =
            User { id: user, username: name.clone(), display_name: name.clone(), created_at: Timestamp(1) };
        self.store.insert_user(&user, &name, "none", &new).await.expect("a user");
        let refresh_token = format!("cfr_{}", URL_SAFE_NO_PAD.encode(secret));
        let credentials = self.chat.refresh_session(&refresh_token).await.expect("signed in");
        let caller: Caller = self.chat.authenticate(&credentials.access_token).expect("a good token");
        Person { caller, token: credentials.access_token }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_a_hundred_times_at_once_is_one_message_and_one_answer() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let answers = join_all((0..100).map(|_| node.send_over_http(&ada.token, id, "k"))).await;
    let message = &answers[0]["data"]["sendMessage"]["message"];
    assert_eq!((&message["seq"], &message["clientMessageId"]), (&json!(1), &json!("k")), "{message}");
    assert_eq!(answers.iter().filter(|answer| **answer == answers[0]).count(), 100);
    let next = node.send_over_http(&ada.token, id, "next").await;
    assert_eq!(next["data"]["sendMessage"]["message"]["seq"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_mentions_members_each_once_and_nobody_else() {
    const MENTION: &str = "mutation($input: SendMessageInput!) { sendMessage(input: $input) {
        message { content { ... on TextContent { mentions { username } } } } userErrors { code field } } }";
    const SEEN: &str = "subscription { events { __typename ... on MessageSent {
        message { content { ... on TextContent { text mentions { username } } } } } } }";
    let node = node().await;
    let (ada, bob, eve) = (node.person("ada").await, node.person("bob").await, node.person("eve").await);
    let id = node.group(&ada, &bob).await;
    let (mut socket, _) = node.subscribe(&bob, SEEN, json!({})).await;
    let [ada_id, bob_id, eve_id] = [&ada, &bob, &eve].map(|person| person.caller.user.to_string());
    let send = async |key: &str, mentions: Value| {
        let content = json!({ "text": { "text": "@bob", "mentions": mentions } });
        let input = json!({ "conversationId": id.to_string(), "clientMessageId": key, "content": content });
        let body = json!({ "query": MENTION, "variables": { "input": input } }).to_string();
        let answer: Value = answer(node.post(JSON, body).bearer_auth(&ada.token)).await.json();
        answer["data"]["sendMessage"].clone()
    };
    let first = send("k", json!([bob_id, eve_id, ada_id, bob_id])).await;
    let names = &first["message"]["content"]["mentions"];
    assert_eq!(names, &json!([{ "username": "ada" }, { "username": "bob" }]), "{first}");
    let seen = socket.event().await;
    assert_eq!(&seen["message"]["content"]["mentions"], names, "{seen}");
    assert_eq!(send("k", json!([ada_id, bob_id, eve_id])).await, first, "the same message");

    let refused = |code: &str, field: Value| json!([{ "code": code, "field": field }]);
    let other = send("k", json!([bob_id])).await;
    assert_eq!(other["userErrors"], refused("IDEMPOTENCY_CONFLICT", json!(["clientMessageId"])));
    let place = json!(["content", "text", "mentions"]);
    let many = (1..=51).map(|number| UserId(number).to_string()).collect::<Vec<_>>();
    for wrong in [json!(many), json!(["bob"]), json!([id.to_string()])] {
        let answer = send("wrong", wrong.clone()).await;
        assert_eq!(answer["userErrors"], refused("INVALID_INPUT", place.clone()), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_senders_over_http_leave_no_hole() {
    let limits = Limits { rate_limits: false, ids_max: SENDERS, ..Limits::default() };
    let settings = Settings::default();
    let node = TestServer::of(Arc::new(SystemClock), settings, HubLimits::default(), limits).await;
    let mut people = Vec::new();
    for number in 1..=i64::try_from(SENDERS).expect("few") {
        people.push(node.quick_person(number).await);
    }
    let members = people[1..].iter().map(|person| person.caller.user).collect();
    let title = Title::new("Tea".to_owned()).expect("a title");
    let command = CreateGroup { title, members, client_key: None };
    let id = node.chat.create_group(&people[0].caller, command).await.expect("a group").conversation.id;
    // All with the same key, which is each sender's own.
    let sends = people.iter().map(|person| node.send_over_http(&person.token, id, "k"));
    let answers: Vec<Value> = stream::iter(sends).buffer_unordered(AT_ONCE).collect().await;
    let seq = |answer: &Value| {
        answer["data"]["sendMessage"]["message"]["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    };
    let seqs: BTreeSet<u64> = answers.iter().map(seq).collect();
    assert_eq!((answers.len(), seqs), (SENDERS, (1..=SENDERS as u64).collect()));
}
