//! Messages.

use std::{collections::BTreeSet, sync::Arc};

use sha2::{Digest, Sha256};

use super::{ClientKey, ConversationId, MessageId, MessageText, Timestamp, UserId};
use crate::{ServiceError, ServiceResult, trace::TraceContext};

/// Members that one message may mention.
pub const MENTIONS_MAX: usize = 50;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Text(Arc<str>),
    /// Written by the server into the history, for instance when somebody joins. `text` is a plain English fallback.
    System(SystemContent),
}

/// What happened, for clients that want to word it themselves.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SystemContent {
    pub text: String,
    pub action: SystemAction,
    /// Who did it.
    pub actor: i64,
    /// Whom it concerns, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemAction {
    MembersAdded,
    MemberRemoved,
    MemberLeft,
    RoleChanged,
    TitleChanged,
}

/// Whom a message mentions, each once, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions(Arc<[UserId]>);

impl Mentions {
    pub fn new(
        field: &'static [&'static str],
        users: impl IntoIterator<Item = UserId>,
    ) -> ServiceResult<Self> {
        let mentions: Self = users.into_iter().collect();
        if mentions.0.len() > MENTIONS_MAX {
            return Err(ServiceError::invalid(field, "a message mentions at most 50 members"));
        }
        Ok(mentions)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = UserId> {
        self.0.iter().copied()
    }
}

impl FromIterator<UserId> for Mentions {
    fn from_iter<I: IntoIterator<Item = UserId>>(users: I) -> Self {
        let users: BTreeSet<UserId> = users.into_iter().collect();
        Self(users.into_iter().collect())
    }
}

/// A committed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub conversation: ConversationId,
    pub seq: i32,
    /// `rev` of the last change of this message.
    pub rev: i32,
    /// `rev` at which it was sent; never changes.
    pub created_rev: i32,
    /// Lane position of the last change.
    pub pos: i64,
    /// `None` for system messages.
    pub sender: Option<UserId>,
    pub client_key: Option<ClientKey>,
    /// Of the content as first sent; a key that comes back with another one is a conflict.
    pub content_hash: ContentHash,
    pub content: Content,
    /// Those of the draft who were members then.
    pub mentions: Mentions,
    pub created_at: Timestamp,
    /// How many countable messages the conversation has up to and including this one.
    pub countable: i32,
}

/// The first 16 bytes of SHA-256 over the kind and the content: enough to tell a retry from a reused key.
pub type ContentHash = [u8; 16];

/// A message that asks to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageDraft {
    pub conversation: ConversationId,
    pub sender: UserId,
    pub client_key: ClientKey,
    pub text: MessageText,
    pub mentions: Mentions,
    pub content_hash: ContentHash,
    /// The request that sends it.
    pub trace: Option<TraceContext>,
}

impl MessageDraft {
    pub fn new(
        conversation: ConversationId,
        sender: UserId,
        client_key: ClientKey,
        text: MessageText,
        mentions: Mentions,
        trace: Option<TraceContext>,
    ) -> Self {
        let content_hash = hash_of(&text, &mentions);
        Self { conversation, sender, client_key, text, mentions, content_hash, trace }
    }

    /// Bytes that count against the size of a batch.
    pub fn body_bytes(&self) -> usize {
        self.text.as_str().len()
    }
}

/// A text holds no U+0000, so what follows one is no text.
fn hash_of(text: &MessageText, mentions: &Mentions) -> ContentHash {
    if mentions.is_empty() {
        return content_hash("text", text.as_str().as_bytes());
    }
    let mut content = text.as_str().as_bytes().to_vec();
    for user in mentions.iter() {
        content.push(0);
        content.extend(user.0.to_be_bytes());
    }
    content_hash("text", &content)
}

pub fn content_hash(kind: &str, content: &[u8]) -> ContentHash {
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(content).finalize();
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}
