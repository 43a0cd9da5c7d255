//! What is unread in all conversations together: whose it is, and how events keep a badge right on every device.

use std::collections::{BTreeMap, BTreeSet};

use domain::service::{add_members::AddMembers, mark_read::MarkRead, remove_member::RemoveMember};
use reqwest::header;
use serde_json::{Value, json};

use crate::{
    people::{Person, node},
    test_server::{JSON, TestServer, answer},
};

/// As `docs/live.md` tells clients.
const BADGE: &str = "subscription { events { __typename cursor
    ... on ConversationEvent { rev conversation { id } }
    ... on MessageSent { message { seq sender { id } } }
    ... on ReadMarked { user { id } readSeq }
    ... on MemberRemoved { user { id } } } }";

async fn ask(node: &TestServer, person: &Person, query: &str) -> Value {
    let request = node.post(JSON, json!({ "query": query }).to_string());
    answer(request.header(header::AUTHORIZATION, format!("Bearer {}", person.token))).await.json()
}

async fn total(node: &TestServer, person: &Person) -> usize {
    let answer = ask(node, person, "{ viewer { totalUnreadCount } }").await;
    let total = answer["data"]["viewer"]["totalUnreadCount"].as_u64();
    usize::try_from(total.unwrap_or_else(|| panic!("{answer}"))).expect("small")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_total_is_told_to_the_viewer_alone() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let (one, other) = (node.group(&ada, &bob).await, node.group(&ada, &bob).await);
    for (id, key) in [(one, "a"), (one, "b"), (other, "c")] {
        node.send(&ada, id, key).await;
    }
    let query = "{ viewer { username totalUnreadCount }
        ada: user(by: { username: \"ada\" }) { totalUnreadCount } bob: user(by: { username: \"bob\" }) { totalUnreadCount }
        conversations { nodes { unreadCount members { nodes { user { username totalUnreadCount } } } } } }";
    for (person, own, total) in [(&ada, "ada", 0), (&bob, "bob", 3)] {
        let data = ask(&node, person, query).await["data"].clone();
        assert_eq!(data["viewer"], json!({ "username": own, "totalUnreadCount": total }));
        for name in ["ada", "bob"] {
            let shown = if name == own { json!(total) } else { Value::Null };
            assert_eq!(data[name]["totalUnreadCount"], shown, "{name} to {own}");
        }
        let groups = data["conversations"]["nodes"].as_array().expect("groups");
        let sum: i64 = groups.iter().filter_map(|group| group["unreadCount"].as_i64()).sum();
        assert_eq!(sum, total);
        for member in groups.iter().flat_map(|group| group["members"]["nodes"].as_array().expect("members")) {
            let is_own = member["user"]["username"] == own;
            assert_eq!(member["user"]["totalUnreadCount"].is_null(), !is_own, "{member}");
        }
    }
}

/// What a device makes of events, without asking: the `seq` of others' messages, and how far its user has read.
#[derive(Default)]
struct Badge {
    me: String,
    conversations: BTreeMap<String, (BTreeSet<i64>, i64)>,
}

impl Badge {
    fn apply(&mut self, event: &Value) {
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let conversation = text("/conversation/id");
        match event["__typename"].as_str().unwrap_or_default() {
            "MessageSent" => {
                let (unread, read_seq) = self.conversations.entry(conversation).or_default();
                let seq = event["message"]["seq"].as_i64().expect("a seq");
                // A system message has no sender, and is not counted.
                let sender = event.pointer("/message/sender/id").and_then(Value::as_str);
                if sender.is_some_and(|sender| sender == self.me) {
                    *read_seq = seq.max(*read_seq);
                } else if sender.is_some() {
                    unread.insert(seq);
                }
            }
            "ReadMarked" if text("/user/id") == self.me => {
                let (_, read_seq) = self.conversations.entry(conversation).or_default();
                *read_seq = event["readSeq"].as_i64().expect("a seq").max(*read_seq);
            }
            "MemberRemoved" if text("/user/id") == self.me => drop(self.conversations.remove(&conversation)),
            _ => {}
        }
    }

    fn total(&self) -> usize {
        self.conversations.values().map(|(unread, read_seq)| unread.range(read_seq + 1..).count()).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_move_the_badge_of_every_device_as_the_total_moves() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let tablet = node.device("bob").await;
    let (one, other) = (node.group(&ada, &bob).await, node.group(&ada, &bob).await);
    let mut devices = Vec::new();
    for device in [&bob, &tablet] {
        let badge = Badge { me: bob.caller.user.to_string(), ..Badge::default() };
        devices.push((node.subscribe(device, BADGE, json!({})).await.0, badge));
    }
    for step in 0..8 {
        match step {
            0 => node.send(&ada, one, "a").await,
            1 => node.send(&ada, other, "b").await,
            2 => drop(
                node.chat
                    .mark_read(&bob.caller, MarkRead { conversation: one, seq: 1 })
                    .await
                    .expect("reads"),
            ),
            3 => node.send(&ada, one, "c").await,
            // Who sends has read what came before.
            4 => node.send(&bob, one, "d").await,
            5 => {
                let remove = RemoveMember { conversation: other, user: bob.caller.user };
                node.chat.remove_member(&ada.caller, remove).await.expect("removed");
            }
            6 => {
                node.send(&ada, other, "unseen").await;
                let add = AddMembers { conversation: other, users: vec![bob.caller.user] };
                node.chat.add_members(&ada.caller, add).await.expect("added");
            }
            _ => node.send(&ada, other, "e").await,
        }
        let expected = total(&node, &bob).await;
        assert_eq!(expected, [1, 2, 1, 2, 1, 0, 0, 1][step], "step {step}");
        assert_eq!(total(&node, &tablet).await, expected, "step {step}");
        // Each step ends with an event of its own.
        let last = [
            "MessageSent",
            "MessageSent",
            "ReadMarked",
            "MessageSent",
            "MessageSent",
            "MemberRemoved",
            "MessageSent",
            "MessageSent",
        ];
        for (socket, badge) in &mut devices {
            loop {
                let event = socket.event().await;
                badge.apply(&event);
                if event["__typename"] == last[step] {
                    break;
                }
            }
            assert_eq!(badge.total(), expected, "step {step}");
        }
    }
}
