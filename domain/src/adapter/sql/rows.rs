//! Rows to model and back. Columns are read by place, in the order of the lists here.

use std::sync::Arc;

use entity::member;
use sea_orm::{ActiveValue::Set, QueryResult, TryGetable, Value};

use super::dialect::{RowUpdate, store_error};
use crate::{
    ClientKey, Content, Conversation, ConversationId, ConversationKind, Member, MemberRole, Mentions,
    Message, MessageId, RecentSenders, SenderPosition, Timestamp, User, UserId,
    commit::BATCH_MESSAGES_CEILING, model::message::SystemContent, port::StoreError,
};

pub(super) const CONVERSATION: &str = "c.id, c.kind, c.title, c.created_at, c.last_seq, c.rev, c.countable, \
    c.member_count, c.active_at, c.pos, c.title_pos, c.title_rev, c.senders";

pub(super) const MEMBER: &str = "m.conversation_id, m.user_id, m.role, m.read_seq, m.read_countable, m.joined_at, \
    m.joined_rev, m.joined_pos, m.removed_rev, m.removed_pos, m.role_rev, m.role_pos, m.read_rev, m.read_pos, (SELECT h.senders FROM conversation h WHERE h.id = m.conversation_id)";

pub(super) const MESSAGE: &str = "g.conversation_id, g.seq, g.id, g.sender_id, g.client_message_id, g.content_hash, \
    g.kind, g.body, g.mentions, g.created_at, g.countable, g.rev, g.created_rev, g.pos";

pub(super) const USER: &str = "u.id, u.username, u.display_name, u.created_at";

/// Reads a row from left to right.
pub(super) struct Row<'a> {
    columns: &'a QueryResult,
    next: usize,
}

impl<'a> Row<'a> {
    pub const fn new(columns: &'a QueryResult) -> Self {
        Self { columns, next: 0 }
    }

    pub fn get<T: TryGetable>(&mut self) -> Result<T, StoreError> {
        let value = self.columns.try_get_by_index(self.next).map_err(store_error);
        self.next += 1;
        value
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let bytes: Vec<u8> = self.get()?;
        bytes.try_into().map_err(|_| StoreError::Fault(format!("a key is not {N} bytes long").into()))
    }

    pub fn conversation_id(&mut self) -> Result<ConversationId, StoreError> {
        ConversationId::from_bytes(self.bytes()?).map_err(|error| StoreError::Fault(error.into()))
    }

    pub fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.get().map(Timestamp)
    }

    pub fn conversation(&mut self) -> Result<Conversation, StoreError> {
        Ok(Conversation {
            id: self.conversation_id()?,
            kind: if self.get::<i16>()? == 0 { ConversationKind::Direct } else { ConversationKind::Group },
            title: self.get::<Option<String>>()?.map(Arc::from),
            created_at: self.time()?,
            last_seq: self.get()?,
            rev: self.get()?,
            countable: self.get()?,
            member_count: self.get()?,
            active_at: self.time()?,
            pos: self.get()?,
            title_pos: self.get()?,
            title_rev: self.get()?,
            senders: self.senders()?,
        })
    }

    pub fn member(&mut self) -> Result<Member, StoreError> {
        let mut member = Member {
            conversation: self.conversation_id()?,
            user: UserId(self.get()?),
            role: role(self.get()?),
            read_seq: self.get()?,
            read_countable: self.get()?,
            joined_at: self.time()?,
            joined_rev: self.get()?,
            joined_pos: self.get()?,
            removed_rev: self.get()?,
            removed_pos: self.get()?,
            role_rev: self.get()?,
            role_pos: self.get()?,
            read_rev: self.get()?,
            read_pos: self.get()?,
        };
        // What they sent, they have read.
        if let Some(sent) = self.senders()?.of(member.user).filter(|sent| sent.seq > member.read_seq) {
            (member.read_seq, member.read_countable) = (sent.seq, sent.countable);
        }
        Ok(member)
    }

    pub fn senders(&mut self) -> Result<RecentSenders, StoreError> {
        let bytes: Vec<u8> = self.get()?;
        let positions = bytes.chunks_exact(16).filter_map(|bytes| {
            let (user, rest) = bytes.split_first_chunk()?;
            let (seq, countable) = rest.split_first_chunk()?;
            Some(SenderPosition {
                user: UserId(i64::from_be_bytes(*user)),
                seq: i32::from_be_bytes(*seq),
                countable: i32::from_be_bytes(*countable.first_chunk()?),
            })
        });
        Ok(positions.collect())
    }

    pub fn message(&mut self) -> Result<Message, StoreError> {
        let conversation = self.conversation_id()?;
        let seq = self.get()?;
        let id = MessageId(self.get()?);
        let sender = self.get::<Option<i64>>()?.map(UserId);
        let client_key = self.get::<Option<Vec<u8>>>()?.and_then(ClientKey::from_stored);
        let content_hash = self.bytes()?;
        let kind: i16 = self.get()?;
        let body: String = self.get()?;
        let mentions: Option<Vec<u8>> = self.get()?;
        let mentions = mentions.unwrap_or_default();
        let mentions = mentions.as_chunks().0.iter().map(|user| UserId(i64::from_be_bytes(*user)));
        Ok(Message {
            id,
            conversation,
            seq,
            sender,
            client_key,
            content_hash,
            content: content(kind, body)?,
            mentions: mentions.collect(),
            created_at: self.time()?,
            countable: self.get()?,
            rev: self.get()?,
            created_rev: self.get()?,
            pos: self.get()?,
        })
    }

    pub fn user(&mut self) -> Result<User, StoreError> {
        Ok(User {
            id: UserId(self.get()?),
            username: self.get::<String>()?.into(),
            display_name: self.get::<String>()?.into(),
            created_at: self.time()?,
        })
    }
}

fn content(kind: i16, body: String) -> Result<Content, StoreError> {
    if kind == 0 {
        return Ok(Content::Text(body.into()));
    }
    let system: SystemContent =
        serde_json::from_str(&body).map_err(|error| StoreError::Fault(error.into()))?;
    Ok(Content::System(system))
}

pub(super) const fn role(number: i16) -> MemberRole {
    match number {
        2 => MemberRole::Owner,
        1 => MemberRole::Admin,
        _ => MemberRole::Member,
    }
}

pub(super) const fn role_number(role: MemberRole) -> i16 {
    match role {
        MemberRole::Member => 0,
        MemberRole::Admin => 1,
        MemberRole::Owner => 2,
    }
}

/// User, `seq`, index: 8, 4 and 4 bytes each, big-endian.
fn senders_value(senders: &RecentSenders) -> Value {
    let bytes = senders.iter().flat_map(|sender| {
        let user = sender.user.0.to_be_bytes().into_iter();
        user.chain(sender.seq.to_be_bytes()).chain(sender.countable.to_be_bytes())
    });
    Value::from(bytes.collect::<Vec<u8>>())
}

/// Users of 8 bytes each, big-endian; null where nobody is mentioned.
fn mentions_value(mentions: &Mentions) -> Value {
    let bytes = || mentions.iter().flat_map(|user| user.0.to_be_bytes()).collect::<Vec<u8>>();
    (!mentions.is_empty()).then(bytes).into()
}

pub(super) fn id_value(id: ConversationId) -> Value {
    Value::from(id.as_bytes().to_vec())
}

/// Columns of a message, the widest row that a batch writes.
const MESSAGE_COLUMNS: usize = 14;
/// Values that a statement may bind: `SQLite` 32,766 (`SQLITE_MAX_VARIABLE_NUMBER`), the others 65,535.
const BOUND_VALUES_MAX: usize = 32_766;
const _: () =
    assert!(BATCH_MESSAGES_CEILING * MESSAGE_COLUMNS <= BOUND_VALUES_MAX, "a batch must fit a statement");

/// [`MESSAGE`] for an `INSERT`.
pub(super) fn message_columns() -> String {
    MESSAGE.replace("g.", "")
}

/// A message's columns, in the order of [`MESSAGE`].
pub(super) fn message_values(message: &Message) -> Result<[Value; MESSAGE_COLUMNS], StoreError> {
    let (kind, body) = match &message.content {
        Content::Text(text) => (0_i16, text.to_string()),
        Content::System(system) => {
            (1, serde_json::to_string(system).map_err(|error| StoreError::Fault(error.into()))?)
        }
    };
    Ok([
        id_value(message.conversation),
        message.seq.into(),
        message.id.0.into(),
        message.sender.map(|user| user.0).into(),
        message.client_key.as_ref().map(|key| key.as_str().as_bytes().to_vec()).into(),
        message.content_hash.to_vec().into(),
        kind.into(),
        body.into(),
        mentions_value(&message.mentions),
        message.created_at.0.into(),
        message.countable.into(),
        message.rev.into(),
        message.created_rev.into(),
        message.pos.into(),
    ])
}

/// The columns of a head that a batch writes, with their types in PostgreSQL. The first is the key.
pub(super) const HEAD: [(&str, &str); 8] = [
    ("id", "bytea"),
    ("last_seq", "int4"),
    ("rev", "int4"),
    ("countable", "int4"),
    ("member_count", "int4"),
    ("active_at", "int8"),
    ("pos", "int8"),
    ("senders", "bytea"),
];

/// A head's columns, in the order of [`HEAD`].
pub(super) fn head_values(head: &Conversation) -> [Value; HEAD.len()] {
    [
        id_value(head.id),
        head.last_seq.into(),
        head.rev.into(),
        head.countable.into(),
        head.member_count.into(),
        head.active_at.0.into(),
        head.pos.into(),
        senders_value(&head.senders),
    ]
}

/// How heads are written.
pub(super) const HEADS: RowUpdate<8> = RowUpdate { table: "conversation", columns: HEAD, keys: 1 };

/// How read positions are written.
pub(super) const READS: RowUpdate<7> = RowUpdate {
    table: "member",
    columns: [
        ("conversation_id", "bytea"),
        ("user_id", "int8"),
        ("read_seq", "int4"),
        ("read_countable", "int4"),
        ("read_rev", "int4"),
        ("read_pos", "int8"),
        ("pos", "int8"),
    ],
    keys: 2,
};

/// A membership, whole.
pub(super) fn member_row(member: &Member) -> member::ActiveModel {
    member::ActiveModel {
        conversation_id: Set(member.conversation.as_bytes().to_vec()),
        user_id: Set(member.user.0),
        role: Set(role_number(member.role)),
        read_seq: Set(member.read_seq),
        read_countable: Set(member.read_countable),
        joined_at: Set(member.joined_at.0),
        joined_rev: Set(member.joined_rev),
        joined_pos: Set(member.joined_pos),
        removed_rev: Set(member.removed_rev),
        removed_pos: Set(member.removed_pos),
        role_rev: Set(member.role_rev),
        role_pos: Set(member.role_pos),
        read_rev: Set(member.read_rev),
        read_pos: Set(member.read_pos),
        pos: Set(member.pos()),
    }
}
