//! Who is there and who is typing, as clients of one node see it.

use std::{sync::Arc, time::Duration};

use api::{hub::HubLimits, settings::Settings};
use domain::{
    ConversationId, Limits, PRESENCE_INTERVAL, Rate, Switches, TYPING_LIFE, Title,
    adapter::ambient::SystemClock,
    service::{add_members::AddMembers, create_group::CreateGroup, remove_member::RemoveMember},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{
    people::{Person, SUBSCRIPTION},
    socket::Socket,
    test_server::{JSON, TestServer, USERS_MAX, answer},
};

const ACTIVITY: &str = "subscription($users: [ID!], $conversations: [ID!]) {
    activity(userIds: $users, conversationIds: $conversations) { __typename
        ... on ActivityOpened { presences { user { id displayName } presence { state lastSeenAt } } }
        ... on PresenceChanged { user { id } presence { state lastSeenAt } }
        ... on TypingChanged { conversation { id title } user { id displayName } typing } } }";

/// A moment in which what must not come would have come.
const A_MOMENT: Duration = Duration::from_millis(300);

impl TestServer {
    async fn asks(&self, person: &Person, query: &str, variables: Value) -> Value {
        let request = self.post(JSON, json!({ "query": query, "variables": variables }).to_string());
        answer(request.bearer_auth(&person.token)).await.json()
    }

    /// Somebody's presence as another one is told.
    async fn presence(&self, viewer: &Person, of: &Person) -> Value {
        let query = "query($id: ID!) { user(by: { id: $id }) { presence { state lastSeenAt } } }";
        let found = self.asks(viewer, query, json!({ "id": of.caller.user.to_string() })).await;
        assert!(found["errors"].is_null(), "{found}");
        found["data"]["user"]["presence"].clone()
    }

    async fn types(&self, person: &Person, conversation: ConversationId, typing: bool) -> Value {
        let mutation = "mutation($input: SetTypingInput!) { setTyping(input: $input) { expiresAt userErrors { code } } }";
        let input = json!({ "conversationId": conversation.to_string(), "typing": typing });
        self.asks(person, mutation, json!({ "input": input })).await
    }

    async fn hides(&self, person: &Person, how: &str) {
        let mutation = "mutation($how: PresenceVisibility!) {
            setPresenceVisibility(input: { presenceVisibility: $how }) { presenceVisibility userErrors { code } } }";
        let done = self.asks(person, mutation, json!({ "how": how })).await;
        assert_eq!(done["data"]["setPresenceVisibility"]["presenceVisibility"], how, "{done}");
        let kept = self.asks(person, "{ presenceVisibility }", json!({})).await;
        assert_eq!(kept["data"]["presenceVisibility"], how);
    }

    /// A subscription that is open; and what it began with.
    async fn watches(&self, viewer: &Person, users: &[&Person], rooms: &[ConversationId]) -> (Socket, Value) {
        let mut socket = Socket::initialised(self, Some(&viewer.token)).await;
        socket.subscribe("1", ACTIVITY, asked(users, rooms)).await;
        let opened = socket.activity().await;
        assert_eq!(opened["__typename"], "ActivityOpened", "{opened}");
        (socket, opened["presences"].clone())
    }

    /// What a subscription that cannot be opened is told.
    async fn refuses(&self, viewer: Option<&Person>, variables: Value) -> String {
        let mut socket = Socket::initialised(self, viewer.map(|viewer| &*viewer.token)).await;
        socket.subscribe("1", ACTIVITY, variables).await;
        let message = socket.hear().await;
        assert_eq!(message["type"], "error", "{message}");
        message["payload"][0]["extensions"]["code"].as_str().expect("a code").to_owned()
    }

    async fn direct(&self, one: &Person, other: &Person) -> ConversationId {
        let opened = self.chat.open_direct_conversation(&one.caller, other.caller.user).await;
        opened.expect("opens").conversation.id
    }

    /// On a socket that stays open, there for others to see.
    async fn arrives(&self, person: &Person) -> Socket {
        self.subscribe(person, SUBSCRIPTION, json!({})).await.0
    }
}

impl Socket {
    async fn activity(&mut self) -> Value {
        let message = self.hear().await;
        assert_eq!(message["type"], "next", "{message}");
        assert!(message["payload"].get("errors").is_none(), "{message}");
        message["payload"]["data"]["activity"].clone()
    }

    async fn says(&mut self, id: &str, mutation: &str) -> Value {
        self.subscribe(id, mutation, json!({})).await;
        let answer = self.hear().await;
        assert_eq!(self.hear().await["type"], "complete");
        answer["payload"].clone()
    }

    async fn hears_nothing(&mut self) {
        if let Ok(message) = timeout(A_MOMENT, self.hear()).await {
            panic!("{message}");
        }
    }

    async fn hears_of_typing(&mut self, whose: &Person, room: ConversationId, typing: bool) {
        let event = self.activity().await;
        assert_eq!(event["__typename"], "TypingChanged", "{event}");
        assert_eq!(event["conversation"]["id"], room.to_string(), "{event}");
        assert_eq!(event["user"]["id"], whose.caller.user.to_string(), "{event}");
        assert_eq!(event["typing"], typing, "{event}");
    }

    /// The state told; null when nothing is any more.
    async fn hears_of(&mut self, whom: &Person) -> Value {
        let event = self.activity().await;
        assert_eq!(event["__typename"], "PresenceChanged", "{event}");
        assert_eq!(event["user"]["id"], whom.caller.user.to_string(), "{event}");
        event["presence"]["state"].clone()
    }
}

fn asked(users: &[&Person], rooms: &[ConversationId]) -> Value {
    let users: Vec<String> = users.iter().map(|person| person.caller.user.to_string()).collect();
    let rooms: Vec<String> = rooms.iter().map(ToString::to_string).collect();
    json!({ "users": users, "conversations": rooms })
}

async fn three() -> (TestServer, Person, Person, Person) {
    let server = TestServer::start().await;
    let (ada, bob, cy) = (server.person("ada").await, server.person("bob").await, server.person("cy").await);
    (server, ada, bob, cy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_is_told_who_comes_and_who_is_away() {
    let (server, ada, bob, _) = three().await;
    let room = server.direct(&ada, &bob).await;
    let (mut by_user, before) = server.watches(&ada, &[&bob], &[]).await;
    assert_eq!(before[0]["user"]["displayName"], "bob");
    assert_eq!(before[0]["presence"]["state"], "OFFLINE");
    assert!(before[0]["presence"]["lastSeenAt"].is_string(), "when bob registered: {before}");
    assert_eq!(server.presence(&ada, &bob).await, before[0]["presence"], "a query says the same");
    let (mut by_room, before) = server.watches(&ada, &[], &[room]).await;
    assert_eq!(before.as_array().expect("a list").len(), 2, "both members: {before}");
    // Her own subscription to `activity` makes nobody present: apps that are closed have no events.
    let mut socket = server.arrives(&bob).await;
    for watching in [&mut by_user, &mut by_room] {
        assert_eq!(watching.hears_of(&bob).await, "ONLINE");
    }
    assert_eq!(server.presence(&ada, &bob).await, json!({ "state": "ONLINE", "lastSeenAt": null }));
    let away = "mutation { setPresence(input: { away: true }) { userErrors { code } } }";
    let said = socket.says("2", away).await;
    assert_eq!(said["data"]["setPresence"]["userErrors"], json!([]), "{said}");
    for watching in [&mut by_user, &mut by_room] {
        assert_eq!(watching.hears_of(&bob).await, "AWAY");
    }
    let over_http = server.asks(&bob, away, json!({})).await;
    assert_eq!(over_http["errors"][0]["extensions"]["code"], "BAD_REQUEST", "no session's socket is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_user_are_told_at_most_once_a_second_and_the_last_one_always() {
    let (server, ada, bob, _) = three().await;
    server.direct(&ada, &bob).await;
    let (mut watching, _) = server.watches(&ada, &[&bob], &[]).await;
    let _events = server.arrives(&bob).await;
    assert_eq!(watching.hears_of(&bob).await, "ONLINE");
    let first = Instant::now();
    for away in (0..50).map(|round| round % 2 == 0).chain([true]) {
        server.chat.set_away(&bob.caller, away);
    }
    assert_eq!(watching.hears_of(&bob).await, "AWAY");
    // The first was told a moment after it was so.
    assert!(first.elapsed() + A_MOMENT > PRESENCE_INTERVAL, "{:?}", first.elapsed());
    server.chat.set_away(&bob.caller, false);
    server.chat.set_away(&bob.caller, true);
    timeout(PRESENCE_INTERVAL * 2, watching.hear()).await.expect_err("nothing has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_look_like_nobody_and_bad_ids_are_told() {
    let (server, ada, bob, cy) = three().await;
    let room = server.group(&bob, &cy).await;
    let missing = json!({ "users": ["usr_7777777777777"] });
    let unknown = server.refuses(Some(&ada), missing).await;
    assert!(unknown == "NOT_FOUND" || unknown == "BAD_REQUEST", "{unknown}");
    for (viewer, variables, code) in [
        (Some(&ada), asked(&[&bob], &[]), "NOT_FOUND"),
        (Some(&ada), asked(&[], &[room]), "NOT_FOUND"),
        (Some(&ada), asked(&[], &[ConversationId::group(7)]), "NOT_FOUND"),
        (Some(&ada), json!({}), "BAD_REQUEST"),
        (Some(&ada), json!({ "users": [room.to_string()] }), "BAD_REQUEST"),
        (Some(&ada), json!({ "users": vec![ada.caller.user.to_string(); 101] }), "BAD_REQUEST"),
        (None, asked(&[&bob], &[]), "UNAUTHENTICATED"),
    ] {
        assert_eq!(server.refuses(viewer, variables.clone()).await, code, "{variables}");
    }
    assert_eq!(server.presence(&ada, &bob).await, Value::Null);
    assert_ne!(server.presence(&ada, &ada).await, Value::Null, "one's own is known");
    let answer = server.types(&ada, room, true).await;
    assert_eq!(answer["data"]["setTyping"]["userErrors"][0]["code"], "NOT_FOUND", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_removed_hears_nothing_more() {
    let (server, ada, bob, cy) = three().await;
    let room = server.group(&ada, &bob).await;
    let add = AddMembers { conversation: room, users: vec![cy.caller.user] };
    server.chat.add_members(&ada.caller, add).await.expect("adds");
    let (mut removed, _) = server.watches(&bob, &[], &[room]).await;
    let (mut member, _) = server.watches(&cy, &[], &[room]).await;
    let _events = server.arrives(&ada).await;
    for watching in [&mut removed, &mut member] {
        assert_eq!(watching.hears_of(&ada).await, "ONLINE");
    }
    let remove = RemoveMember { conversation: room, user: bob.caller.user };
    server.chat.remove_member(&ada.caller, remove).await.expect("removes");
    // Of nobody in it anything is told any more: that is all that is said.
    for _ in 0..3 {
        let event = removed.activity().await;
        assert_eq!((&event["__typename"], &event["presence"]), (&json!("PresenceChanged"), &Value::Null));
    }
    assert_eq!(member.hears_of(&bob).await, Value::Null, "and the others know nothing more of who is gone");
    server.types(&ada, room, true).await;
    member.hears_of_typing(&ada, room, true).await;
    server.chat.set_away(&ada.caller, true);
    assert_eq!(member.hears_of(&ada).await, "AWAY");
    removed.hears_nothing().await;
    assert_eq!(server.presence(&bob, &ada).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hides_is_told_to_nobody_and_who_joins_is() {
    let (server, ada, bob, cy) = three().await;
    let room = server.group(&ada, &bob).await;
    let (mut watching, _) = server.watches(&ada, &[], &[room]).await;
    let _events = server.arrives(&bob).await;
    assert_eq!(watching.hears_of(&bob).await, "ONLINE");
    server.hides(&bob, "NOBODY").await;
    assert_eq!(watching.hears_of(&bob).await, Value::Null);
    assert_eq!(server.presence(&ada, &bob).await, Value::Null);
    assert_ne!(server.presence(&bob, &bob).await, Value::Null, "to oneself one shows");
    let (_, before) = server.watches(&ada, &[&bob], &[]).await;
    assert_eq!(before, json!([]), "asked for, and not shown");
    server.hides(&bob, "EVERYONE_I_TALK_TO").await;
    assert_eq!(watching.hears_of(&bob).await, "ONLINE");
    let _there = server.arrives(&cy).await;
    let add = AddMembers { conversation: room, users: vec![cy.caller.user] };
    server.chat.add_members(&ada.caller, add).await.expect("adds");
    assert_eq!(watching.hears_of(&cy).await, "ONLINE");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_told_to_others_and_ends() {
    let (server, ada, bob, _) = three().await;
    let room = server.direct(&ada, &bob).await;
    let (mut other, _) = server.watches(&ada, &[], &[room]).await;
    let (mut own, _) = server.watches(&bob, &[], &[room]).await;
    let begun = server.types(&bob, room, true).await;
    assert!(begun["data"]["setTyping"]["expiresAt"].is_string(), "{begun}");
    other.hears_of_typing(&bob, room, true).await;
    server.types(&bob, room, true).await;
    let ended = server.types(&bob, room, false).await;
    assert_eq!(ended["data"]["setTyping"], json!({ "expiresAt": null, "userErrors": [] }));
    other.hears_of_typing(&bob, room, false).await;
    // A message ends it.
    server.types(&bob, room, true).await;
    other.hears_of_typing(&bob, room, true).await;
    server.send(&bob, room, "said").await;
    other.hears_of_typing(&bob, room, false).await;
    // And so does time.
    server.types(&bob, room, true).await;
    other.hears_of_typing(&bob, room, true).await;
    let told = Instant::now();
    other.hears_of_typing(&bob, room, false).await;
    assert!(told.elapsed() + Duration::from_secs(1) > TYPING_LIFE, "{:?}", told.elapsed());
    own.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_large_group_nobody_is_told() {
    let limits = Limits { rate_limits: false, fanout_inline_members_max: 2, ..Limits::default() };
    let (clock, settings) = (Arc::new(SystemClock), Settings::default());
    let server = TestServer::of(clock, settings, HubLimits::default(), limits).await;
    let (ada, bob, cy) = (server.person("ada").await, server.person("bob").await, server.person("cy").await);
    let small = server.group(&ada, &bob).await;
    let large = server.group(&ada, &bob).await;
    let add = AddMembers { conversation: large, users: vec![cy.caller.user] };
    server.chat.add_members(&ada.caller, add).await.expect("adds");
    let (mut watching, before) = server.watches(&ada, &[], &[large, small]).await;
    assert_eq!(before.as_array().expect("a list").len(), 2, "members of the small one: {before}");
    let silent = server.types(&bob, large, true).await;
    assert_eq!(silent["data"]["setTyping"], json!({ "expiresAt": null, "userErrors": [] }));
    server.types(&bob, small, true).await;
    watching.hears_of_typing(&bob, small, true).await;
    assert_eq!(server.presence(&ada, &cy).await, Value::Null);
    assert_eq!(server.refuses(Some(&ada), asked(&[&cy], &[])).await, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_and_watching_have_bounds() {
    let rate = Rate { burst: 3, refill: Duration::from_mins(1) };
    let limits = Limits { typing_rate: rate, ..Limits::default() };
    let (clock, settings) = (Arc::new(SystemClock), Settings::default());
    let server = TestServer::of(clock, settings, HubLimits::default(), limits).await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let room = server.direct(&ada, &bob).await;
    for _ in 0..3 {
        assert!(server.types(&ada, room, true).await["data"]["setTyping"]["expiresAt"].is_string());
    }
    let refused = server.types(&ada, room, true).await;
    let error = &refused["data"]["setTyping"]["userErrors"][0];
    assert_eq!(error["code"], "RATE_LIMITED", "{refused}");
    let mut members = Vec::new();
    for number in 0..=USERS_MAX {
        members.push(server.person(&format!("member{number}")).await.caller.user);
    }
    let title = Title::new("Many".to_owned()).expect("a title");
    let group = CreateGroup { title, members, client_key: None };
    let many = server.chat.create_group(&ada.caller, group).await.expect("a group").conversation.id;
    assert_eq!(server.refuses(Some(&ada), asked(&[], &[many])).await, "LIMIT_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_off_is_told_no_more_and_on_again_anew() {
    let (server, ada, bob, _) = three().await;
    let room = server.direct(&ada, &bob).await;
    let (mut watching, _) = server.watches(&ada, &[&bob], &[]).await;
    let (mut listening, _) = server.watches(&ada, &[], &[room]).await;
    let _events = server.arrives(&bob).await;
    assert_eq!(watching.hears_of(&bob).await, "ONLINE");
    assert_eq!(listening.hears_of(&bob).await, "ONLINE");
    server.types(&bob, room, true).await;
    listening.hears_of_typing(&bob, room, true).await;
    server.switches.send_replace(Switches { presence: true, typing: false });
    listening.hears_of_typing(&bob, room, false).await;
    let silent = server.types(&bob, room, true).await;
    assert_eq!(silent["data"]["setTyping"], json!({ "expiresAt": null, "userErrors": [] }));
    server.switches.send_replace(Switches { presence: false, typing: false });
    assert_eq!(watching.hears_of(&bob).await, Value::Null);
    assert_eq!(server.presence(&ada, &bob).await, Value::Null);
    let (_, before) = server.watches(&ada, &[&bob], &[]).await;
    assert_eq!(before, json!([]));
    server.switches.send_replace(Switches::default());
    assert_eq!(watching.hears_of(&bob).await, "ONLINE");
}
