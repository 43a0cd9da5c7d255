//! Live delivery through real sockets: executed once, delivered to all, resumed without a hole.

use std::sync::Arc;

use api::settings::{Settings, SocketSettings};
use domain::{
    ClientKey, MessageText, Title,
    service::{
        create_group::CreateGroup,
        register::{Register, SignedIn},
        remove_member::RemoveMember,
        send_message::SendMessage,
    },
};
use serde_json::{Value, json};

use crate::{socket::Socket, test_server::TestServer};

const SUBSCRIPTION: &str =
    "subscription($after: EventCursor, $ids: [ID!]) { events(after: $after, conversationIds: $ids) {
    __typename cursor
    ... on ConversationEvent { rev conversation { id lastSeq } }
    ... on MessageSent { message { seq clientMessageId sender { displayName } } } } }";

/// As above, with a field that depends on the viewer.
const OWN_VIEW: &str =
    "subscription($after: EventCursor, $ids: [ID!]) { events(after: $after, conversationIds: $ids) {
    __typename cursor ... on ConversationEvent { rev conversation { unreadCount } } } }";

async fn node() -> TestServer {
    let sockets = SocketSettings { per_user_max: 1000, ..SocketSettings::default() };
    TestServer::with(Settings { sockets, ..Settings::default() }).await
}

struct Person {
    caller: domain::Caller,
    token: String,
}

impl TestServer {
    async fn person(&self, name: &str) -> Person {
        let register = Register {
            username: name.to_owned(),
            password: "correct horse".to_owned(),
            display_name: name.to_owned(),
            device_name: None,
            address: None,
        };
        let SignedIn { credentials, .. } = self.chat.register(register).await.expect("registers");
        let caller = self.chat.authenticate(&credentials.access_token).expect("a good token");
        Person { caller, token: credentials.access_token }
    }

    async fn group(&self, owner: &Person, other: &Person) -> domain::ConversationId {
        let title = Title::new("Tea".to_owned()).expect("a title");
        let command = CreateGroup { title, members: vec![other.caller.user], client_key: None };
        self.chat.create_group(&owner.caller, command).await.expect("a group").conversation.id
    }

    async fn send(&self, sender: &Person, conversation: domain::ConversationId, key: &str) {
        let client_key = ClientKey::new(&[], key.to_owned()).expect("a key");
        let text = MessageText::new(&[], "hello".to_owned()).expect("a text");
        self.chat
            .send_message(&sender.caller, SendMessage { conversation, client_key, text })
            .await
            .expect("sent");
    }

    /// A socket that is subscribed and live; and what came before it was.
    async fn subscribe(&self, person: &Person, document: &str, variables: Value) -> (Socket, Vec<Value>) {
        let mut socket = Socket::initialised(self, Some(&person.token)).await;
        let payload = json!({ "query": document, "variables": variables });
        socket.say(json!({ "id": "1", "type": "subscribe", "payload": payload })).await;
        let mut before = Vec::new();
        loop {
            let event = socket.event().await;
            let live = event["__typename"] == "StreamLive";
            before.push(event);
            if live {
                return (socket, before);
            }
        }
    }
}

impl Socket {
    async fn event(&mut self) -> Value {
        let message = self.hear().await;
        assert_eq!(message["type"], "next", "{message}");
        assert!(message["payload"].get("errors").is_none(), "{message}");
        message["payload"]["data"]["events"].clone()
    }
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["__typename"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_executed_once_for_all_who_see_the_same() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let mut sockets = Vec::new();
    for index in 0..100 {
        let person = if index % 2 == 0 { &ada } else { &bob };
        sockets.push(node.subscribe(person, SUBSCRIPTION, json!({})).await.0);
    }
    let (executions, deliveries) =
        (node.hub.metrics().executions_total(), node.hub.metrics().deliveries_total());
    node.send(&ada, id, "k").await;
    for socket in &mut sockets {
        assert_eq!(socket.event().await["message"]["clientMessageId"], "k");
    }
    assert_eq!(node.hub.metrics().executions_total() - executions, 1);
    assert_eq!(node.hub.metrics().deliveries_total() - deliveries, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_depends_on_the_viewer_is_executed_for_each() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (mut of_ada, _) = node.subscribe(&ada, OWN_VIEW, json!({})).await;
    let (mut of_bob, _) = node.subscribe(&bob, OWN_VIEW, json!({})).await;
    let executions = node.hub.metrics().executions_total();
    node.send(&ada, id, "k").await;
    assert_eq!(of_ada.event().await["conversation"]["unreadCount"], 0);
    assert_eq!(of_bob.event().await["conversation"]["unreadCount"], 1);
    assert_eq!(node.hub.metrics().executions_total() - executions, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_resumes_without_a_hole() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let conversations =
        [node.group(&ada, &bob).await, node.group(&ada, &bob).await, node.group(&ada, &bob).await];
    let (_, opened) = node.subscribe(&bob, SUBSCRIPTION, json!({})).await;
    assert_eq!(names(&opened), ["StreamOpened", "StreamLive"]);
    for round in 0..5 {
        for (index, id) in conversations.iter().enumerate() {
            node.send(&ada, *id, &format!("k{round}-{index}")).await;
        }
    }
    let start = opened[1]["cursor"].clone();
    let (_, all) = node.subscribe(&bob, SUBSCRIPTION, json!({ "after": start })).await;
    assert_eq!(all.len(), 2 + 15);
    let identity = |event: &Value| (event["conversation"]["id"].to_string(), event["rev"].as_i64());
    // Cut after each event: what comes then, together with what came before, is everything.
    for cut in 0..all.len() - 1 {
        let after = json!({ "after": all[cut]["cursor"] });
        let (_, rest) = node.subscribe(&bob, SUBSCRIPTION, after).await;
        let seen: Vec<_> = all[1..=cut]
            .iter()
            .chain(&rest[1..rest.len() - 1])
            .filter(|event| event["rev"].is_i64())
            .collect();
        let distinct: std::collections::BTreeSet<_> = seen.iter().map(|event| identity(event)).collect();
        assert_eq!(distinct.len(), 15, "after event {cut}");
        assert_eq!(seen.len(), 15, "a cut replay goes on where it stopped");
    }
    let done = json!({ "after": all.last().expect("StreamLive")["cursor"] });
    let (_, nothing) = node.subscribe(&bob, SUBSCRIPTION, done).await;
    assert_eq!(names(&nothing), ["StreamOpened", "StreamLive"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_removed_hears_of_it_once_and_of_nothing_later() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let (id, other) = (node.group(&ada, &bob).await, node.group(&ada, &bob).await);
    let (mut socket, opened) = node.subscribe(&bob, SUBSCRIPTION, json!({})).await;
    let remove = RemoveMember { conversation: id, user: bob.caller.user };
    node.chat.remove_member(&ada.caller, remove).await.expect("removed");
    node.send(&ada, id, "secret").await;
    node.send(&ada, other, "open").await;
    let removed = socket.event().await;
    assert_eq!(removed["__typename"], "MemberRemoved");
    assert_eq!(removed["conversation"]["lastSeq"], 0, "a stub");
    assert_eq!(socket.event().await["message"]["clientMessageId"], "open");
    let after = json!({ "after": opened[1]["cursor"] });
    let (_, replayed) = node.subscribe(&bob, SUBSCRIPTION, after).await;
    let mut told = names(&replayed);
    told.sort_unstable();
    assert_eq!(told, ["MemberRemoved", "MessageSent", "StreamLive", "StreamOpened"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_shows_only_its_conversations_and_takes_a_cursor_without_one() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let (wanted, other) = (node.group(&ada, &bob).await, node.group(&ada, &bob).await);
    let (_, opened) = node.subscribe(&bob, SUBSCRIPTION, json!({})).await;
    node.send(&ada, other, "other").await;
    node.send(&ada, wanted, "wanted").await;
    let variables = json!({ "after": opened[1]["cursor"], "ids": [wanted.to_string()] });
    let (mut socket, missed) = node.subscribe(&bob, SUBSCRIPTION, variables).await;
    assert_eq!(names(&missed), ["StreamOpened", "MessageSent", "StreamLive"]);
    node.send(&ada, other, "other2").await;
    node.send(&ada, wanted, "wanted2").await;
    assert_eq!(socket.event().await["message"]["clientMessageId"], "wanted2");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_senders_arrive_in_order_of_seq() {
    let node = Arc::new(node().await);
    let (ada, bob) = (Arc::new(node.person("ada").await), node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (mut socket, _) = node.subscribe(&bob, SUBSCRIPTION, json!({})).await;
    let sends = (0..200).map(|index| {
        let (node, ada) = (node.clone(), ada.clone());
        async move { node.send(&ada, id, &format!("k{index}")).await }
    });
    let (_, seqs) = tokio::join!(futures_util::future::join_all(sends), async {
        let mut seqs = Vec::new();
        for _ in 0..200 {
            seqs.push(socket.event().await["message"]["seq"].as_i64().unwrap_or(0));
        }
        seqs
    });
    assert_eq!(seqs, (1..=200).collect::<Vec<_>>());
}
