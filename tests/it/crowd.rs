//! More people than can register one by one: made in this process, by the domain itself, on an installation's database.

use domain::{
    Caller, Chat, ClientKey, ConversationId, Limits, Mentions, Message, MessageText, PushAddress, Session,
    SessionId, Timestamp, Title, User, UserId,
    adapter::{
        ambient::{SystemClock, SystemRandom},
        sql::{PoolSettings, SqlStore},
    },
    keys::KeyRing,
    port::{Accounts as _, Clock as _, Random as _, accounts::NewSession},
    service::{add_members::AddMembers, create_group::CreateGroup, send_message::SendMessage},
    wiring::Wiring,
};
use futures_util::{StreamExt as _, stream};
use migration::SCHEMA_VERSION;

use crate::installation::Installation;

/// Done at the same time; more only waits for connections.
const AT_ONCE: usize = 24;
/// New members of one call.
const CHUNK: usize = 100;

pub struct Crowd {
    pub chat: Chat,
    store: SqlStore,
}

impl Crowd {
    pub async fn of(installation: &Installation) -> Self {
        let store = SqlStore::open(&installation.database, PoolSettings::default(), SCHEMA_VERSION).await;
        let store = store.expect("opens");
        let keys = KeyRing::open(&installation.keys()).expect("keys");
        let limits = Limits { rate_limits: false, ..Limits::default() };
        Self { chat: Wiring::new(store.clone(), keys, limits).build(), store }
    }

    /// So many users, each with one session.
    pub async fn people(&self, count: i64) -> Vec<Caller> {
        let mut first = [0; 4];
        SystemRandom.fill(&mut first);
        let first = i64::from(u32::from_le_bytes(first)) << 20;
        let people = (1..=count).map(|number| self.person(first + number));
        stream::iter(people).buffer_unordered(AT_ONCE).collect().await
    }

    async fn person(&self, id: i64) -> Caller {
        let (name, at) = (format!("user{id}"), SystemClock.now());
        let user = User {
            id: UserId(id),
            username: name.as_str().into(),
            display_name: name.as_str().into(),
            created_at: at,
        };
        let session =
            Session { id: SessionId(id), user: user.id, device_name: None, created_at: at, last_used_at: at };
        let mut token_hash = [0; 32];
        token_hash[..8].copy_from_slice(&id.to_be_bytes());
        let new = NewSession { session, token_hash };
        self.store.insert_user(&user, &name, "none", &new).await.expect("a user");
        caller(UserId(id), SessionId(id))
    }

    /// A group of the owner with all of them.
    pub async fn group(&self, owner: &Caller, title: &str, members: &[Caller]) -> ConversationId {
        let title = Title::new(title.to_owned()).expect("a title");
        let command = CreateGroup { title, members: Vec::new(), client_key: None };
        let conversation = self.chat.create_group(owner, command).await.expect("a group").conversation.id;
        for members in members.chunks(CHUNK) {
            let users = members.iter().map(|member| member.user).collect();
            self.chat.add_members(owner, AddMembers { conversation, users }).await.expect("members");
        }
        conversation
    }

    /// Each gets pushes through FCM, to a device whose name begins with this.
    pub async fn want_pushes(&self, name: &str, people: &[Caller]) {
        let all = people.iter().enumerate().map(|(number, caller)| {
            let address = PushAddress::Fcm(format!("{name}-{number}"));
            async move { self.chat.register_device(caller, address).await.expect("registers") }
        });
        stream::iter(all).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    }

    pub async fn send(&self, sender: &Caller, conversation: ConversationId, key: &str) -> Message {
        let client_key = ClientKey::new(&["clientMessageId"], key.to_owned()).expect("a key");
        let text = MessageText::new(&["text"], key.to_owned()).expect("a text");
        let command = SendMessage { conversation, client_key, text, mentions: Mentions::default() };
        let message = self.chat.send_message(sender, command).await.expect("sent");
        Message::clone(&message)
    }
}

pub fn caller(user: UserId, session: SessionId) -> Caller {
    Caller { user, session, expires_at: Timestamp(i64::MAX) }
}
