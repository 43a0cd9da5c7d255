//! What one group commit does: from what waits and what the locked rows say to rows, events and answers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    ClientKey, Content, Conversation, ConversationId, ErrorCode, Event, Fact, Member, MemberId, Message,
    MessageDraft, MessageId, ServiceError, ServiceResult, Timestamp, UserId,
    port::{LaneTransaction, StoreError, log::ReadMove},
};

/// Messages in one transaction. Half of what is in flight under load, so that the answers of one batch are given while the next
/// one commits. Their 13 columns stay far below every database's limit of bound values (`SQLite` 32,766).
pub const BATCH_MESSAGES_MAX: usize = 128;
/// Bytes of bodies in one transaction, so that one packet and one lock stay short.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// One thing that waits for the lane's next transaction.
pub(super) enum Item {
    Send {
        draft: MessageDraft,
        id: MessageId,
    },
    /// Move the user's read position in a conversation to `seq`.
    Read {
        member: MemberId,
        seq: i32,
    },
}

impl Item {
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Send { draft, .. } => draft.conversation,
            Self::Read { member, .. } => member.conversation,
        }
    }

    fn member(&self) -> MemberId {
        match self {
            Self::Send { draft, .. } => MemberId { conversation: draft.conversation, user: draft.sender },
            Self::Read { member, .. } => *member,
        }
    }

    pub fn key(&self) -> Option<(UserId, ClientKey)> {
        match self {
            Self::Send { draft, .. } => Some((draft.sender, draft.client_key.clone())),
            Self::Read { .. } => None,
        }
    }
}

/// What becomes of an item.
#[derive(Clone)]
pub(super) enum Answer {
    Message(Arc<Message>),
    Read,
    Refused(ServiceError),
}

/// A transaction's work, decided and written but not committed.
pub(super) struct Decided {
    /// One for each item, in their order.
    pub answers: Vec<Answer>,
    pub events: Vec<Event>,
    /// Senders whose key was committed by somebody else; see the committer's side queue.
    pub known_keys: Vec<(UserId, ClientKey)>,
}

/// Locks, looks up, decides and writes. Keys are looked up after the locks and before `seq` and `rev` are taken: those that
/// `may_be_known`, and those of senders who are no members, because a retry is answered even after removal. Any other key is
/// new, or the insert fails on its unique index and the batch comes again with every key looked up.
pub(super) async fn decide(
    tx: &mut dyn LaneTransaction,
    items: &[Item],
    now: Timestamp,
    receipts_members_max: i32,
    may_be_known: impl Fn(UserId, &ClientKey) -> bool + Send,
) -> Result<Decided, StoreError> {
    let conversations: BTreeSet<ConversationId> = items.iter().map(Item::conversation).collect();
    let conversations: Vec<ConversationId> = conversations.into_iter().collect();
    let heads = tx.lock_conversations(&conversations).await?;
    let ids: BTreeSet<MemberId> = items.iter().map(Item::member).collect();
    let members = tx.members(&ids.into_iter().collect::<Vec<_>>()).await?;
    let active: BTreeSet<MemberId> =
        members.iter().filter(|member| member.is_active()).map(Member::id).collect();
    let doubtful = items.iter().filter_map(|item| {
        let (sender, key) = item.key()?;
        (!active.contains(&item.member()) || may_be_known(sender, &key)).then_some((sender, key))
    });
    let known = tx.messages_by_key(&doubtful.collect::<Vec<_>>()).await?;

    let mut plan = Plan::new(tx.pos(), now, receipts_members_max, heads, members, known);
    let wanted = plan.indexes_wanted(items);
    for (conversation, seq, countable) in tx.countable_at(&wanted).await? {
        plan.countable_at.insert((conversation, seq), countable);
    }
    let answers: Vec<Answer> = items
        .iter()
        .map(|item| match item {
            Item::Send { draft, id } => plan.send(draft, *id),
            Item::Read { member, seq } => plan.read(*member, *seq),
        })
        .map(|answer| answer.unwrap_or_else(Answer::Refused))
        .collect();
    plan.write(tx).await?;
    let known_keys = plan.known.into_keys().collect();
    Ok(Decided { answers, events: plan.events, known_keys })
}

struct Plan {
    pos: i64,
    now: Timestamp,
    receipts_members_max: i32,
    heads: HashMap<ConversationId, Conversation>,
    members: HashMap<MemberId, Member>,
    known: HashMap<(UserId, ClientKey), Arc<Message>>,
    countable_at: HashMap<(ConversationId, i32), i32>,
    /// The `rev` that all read marks of this batch share in a conversation too large for receipts.
    shared_marks: HashMap<ConversationId, i32>,
    messages: Vec<Arc<Message>>,
    /// The last message of each sender in this batch.
    sent: HashMap<MemberId, i32>,
    /// Readers who marked in this batch.
    marked: BTreeSet<MemberId>,
    events: Vec<Event>,
}

impl Plan {
    fn new(
        pos: i64,
        now: Timestamp,
        receipts_members_max: i32,
        heads: Vec<Conversation>,
        members: Vec<Member>,
        known: Vec<Message>,
    ) -> Self {
        let key = |message: &Message| Some((message.sender?, message.client_key.clone()?));
        Self {
            pos,
            now,
            receipts_members_max,
            heads: heads.into_iter().map(|head| (head.id, head)).collect(),
            members: members.into_iter().map(|member| (member.id(), member)).collect(),
            known: known
                .into_iter()
                .filter_map(|message| Some((key(&message)?, Arc::new(message))))
                .collect(),
            countable_at: HashMap::new(),
            shared_marks: HashMap::new(),
            messages: Vec::new(),
            sent: HashMap::new(),
            marked: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Messages whose running index a read needs and the locked heads do not tell.
    fn indexes_wanted(&self, items: &[Item]) -> Vec<(ConversationId, i32)> {
        let wanted: BTreeSet<(ConversationId, i32)> = items
            .iter()
            .filter_map(|item| match item {
                Item::Read { member, seq } => Some((member.conversation, *seq)),
                Item::Send { .. } => None,
            })
            .filter(|(conversation, seq)| {
                self.heads.get(conversation).is_some_and(|head| *seq < head.last_seq)
            })
            .collect();
        wanted.into_iter().collect()
    }

    fn send(&mut self, draft: &MessageDraft, id: MessageId) -> ServiceResult<Answer> {
        // Before membership: the retry of a committed send answers with it even after removal (P2).
        if let Some(message) = self.known.get(&(draft.sender, draft.client_key.clone())) {
            return same_message(message, draft).map(|()| Answer::Message(message.clone()));
        }
        let member = MemberId { conversation: draft.conversation, user: draft.sender };
        let is_member = self.members.get(&member).is_some_and(Member::is_active);
        let head = self.heads.get_mut(&draft.conversation).filter(|_| is_member);
        let head = head.ok_or_else(|| ServiceError::not_found("conversation").at(&["conversationId"]))?;
        head.advance_seq()?;
        head.countable += 1;
        head.active_at = self.now;
        head.pos = self.pos;
        let message = Arc::new(Message {
            id,
            conversation: draft.conversation,
            seq: head.last_seq,
            rev: head.rev,
            created_rev: head.rev,
            pos: self.pos,
            sender: Some(draft.sender),
            client_key: Some(draft.client_key.clone()),
            content_hash: draft.content_hash,
            content: Content::Text(draft.text.as_str().into()),
            created_at: self.now,
            countable: head.countable,
        });
        self.events.push(Event {
            fact: Fact::MessageSent { conversation: head.id, rev: head.rev, seq: head.last_seq },
            conversation: Some(Arc::new(head.clone())),
            message: Some(message.clone()),
            member: None,
        });
        // One's own messages are never unread.
        self.sent.insert(member, head.last_seq);
        if let Some(sender) = self.members.get_mut(&member) {
            (sender.read_seq, sender.read_countable) = (message.seq, message.countable);
        }
        self.messages.push(message.clone());
        Ok(Answer::Message(message))
    }

    fn read(&mut self, id: MemberId, seq: i32) -> ServiceResult<Answer> {
        let not_found = || ServiceError::not_found("conversation").at(&["conversationId"]);
        let read_seq =
            self.members.get(&id).filter(|member| member.is_active()).ok_or_else(not_found)?.read_seq;
        let shared = self.shared_marks.get(&id.conversation).copied();
        let head = self.heads.get_mut(&id.conversation).ok_or_else(not_found)?;
        if seq < 0 || seq > head.last_seq {
            return Err(ServiceError::invalid(
                &["seq"],
                "`seq` is between 0 and the conversation's `lastSeq`",
            ));
        }
        if seq <= read_seq {
            return Ok(Answer::Read);
        }
        let large = head.member_count > self.receipts_members_max;
        let rev = match shared.filter(|_| large) {
            Some(rev) => rev,
            None => head.advance_rev()?,
        };
        if large {
            self.shared_marks.insert(id.conversation, rev);
        }
        head.pos = self.pos;
        let in_batch =
            self.messages.iter().find(|message| message.conversation == head.id && message.seq == seq);
        let countable = if let Some(message) = in_batch {
            message.countable
        } else if let Some(countable) = self.countable_at.get(&(head.id, seq)) {
            *countable
        } else {
            head.countable
        };
        self.events.push(Event {
            fact: Fact::ReadMarked { conversation: head.id, rev, user: id.user, read_seq: seq },
            conversation: Some(Arc::new(head.clone())),
            message: None,
            member: None,
        });
        self.marked.insert(id);
        if let Some(reader) = self.members.get_mut(&id) {
            (reader.read_seq, reader.read_countable) = (seq, countable);
            (reader.read_rev, reader.read_pos) = (rev, self.pos);
        }
        Ok(Answer::Read)
    }

    async fn write(&mut self, tx: &mut dyn LaneTransaction) -> Result<(), StoreError> {
        tx.insert_messages(&self.messages).await?;
        let last: HashMap<ConversationId, i32> =
            self.messages.iter().map(|message| (message.conversation, message.rev)).collect();
        let mut changed: Vec<&Conversation> =
            self.heads.values().filter(|head| head.pos == self.pos).collect();
        changed.sort_unstable_by_key(|head| head.id);
        // Most heads end with a message, whose row says all that they need.
        let (followers, others): (Vec<&Conversation>, Vec<_>) =
            changed.into_iter().partition(|head| last.get(&head.id) == Some(&head.rev));
        let heads: Vec<_> = followers.into_iter().map(|head| (head.id, head.last_seq)).collect();
        let silent = self.sent.iter().filter(|(member, _)| !self.marked.contains(member));
        let mut readers: Vec<_> = silent.map(|(member, seq)| (member.conversation, *seq)).collect();
        readers.sort_unstable();
        tx.follow_messages(&heads, &readers).await?;
        tx.update_heads(&others.into_iter().cloned().collect::<Vec<_>>()).await?;
        let moves = self.marked.iter().filter_map(|id| self.members.get(id)).map(|member| ReadMove {
            member: member.id(),
            read_seq: member.read_seq,
            read_countable: member.read_countable,
            rev: member.read_rev,
            pos: member.read_pos,
        });
        tx.move_reads(&moves.collect::<Vec<_>>()).await
    }
}

/// Whether a draft is the retry of a committed message.
pub(super) fn same_message(message: &Message, draft: &MessageDraft) -> ServiceResult<()> {
    if message.conversation == draft.conversation && message.content_hash == draft.content_hash {
        return Ok(());
    }
    let text = "this `clientMessageId` was used for another message";
    Err(ServiceError::new(ErrorCode::IdempotencyConflict, text).at(&["clientMessageId"]))
}

impl Conversation {
    /// Takes the next `seq` and `rev`.
    pub(crate) fn advance_seq(&mut self) -> ServiceResult<()> {
        let seq = self.last_seq.checked_add(1).ok_or_else(full)?;
        self.advance_rev()?;
        self.last_seq = seq;
        Ok(())
    }

    /// Takes the next `rev`.
    pub(crate) fn advance_rev(&mut self) -> ServiceResult<i32> {
        self.rev = self.rev.checked_add(1).ok_or_else(full)?;
        Ok(self.rev)
    }
}

fn full() -> ServiceError {
    ServiceError::new(
        ErrorCode::ConversationFull,
        "the conversation holds as many messages or changes as it can",
    )
}
