//! What one group commit does: from what waits and what the locked rows say to rows, events and answers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::view::Views;
use crate::{
    ClientKey, Content, Conversation, ConversationId, ConversationView, ErrorCode, Event, Fact, LaneId,
    Member, MemberId, Message, MessageDraft, MessageId, SenderPosition, ServiceError, ServiceResult,
    Timestamp, UserId,
    port::{LaneTransaction, StoreError},
    trace::TraceContext,
};

/// One thing that waits for the lane's next transaction.
pub(super) enum Item<'a> {
    Send {
        draft: &'a MessageDraft,
        id: MessageId,
        /// What follows from it is a part of this.
        trace: Option<TraceContext>,
    },
    /// Move the user's read position in a conversation to `seq`.
    Read { member: MemberId, seq: i32 },
}

impl Item<'_> {
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Send { draft, .. } => draft.conversation,
            Self::Read { member, .. } => member.conversation,
        }
    }

    pub fn member(&self) -> MemberId {
        match self {
            Self::Send { draft, .. } => MemberId { conversation: draft.conversation, user: draft.sender },
            Self::Read { member, .. } => *member,
        }
    }

    pub fn key(&self) -> Option<(UserId, &ClientKey)> {
        match self {
            Self::Send { draft, .. } => Some((draft.sender, &draft.client_key)),
            Self::Read { .. } => None,
        }
    }
}

/// What becomes of an item.
#[derive(Clone)]
pub(super) enum Answer {
    Message(Arc<Message>),
    /// How the reader sees the conversation then.
    Read(Box<ConversationView>),
    Refused(ServiceError),
}

/// A transaction's work, decided and written but not committed.
pub(super) struct Decided {
    /// One for each item, in their order.
    pub answers: Vec<Answer>,
    /// Each with its lane, in the order of its lane.
    pub events: Vec<(LaneId, Event)>,
    /// Senders whose key was committed by somebody else; see the committer's side queue.
    pub known_keys: Vec<(UserId, ClientKey)>,
    /// What is so once it is committed.
    pub heads: Vec<Conversation>,
    pub members: Vec<Member>,
}

/// Looks up what is not known, decides and writes. Keys are looked up under the locks and before `seq` and `rev` are taken:
/// those that `may_be_known`, and those of senders who are no members, because a retry is answered even after removal. Any
/// other key is new, or the insert fails on its unique index and the batch comes again with every key looked up.
pub(super) async fn decide(
    tx: &mut dyn LaneTransaction,
    items: &[Item<'_>],
    views: &mut Views,
    now: Timestamp,
    receipts_members_max: i32,
    may_be_known: impl Fn(UserId, &ClientKey) -> bool + Send,
) -> Result<Decided, StoreError> {
    let (heads, members) = current(tx, items, views).await?;
    let is_active = |id: &MemberId| members.get(id).is_some_and(Member::is_active);
    let doubtful = items.iter().filter_map(|item| {
        let (sender, key) = item.key()?;
        (!is_active(&item.member()) || may_be_known(sender, key)).then(|| (sender, key.clone()))
    });
    let known = tx.messages_by_key(&doubtful.collect::<Vec<_>>()).await?;

    let mut plan = Plan::new(now, receipts_members_max, heads, members, known);
    plan.mentionable = mentionable(tx, items).await?;
    let wanted = plan.indexes_wanted(items);
    for (conversation, seq, countable) in tx.countable_at(&wanted).await? {
        plan.countable_at.insert((conversation, seq), countable);
    }
    let answers: Vec<Answer> = items
        .iter()
        .map(|item| {
            let at = Place { lane: views.lane_of(item.conversation()), pos: tx.pos_of(item.conversation()) };
            match item {
                Item::Send { draft, id, trace } => plan.send(draft, *id, *trace, at),
                Item::Read { member, seq } => plan.read(*member, *seq, at),
            }
        })
        .map(|answer| answer.unwrap_or_else(Answer::Refused))
        .collect();
    let displaced = displaced(tx, &plan, views).await?;
    plan.write(tx, displaced).await?;
    let known_keys = plan.known.into_keys().collect();
    let heads = plan.changed_heads.iter().filter_map(|id| plan.heads.remove(id)).collect();
    let members = plan.members.into_values().collect();
    Ok(Decided { answers, events: plan.events, known_keys, heads, members })
}

type Current = (HashMap<ConversationId, Conversation>, HashMap<MemberId, Member>);

/// The heads and memberships of the items, from what is known or from the database.
async fn current(
    tx: &mut dyn LaneTransaction,
    items: &[Item<'_>],
    views: &mut Views,
) -> Result<Current, StoreError> {
    let conversations: BTreeSet<ConversationId> = items.iter().map(Item::conversation).collect();
    let unknown: Vec<_> = conversations.iter().copied().filter(|id| views.head(*id).is_none()).collect();
    for head in tx.lock_conversations(&unknown).await? {
        views.learn_head(head);
    }
    let ids: BTreeSet<MemberId> = items.iter().map(Item::member).collect();
    let unknown: Vec<_> = ids.iter().copied().filter(|id| views.member(*id).is_none()).collect();
    let mut members = HashMap::with_capacity(ids.len());
    for member in tx.members(&unknown).await? {
        members.insert(member.id(), member.clone());
        views.learn_member(member);
    }
    members.extend(ids.iter().filter_map(|id| Some((*id, views.member(*id)?.clone()))));
    let heads = conversations.iter().filter_map(|id| Some((*id, views.head(*id)?.clone()))).collect();
    Ok((heads, members))
}

/// Those who are mentioned and are members. Read each time: a message mentions somebody seldom.
async fn mentionable(
    tx: &mut dyn LaneTransaction,
    items: &[Item<'_>],
) -> Result<HashSet<MemberId>, StoreError> {
    let mentioned = items.iter().filter_map(|item| match item {
        Item::Send { draft, .. } => Some(draft),
        Item::Read { .. } => None,
    });
    let mentioned: BTreeSet<MemberId> = mentioned
        .flat_map(|draft| {
            draft.mentions.iter().map(|user| MemberId { conversation: draft.conversation, user })
        })
        .collect();
    let members = tx.members(&mentioned.into_iter().collect::<Vec<_>>()).await?;
    Ok(members.iter().filter(|member| member.is_active()).map(Member::id).collect())
}

/// The memberships of senders who gave way to others among the recent ones: they have to be written now. Read before the
/// heads are, so that they still hold what those senders have read.
async fn displaced(
    tx: &mut dyn LaneTransaction,
    plan: &Plan,
    views: &mut Views,
) -> Result<Vec<Member>, StoreError> {
    let mut members = Vec::new();
    let mut unknown = Vec::new();
    for id in plan.displaced.iter().filter(|id| !plan.marked.contains(id)) {
        match plan.members.get(id).or_else(|| views.member(*id)) {
            Some(member) => members.push(member.clone()),
            None => unknown.push(*id),
        }
    }
    members.extend(tx.members(&unknown).await?);
    Ok(members)
}

/// Where in the log an item's change goes.
#[derive(Clone, Copy)]
struct Place {
    lane: LaneId,
    pos: i64,
}

struct Plan {
    now: Timestamp,
    receipts_members_max: i32,
    heads: HashMap<ConversationId, Conversation>,
    members: HashMap<MemberId, Member>,
    known: HashMap<(UserId, ClientKey), Arc<Message>>,
    countable_at: HashMap<(ConversationId, i32), i32>,
    mentionable: HashSet<MemberId>,
    /// The `rev` that all read marks of this batch share in a conversation too large for receipts.
    shared_marks: HashMap<ConversationId, i32>,
    messages: Vec<Arc<Message>>,
    changed_heads: BTreeSet<ConversationId>,
    /// Readers who marked, and senders who are no longer among the recent ones: their memberships are written.
    marked: BTreeSet<MemberId>,
    displaced: BTreeSet<MemberId>,
    events: Vec<(LaneId, Event)>,
}

impl Plan {
    fn new(
        now: Timestamp,
        receipts_members_max: i32,
        heads: HashMap<ConversationId, Conversation>,
        members: HashMap<MemberId, Member>,
        known: Vec<Message>,
    ) -> Self {
        let key = |message: &Message| Some((message.sender?, message.client_key.clone()?));
        Self {
            now,
            receipts_members_max,
            heads,
            members,
            known: known
                .into_iter()
                .filter_map(|message| Some((key(&message)?, Arc::new(message))))
                .collect(),
            countable_at: HashMap::new(),
            mentionable: HashSet::new(),
            shared_marks: HashMap::new(),
            messages: Vec::new(),
            changed_heads: BTreeSet::new(),
            marked: BTreeSet::new(),
            displaced: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Messages whose running index a read needs and the locked heads do not tell.
    fn indexes_wanted(&self, items: &[Item<'_>]) -> Vec<(ConversationId, i32)> {
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

    fn send(
        &mut self,
        draft: &MessageDraft,
        id: MessageId,
        trace: Option<TraceContext>,
        at: Place,
    ) -> ServiceResult<Answer> {
        // Before membership: the retry of a committed send answers with it even after removal (P2).
        if !self.known.is_empty()
            && let Some(message) = self.known.get(&(draft.sender, draft.client_key.clone()))
        {
            return same_message(message, draft).map(|()| Answer::Message(message.clone()));
        }
        let member = MemberId { conversation: draft.conversation, user: draft.sender };
        let is_member = self.members.get(&member).is_some_and(Member::is_active);
        let head = self.heads.get_mut(&draft.conversation).filter(|_| is_member);
        let head = head.ok_or_else(|| ServiceError::not_found("conversation").at(&["conversationId"]))?;
        head.advance_seq()?;
        head.countable += 1;
        head.active_at = self.now;
        head.pos = at.pos;
        // One's own messages are never unread.
        let position = SenderPosition { user: draft.sender, seq: head.last_seq, countable: head.countable };
        if let Some(silent) = head.senders.note(position) {
            self.displaced.insert(MemberId { conversation: draft.conversation, user: silent.user });
        }
        let is_mentionable = |user: &UserId| {
            self.mentionable.contains(&MemberId { conversation: draft.conversation, user: *user })
        };
        let message = Arc::new(Message {
            id,
            conversation: draft.conversation,
            seq: head.last_seq,
            rev: head.rev,
            created_rev: head.rev,
            pos: at.pos,
            sender: Some(draft.sender),
            client_key: Some(draft.client_key.clone()),
            content_hash: draft.content_hash,
            content: Content::Text(draft.text.as_str().into()),
            mentions: draft.mentions.iter().filter(is_mentionable).collect(),
            created_at: self.now,
            countable: head.countable,
        });
        let event = Event {
            fact: Fact::MessageSent { conversation: head.id, rev: head.rev, seq: head.last_seq },
            conversation: Some(Arc::new(head.clone())),
            message: Some(message.clone()),
            member: None,
            trace,
        };
        self.events.push((at.lane, event));
        self.changed_heads.insert(draft.conversation);
        if let Some(sender) = self.members.get_mut(&member) {
            (sender.read_seq, sender.read_countable) = (message.seq, message.countable);
        }
        self.messages.push(message.clone());
        Ok(Answer::Message(message))
    }

    fn read(&mut self, id: MemberId, seq: i32, at: Place) -> ServiceResult<Answer> {
        let not_found = || ServiceError::not_found("conversation").at(&["conversationId"]);
        let reader = self.members.get_mut(&id).filter(|member| member.is_active()).ok_or_else(not_found)?;
        let shared = self.shared_marks.get(&id.conversation).copied();
        let head = self.heads.get_mut(&id.conversation).ok_or_else(not_found)?;
        if seq < 0 || seq > head.last_seq {
            return Err(ServiceError::invalid(
                &["seq"],
                "`seq` is between 0 and the conversation's `lastSeq`",
            ));
        }
        if seq <= reader.read_seq {
            return Ok(Answer::Read(view(head, reader).into()));
        }
        let large = head.member_count > self.receipts_members_max;
        let rev = match shared.filter(|_| large) {
            Some(rev) => rev,
            None => head.advance_rev()?,
        };
        if large {
            self.shared_marks.insert(id.conversation, rev);
        }
        head.pos = at.pos;
        let in_batch =
            self.messages.iter().find(|message| message.conversation == head.id && message.seq == seq);
        let countable = if let Some(message) = in_batch {
            message.countable
        } else if let Some(countable) = self.countable_at.get(&(head.id, seq)) {
            *countable
        } else {
            head.countable
        };
        let event = Event {
            fact: Fact::ReadMarked { conversation: head.id, rev, user: id.user, read_seq: seq },
            conversation: Some(Arc::new(head.clone())),
            message: None,
            member: None,
            trace: None,
        };
        self.events.push((at.lane, event));
        self.changed_heads.insert(id.conversation);
        self.marked.insert(id);
        (reader.read_seq, reader.read_countable) = (seq, countable);
        (reader.read_rev, reader.read_pos) = (rev, at.pos);
        Ok(Answer::Read(view(head, reader).into()))
    }

    /// The newest message that mentions each.
    fn mentioned(&self) -> Vec<(MemberId, i32)> {
        let mut newest = BTreeMap::new();
        for message in &self.messages {
            for user in message.mentions.iter() {
                newest.insert(MemberId { conversation: message.conversation, user }, message.seq);
            }
        }
        newest.into_iter().collect()
    }

    async fn write(
        &mut self,
        tx: &mut dyn LaneTransaction,
        displaced: Vec<Member>,
    ) -> Result<(), StoreError> {
        // In the order of the primary key, so that neighbours in the table are written together.
        self.messages.sort_unstable_by_key(|message| (message.conversation, message.seq));
        let heads = self.changed_heads.iter().filter_map(|id| self.heads.get(id));
        tx.write_messages(&self.messages, &heads.cloned().collect::<Vec<_>>()).await?;
        tx.put_mentions(&self.mentioned()).await?;
        let marked = self.marked.iter().filter_map(|id| self.members.get(id)).cloned();
        tx.update_reads(&displaced.into_iter().chain(marked).collect::<Vec<_>>()).await
    }
}

fn view(head: &Conversation, viewer: &Member) -> ConversationView {
    ConversationView { conversation: Arc::new(head.clone()), viewer: viewer.clone() }
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
