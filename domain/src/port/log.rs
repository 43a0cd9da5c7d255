//! The write side of storage: transactions in a lane, and the log they leave behind.

use std::sync::Arc;

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ClientKey, Conversation, ConversationId, LaneId, LaneLayout, LoggedFact, Member, MemberId, Message,
    Positions, SessionId, Timestamp, UserId,
};

/// Where the log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Raised when the database lost a tail or was restored; cursors of another epoch are void.
    pub epoch: i64,
    pub positions: Positions,
}

/// One row of the outbox: what one transaction changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub lane: LaneId,
    pub pos: i64,
    pub facts: Vec<LoggedFact>,
}

/// A range of Snowflake time that belongs to one process for ever: milliseconds since the Snowflake epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    pub machine: u16,
    pub from_ms: i64,
    /// Exclusive.
    pub until_ms: i64,
}

#[async_trait]
pub trait Log: Send + Sync {
    /// The number of lanes of this installation.
    fn layout(&self) -> LaneLayout;

    /// Opens a transaction, locks the lanes and takes the next position of each, which is free again after a rollback.
    /// `lanes` are in ascending order, so that no two transactions wait for each other.
    ///
    /// Dropping the transaction rolls it back. Call only from a task of its own that nobody cancels.
    async fn begin(&self, lanes: &[LaneId]) -> Result<Box<dyn LaneTransaction>, StoreError>;

    /// As [`Log::begin`], but only if these are the lanes' last positions in this epoch; otherwise somebody else has committed
    /// there, and the answer is `None`. What the caller knew of the lanes is still so. Where that is found out only with the first
    /// statement, or with the commit, that fails with [`StoreError::Behind`] instead.
    async fn begin_after(
        &self,
        epoch: i64,
        last: &[(LaneId, i64)],
    ) -> Result<Option<Box<dyn LaneTransaction>>, StoreError>;

    /// Heads and memberships as they were when the lanes stood at these positions of this epoch, read without a lock: who then begins after the
    /// same ([`Log::begin_after`]) knows that they are still so. Whatever is not found at them is left out; an adapter that gains nothing by it finds nothing.
    async fn look_up(
        &self,
        epoch: i64,
        last: &[(LaneId, i64)],
        members: &[MemberId],
    ) -> Vec<(Conversation, Member)>;

    async fn heads(&self) -> Result<Heads, StoreError>;

    /// Entries of a lane after a position, oldest first.
    async fn read(&self, lane: LaneId, after: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError>;

    /// Removes entries and tombstones older than `before`, at most `limit` rows; answers how many went.
    async fn remove_expired(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError>;

    /// Marks everything before as another history: the next `heads` has a higher epoch, never used before even by a history that
    /// a restored backup does not know. Does nothing when somebody else has raised it from `epoch` already.
    async fn raise_epoch(&self, epoch: i64, now: Timestamp) -> Result<(), StoreError>;

    /// Leases `span_ms` of Snowflake time from `from_ms` on, to this caller alone and for ever.
    async fn lease_ids(&self, from_ms: i64, span_ms: i64) -> Result<IdRange, StoreError>;
}

/// A group conversation or direct conversation to be.
#[derive(Clone, Debug)]
pub struct NewConversation {
    pub conversation: Conversation,
    pub creator: UserId,
    /// `clientKey` of `createGroup`.
    pub client_key: Option<ClientKey>,
    /// Of what was asked, so that the key with another request is a conflict.
    pub request_hash: [u8; 16],
}

#[async_trait]
pub trait LaneTransaction: Send {
    /// The position that this transaction takes in one of its lanes by committing.
    fn pos(&self, lane: LaneId) -> i64;

    /// The position in the lane of a conversation.
    fn pos_of(&self, conversation: ConversationId) -> i64;

    async fn epoch(&mut self) -> Result<i64, StoreError>;

    /// As [`Log::read`], on this transaction: who holds a lane waits for no other connection.
    async fn read_log(&mut self, lane: LaneId, after: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError>;

    /// Locks and reads conversations. `ids` are in ascending order, so that no two transactions wait for each other.
    async fn lock_conversations(&mut self, ids: &[ConversationId]) -> Result<Vec<Conversation>, StoreError>;

    async fn messages_by_key(&mut self, keys: &[(UserId, ClientKey)]) -> Result<Vec<Message>, StoreError>;

    /// Memberships, ended ones included.
    async fn members(&mut self, ids: &[MemberId]) -> Result<Vec<Member>, StoreError>;

    /// Active owners of a conversation, at most `limit`.
    async fn owners(&mut self, conversation: ConversationId, limit: u32) -> Result<Vec<UserId>, StoreError>;

    /// Which of these users exist.
    async fn existing_users(&mut self, ids: &[UserId]) -> Result<Vec<UserId>, StoreError>;

    /// The group that this creator made with this key, and the hash of the request.
    async fn group_by_key(
        &mut self,
        creator: UserId,
        key: &ClientKey,
    ) -> Result<Option<(ConversationId, [u8; 16])>, StoreError>;

    async fn insert_conversation(&mut self, new: &NewConversation) -> Result<(), StoreError>;

    /// Writes memberships whole, new or known.
    async fn put_members(&mut self, members: &[Member]) -> Result<(), StoreError>;

    /// Inserts messages and writes the changing part of heads: title, `last_seq`, `rev`, counts, `active_at`, positions. Without any it
    /// still makes sure that the lanes are locked, and fails as their first statement does when others have committed there.
    async fn write_messages(
        &mut self,
        messages: &[Arc<Message>],
        heads: &[Conversation],
    ) -> Result<(), StoreError>;

    /// Notes the newest message that mentions each of these members.
    async fn put_mentions(&mut self, mentioned: &[(MemberId, i32)]) -> Result<(), StoreError>;

    /// Writes the read positions of these members.
    async fn update_reads(&mut self, members: &[Member]) -> Result<(), StoreError>;

    /// The running index of countable messages at given messages.
    async fn countable_at(
        &mut self,
        at: &[(ConversationId, i32)],
    ) -> Result<Vec<(ConversationId, i32, i32)>, StoreError>;

    /// Ends sessions of a user: the named one, or all but `except`. Answers those that were still alive.
    async fn end_sessions(
        &mut self,
        which: EndSessions,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, StoreError>;

    async fn set_password_hash(&mut self, user: UserId, hash: &str) -> Result<(), StoreError>;

    /// Writes the outbox rows, one a lane, and commits. A lane without facts gets an empty row: its position is taken.
    /// After [`StoreError::InDoubt`] it may have been.
    async fn commit(
        self: Box<Self>,
        facts: &[(LaneId, Vec<LoggedFact>)],
        now: Timestamp,
    ) -> Result<(), StoreError>;

    async fn rollback(self: Box<Self>);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndSessions {
    One { user: UserId, session: SessionId },
    AllBut { user: UserId, session: SessionId },
}
