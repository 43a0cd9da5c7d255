//! Live delivery through real sockets: executed once, delivered to all, resumed without a hole.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use api::{hub::HubLimits, settings::Settings};
use async_trait::async_trait;
use domain::{
    ConversationId, Limits,
    adapter::ambient::SystemClock,
    port::{
        Cache,
        cache::{CacheAway, CacheKey, Cached, Kept},
    },
    service::{add_members::AddMembers, remove_member::RemoveMember},
};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::{
    people::{OWN_VIEW, Person, SUBSCRIPTION, names, node},
    socket::Socket,
    test_server::{Shared, TestServer},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_executed_once_for_1000_who_see_the_same() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (mut audience, begun) = (Audience::default(), Instant::now());
    for _ in 0..5 {
        audience.listen(&node, &ada, SUBSCRIPTION, OPERATIONS).await;
        audience.listen(&node, &bob, SUBSCRIPTION, OPERATIONS).await;
    }
    let opening = node.hub.metrics().executions_total();
    // A beginning and an end, each once a second.
    let most = 2 * (begun.elapsed().as_secs() + 1);
    assert!(opening <= most, "{opening} executions until all were live, not {most}");
    assert_eq!(audience.after_a_message(&node, &ada, id).await, Work { executions: 1, deliveries: 1000 });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_executed_once_for_each_of_two_documents_of_1000() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let mut audience = Audience::default();
    for person in [&ada, &bob].repeat(5) {
        audience.listen(&node, person, SUBSCRIPTION, OPERATIONS / 2).await;
        audience.listen(&node, person, KEYS, OPERATIONS / 2).await;
    }
    assert_eq!(audience.after_a_message(&node, &ada, id).await, Work { executions: 2, deliveries: 1000 });
}

/// Says nothing of users until so many have been asked for at once.
struct Together(Barrier);

#[async_trait]
impl Cache for Together {
    async fn get(&self, keys: &[CacheKey]) -> Result<Vec<Option<Cached>>, CacheAway> {
        if keys.iter().any(|key| matches!(key, CacheKey::User(_))) {
            self.0.wait().await;
        }
        Ok(vec![None; keys.len()])
    }

    async fn put(&self, _copies: Vec<Kept>) {}

    async fn void(&self, _keys: &[(CacheKey, i32)]) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_wait_for_a_name_do_not_wait_for_each_other() {
    let (settings, hub) = (Settings::default(), HubLimits::default());
    let limits = Limits { rate_limits: false, ..Limits::default() };
    let shared = Shared { cache: Some(Arc::new(Together(Barrier::new(SENDERS)))), ..Shared::default() };
    let node = Box::pin(TestServer::sharing(Arc::new(SystemClock), settings, hub, limits, shared)).await;
    let ada = node.person("ada").await;
    let mut senders = Vec::new();
    for sender in 0..SENDERS {
        senders.push(node.person(&format!("sender{sender}")).await);
    }
    let id = node.group(&ada, &senders[0]).await;
    let users = senders.iter().map(|sender| sender.caller.user).collect();
    node.chat.add_members(&ada.caller, AddMembers { conversation: id, users }).await.expect("added");
    let (mut socket, _) = node.subscribe(&ada, SUBSCRIPTION, json!({})).await;
    for (number, sender) in senders.iter().enumerate() {
        node.send(sender, id, &format!("k{number}")).await;
    }
    for number in 0..SENDERS {
        let message = &socket.event().await["message"];
        assert_eq!(message["clientMessageId"], format!("k{number}"), "in their order");
        assert_eq!(message["sender"]["displayName"], format!("sender{number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_the_viewer_is_executed_once_for_each_viewer_of_1000() {
    let node = node().await;
    let ada = node.person("ada").await;
    let mut audience = Audience::default();
    let mut members = Vec::new();
    for viewer in 0..10 {
        members.push(node.person(&format!("viewer{viewer}")).await);
    }
    let id = node.group(&ada, &members[0]).await;
    let users = members.iter().map(|member| member.caller.user).collect();
    node.chat.add_members(&ada.caller, AddMembers { conversation: id, users }).await.expect("added");
    for member in &members {
        audience.listen(&node, member, OWN_VIEW, OPERATIONS).await;
    }
    assert_eq!(audience.after_a_message(&node, &ada, id).await, Work { executions: 10, deliveries: 1000 });
    for event in audience.heard {
        assert_eq!(event["conversation"]["unreadCount"], 1, "{event}");
    }
}

/// As many as a socket may have.
const OPERATIONS: usize = 100;
/// Whose names are wanted at once.
const SENDERS: usize = 8;

/// The node opens few at once, and those that wait for too long are refused.
const OPENED_AT_ONCE: usize = 5;

/// Another document that a message has something to say to.
const KEYS: &str =
    "subscription { events { __typename cursor ... on MessageSent { message { clientMessageId } } } }";

/// What one event took.
#[derive(Debug, PartialEq, Eq)]
struct Work {
    executions: u64,
    deliveries: u64,
}

/// Sockets with many subscriptions each, all of them live.
#[derive(Default)]
struct Audience {
    sockets: Vec<(Socket, usize)>,
    heard: Vec<Value>,
}

impl Audience {
    async fn listen(&mut self, node: &TestServer, person: &Person, document: &str, operations: usize) {
        let mut socket = Socket::initialised(node, Some(&person.token)).await;
        for first in (0..operations).step_by(OPENED_AT_ONCE) {
            for operation in first..first + OPENED_AT_ONCE {
                socket.subscribe(&operation.to_string(), document, json!({})).await;
            }
            let mut live = 0;
            while live < OPENED_AT_ONCE {
                live += usize::from(socket.event().await["__typename"] == "StreamLive");
            }
        }
        self.sockets.push((socket, operations));
    }

    /// Each subscription hears of the message once.
    async fn after_a_message(&mut self, node: &TestServer, sender: &Person, id: ConversationId) -> Work {
        let metrics = node.hub.metrics();
        let (executions, deliveries) = (metrics.executions_total(), metrics.deliveries_total());
        node.send(sender, id, "k").await;
        for (socket, operations) in &mut self.sockets {
            let mut told = BTreeSet::new();
            for _ in 0..*operations {
                let message = socket.hear().await;
                let event = &message["payload"]["data"]["events"];
                assert_eq!(
                    (&message["type"], message["payload"].get("errors")),
                    (&json!("next"), None),
                    "{message}"
                );
                assert!(told.insert(message["id"].to_string()), "told twice: {message}");
                self.heard.push(event.clone());
            }
        }
        Work {
            executions: metrics.executions_total() - executions,
            deliveries: metrics.deliveries_total() - deliveries,
        }
    }
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
        let distinct: BTreeSet<_> = seen.iter().map(|event| identity(event)).collect();
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
async fn a_filter_with_a_conversation_of_others_ends_with_not_found() {
    let node = node().await;
    let (ada, bob, eve) = (node.person("ada").await, node.person("bob").await, node.person("eve").await);
    let (id, own) = (node.group(&ada, &bob).await, node.group(&eve, &bob).await);
    let missing = ConversationId::group(12_345).to_string();
    let mut socket = Socket::initialised(&node, Some(&eve.token)).await;
    let mut answers = Vec::new();
    for wanted in [json!([id.to_string()]), json!([missing]), json!([own.to_string(), id.to_string()])] {
        socket.subscribe("1", SUBSCRIPTION, json!({ "ids": wanted })).await;
        let refused = socket.hear().await;
        assert_eq!(
            (&refused["type"], &refused["payload"][0]["extensions"]["code"]),
            (&json!("error"), &json!("NOT_FOUND")),
            "{refused}"
        );
        answers.push(refused);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "nobody can tell which exist: {answers:?}");
    for malformed in [json!(["nonsense"]), json!([eve.caller.user.to_string()]), json!([""])] {
        socket.subscribe("1", SUBSCRIPTION, json!({ "ids": malformed })).await;
        let refused = socket.hear().await;
        assert_eq!(refused["payload"][0]["extensions"]["code"], "BAD_REQUEST", "{refused}");
    }
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
