//! People who talk to each other on a node of a test, and their subscriptions.

use std::sync::Arc;

use api::{
    hub::HubLimits,
    settings::{Settings, SocketSettings},
};
use domain::{
    Caller, Chat, ClientKey, ConversationId, Credentials, Limits, Mentions, MessageText, Title,
    adapter::ambient::SystemClock,
    service::{
        create_group::CreateGroup,
        register::{Register, SignedIn},
        send_message::SendMessage,
        sign_in::SignIn,
    },
};
use serde_json::{Value, json};

use crate::{socket::Socket, test_server::TestServer};

/// What most tests look at.
pub const SUBSCRIPTION: &str =
    "subscription($after: EventCursor, $ids: [ID!]) { events(after: $after, conversationIds: $ids) {
    __typename cursor
    ... on ConversationEvent { rev conversation { id lastSeq } }
    ... on MessageSent { message { seq clientMessageId sender { displayName } } } } }";

/// As above, with a field that depends on the viewer.
pub const OWN_VIEW: &str =
    "subscription($after: EventCursor, $ids: [ID!]) { events(after: $after, conversationIds: $ids) {
    __typename cursor ... on ConversationEvent { rev conversation { unreadCount } } } }";

pub const TEXTS: &str = "subscription($after: EventCursor) { events(after: $after) { __typename cursor
    ... on MessageSent { message { seq content { ... on TextContent { text } } } } } }";

pub async fn node() -> TestServer {
    let sockets = SocketSettings { per_user_max: 1000, ..SocketSettings::default() };
    TestServer::with(Settings { sockets, ..Settings::default() }).await
}

/// Somebody who is signed in.
pub struct Person {
    pub caller: Caller,
    pub token: String,
}

impl TestServer {
    pub async fn person(&self, name: &str) -> Person {
        let register = Register {
            username: name.to_owned(),
            password: "correct horse".to_owned(),
            display_name: name.to_owned(),
            device_name: None,
            address: None,
        };
        let SignedIn { credentials, .. } = self.chat.register(register).await.expect("registers");
        self.signed_in(credentials)
    }

    /// The same user on another device.
    pub async fn device(&self, name: &str) -> Person {
        let sign_in = SignIn {
            username: name.to_owned(),
            password: "correct horse".to_owned(),
            device_name: None,
            address: None,
        };
        self.signed_in(self.chat.sign_in(sign_in).await.expect("signs in").credentials)
    }

    fn signed_in(&self, credentials: Credentials) -> Person {
        let caller = self.chat.authenticate(&credentials.access_token).expect("a good token");
        Person { caller, token: credentials.access_token }
    }

    pub async fn group(&self, owner: &Person, other: &Person) -> ConversationId {
        let title = Title::new("Tea".to_owned()).expect("a title");
        let command = CreateGroup { title, members: vec![other.caller.user], client_key: None };
        self.chat.create_group(&owner.caller, command).await.expect("a group").conversation.id
    }

    pub async fn send(&self, sender: &Person, conversation: ConversationId, key: &str) {
        self.send_text(sender, conversation, key, "hello").await;
    }

    pub async fn send_text(&self, sender: &Person, conversation: ConversationId, key: &str, text: &str) {
        send_on(&self.chat, sender, conversation, key, text).await;
    }

    /// A socket that is subscribed and live; and what came before it was.
    pub async fn subscribe(&self, person: &Person, document: &str, variables: Value) -> (Socket, Vec<Value>) {
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

/// On a domain that need not be the node's.
pub async fn send_on(chat: &Chat, sender: &Person, conversation: ConversationId, key: &str, text: &str) {
    let client_key = ClientKey::new(&[], key.to_owned()).expect("a key");
    let text = MessageText::new(&[], text.to_owned()).expect("a text");
    let command = SendMessage { conversation, client_key, text, mentions: Mentions::default() };
    chat.send_message(&sender.caller, command).await.expect("sent");
}

impl Socket {
    pub async fn event(&mut self) -> Value {
        let message = self.hear().await;
        assert_eq!(message["type"], "next", "{message}");
        assert!(message["payload"].get("errors").is_none(), "{message}");
        message["payload"]["data"]["events"].clone()
    }
}

/// The kinds of events.
pub fn names(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["__typename"].as_str()).collect()
}

/// As long as a text may be.
pub fn longest() -> String {
    "x".repeat(16_384)
}

/// With bounds of the hub that are the test's own.
pub async fn node_with(settings: Settings, hub: HubLimits) -> TestServer {
    let limits = Limits { rate_limits: false, ..Limits::default() };
    TestServer::of(Arc::new(SystemClock), settings, hub, limits).await
}
