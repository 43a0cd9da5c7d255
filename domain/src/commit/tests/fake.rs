//! A log in memory that keeps what it was asked to write, and fails when told.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::{Semaphore, broadcast};

use crate::{
    ClientKey, Content, Conversation, ConversationId, ConversationKind, LaneId, LaneLayout, LoggedBatch,
    LoggedFact, Member, MemberId, MemberRole, Message, Positions, RecentSenders, SessionId, Timestamp,
    UserId,
    port::{
        Bus, LaneTransaction, Log, StoreError,
        log::{EndSessions, Heads, IdRange, LogEntry, NewConversation},
    },
};

/// A message that says this cannot be stored.
pub const POISON: &str = "poison";
const LANE: LaneId = LaneId(0);
const MACHINES: u16 = 4;

/// What one transaction wrote, committed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Portion {
    pub texts: Vec<String>,
    pub reads: usize,
    pub committed: bool,
}

impl Portion {
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(String::len).sum()
    }
}

#[derive(Default)]
struct Store {
    pos: i64,
    conversations: HashMap<ConversationId, Conversation>,
    members: HashMap<MemberId, Member>,
    messages: Vec<Arc<Message>>,
    portions: Vec<Portion>,
    ceilings: HashMap<u16, i64>,
    leases: Vec<IdRange>,
}

pub struct FakeLog {
    store: Mutex<Store>,
    /// A transaction begins with a permit of it.
    pub gate: Semaphore,
    pub panics: AtomicBool,
    /// So many transactions meet another one and have to be tried again.
    pub conflicts: AtomicU32,
    /// So many transactions commit and nobody is told.
    pub lost_answers: AtomicU32,
    /// How often something was looked up.
    pub look_ups: AtomicU32,
    /// What another process commits right after that.
    pub intruder: Mutex<Option<Message>>,
}

impl FakeLog {
    /// With one group of these users.
    pub fn new(conversation: ConversationId, users: impl IntoIterator<Item = UserId>) -> Arc<Self> {
        let mut store = Store::default();
        for user in users {
            let member = member(conversation, user);
            store.members.insert(member.id(), member);
        }
        store.conversations.insert(conversation, head(conversation, store.members.len()));
        Arc::new(Self {
            store: Mutex::new(store),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            panics: AtomicBool::new(false),
            conflicts: AtomicU32::new(0),
            lost_answers: AtomicU32::new(0),
            look_ups: AtomicU32::new(0),
            intruder: Mutex::default(),
        })
    }

    /// From now on transactions wait until [`FakeLog::open`].
    pub fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn open(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS - self.gate.available_permits());
    }

    pub fn portions(&self) -> Vec<Portion> {
        self.lock().portions.clone()
    }

    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.lock().messages.clone()
    }

    pub fn leases(&self) -> Vec<IdRange> {
        self.lock().leases.clone()
    }

    /// As another process would.
    pub fn commit_elsewhere(&self, message: Message) {
        let mut store = self.lock();
        let head = store.conversations.get_mut(&message.conversation).expect("known");
        (head.last_seq, head.rev, head.countable) = (message.seq, message.rev, message.countable);
        store.pos += 1;
        store.messages.push(Arc::new(message));
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no test panics with it")
    }
}

fn head(id: ConversationId, members: usize) -> Conversation {
    Conversation {
        id,
        kind: ConversationKind::Group,
        title: None,
        created_at: Timestamp(1),
        last_seq: 0,
        rev: 1,
        countable: 0,
        member_count: i32::try_from(members).expect("small"),
        active_at: Timestamp(1),
        pos: 0,
        title_pos: 0,
        title_rev: 0,
        senders: RecentSenders::default(),
    }
}

fn member(conversation: ConversationId, user: UserId) -> Member {
    Member {
        conversation,
        user,
        role: MemberRole::Member,
        read_seq: 0,
        read_countable: 0,
        joined_at: Timestamp(1),
        joined_rev: 1,
        joined_pos: 0,
        removed_rev: None,
        removed_pos: 0,
        role_rev: 1,
        role_pos: 0,
        read_rev: 0,
        read_pos: 0,
    }
}

fn text_of(message: &Message) -> &str {
    match &message.content {
        Content::Text(text) => text,
        Content::System(system) => &system.text,
    }
}

/// [`FakeLog`] as the port, which hands itself to its transactions.
pub struct Handle(pub Arc<FakeLog>);

impl Handle {
    async fn transaction(&self, after: Option<i64>) -> FakeTransaction {
        assert!(!self.0.panics.load(Ordering::Relaxed), "as a defect would");
        self.0.gate.acquire().await.expect("never closed").forget();
        let (log, pos) = (self.0.clone(), self.0.lock().pos + 1);
        let is_behind = after.is_some_and(|last| last + 1 != pos);
        let waits = after.is_some();
        FakeTransaction { log, pos, is_behind, waits, wrote: Portion::default(), staged: Vec::new() }
    }
}

#[async_trait]
impl Log for Handle {
    fn layout(&self) -> LaneLayout {
        LaneLayout { count: 1 }
    }

    async fn begin(&self, _: &[LaneId]) -> Result<Box<dyn LaneTransaction>, StoreError> {
        Ok(Box::new(self.transaction(None).await))
    }

    async fn begin_after(
        &self,
        _: i64,
        last: &[(LaneId, i64)],
    ) -> Result<Option<Box<dyn LaneTransaction>>, StoreError> {
        let [(LANE, last)] = last else { return Ok(None) };
        Ok(Some(Box::new(self.transaction(Some(*last)).await)))
    }

    async fn look_up(
        &self,
        _: i64,
        last: &[(LaneId, i64)],
        members: &[MemberId],
    ) -> Vec<(Conversation, Member)> {
        let find = |store: &Store, id| {
            let MemberId { conversation, .. } = id;
            Some((store.conversations.get(&conversation)?.clone(), store.members.get(&id)?.clone()))
        };
        let found = {
            let store = self.0.lock();
            let members = if *last == [(LANE, store.pos)] { members } else { &[] };
            members.iter().filter_map(|id| find(&store, *id)).collect()
        };
        self.0.look_ups.fetch_add(1, Ordering::Relaxed);
        if let Some(message) = self.0.intruder.lock().expect("no test panics with it").take() {
            self.0.commit_elsewhere(message);
        }
        found
    }

    async fn heads(&self) -> Result<Heads, StoreError> {
        let mut positions = Positions::zero(self.layout());
        positions.set(LANE, self.0.lock().pos);
        Ok(Heads { epoch: 1, positions })
    }

    async fn read(&self, _: LaneId, _: i64, _: u32) -> Result<Vec<LogEntry>, StoreError> {
        // Who holds a lane must not wait for another connection.
        unasked()
    }

    async fn remove_expired(&self, _: Timestamp, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn raise_epoch(&self, _: i64, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    async fn lease_ids(&self, from_ms: i64, span_ms: i64) -> Result<IdRange, StoreError> {
        let mut store = self.0.lock();
        let ceiling = |machine: &u16| store.ceilings.get(machine).copied().unwrap_or(0);
        let machine = (0..MACHINES).min_by_key(ceiling).expect("there are machines");
        let start = ceiling(&machine).max(from_ms);
        let lease = IdRange { machine, from_ms: start, until_ms: start + span_ms };
        store.ceilings.insert(machine, lease.until_ms);
        store.leases.push(lease);
        Ok(lease)
    }
}

struct FakeTransaction {
    log: Arc<FakeLog>,
    pos: i64,
    /// Whether its first statement will tell that others have committed.
    is_behind: bool,
    /// Whether what it writes waits for the commit.
    waits: bool,
    wrote: Portion,
    staged: Vec<Staged>,
}

impl FakeTransaction {
    fn opened(&self) -> Result<MutexGuard<'_, Store>, StoreError> {
        if self.is_behind { Err(StoreError::Behind("found late".into())) } else { Ok(self.log.lock()) }
    }

    /// What a database has against the messages.
    fn check(&self) -> Result<(), StoreError> {
        let store = self.opened()?;
        let messages = self.staged.iter().filter_map(|staged| match staged {
            Staged::Message(message) => Some(message),
            _ => None,
        });
        let messages: Vec<_> = messages.collect();
        if messages.iter().any(|message| text_of(message) == POISON) {
            return Err(StoreError::Fault("poison".into()));
        }
        let is_taken = |message: &&Arc<Message>| {
            let (Some(sender), Some(key)) = (message.sender, &message.client_key) else { return false };
            store.messages.iter().any(|known| is_of(known, sender, key))
        };
        if messages.iter().any(is_taken) {
            return Err(StoreError::Duplicate("taken".into()));
        }
        if one_less(&self.log.conflicts) {
            return Err(StoreError::Conflict("deadlock".into()));
        }
        Ok(())
    }
}

enum Staged {
    Message(Arc<Message>),
    Head(Conversation),
    Member(Member),
}

#[async_trait]
impl LaneTransaction for FakeTransaction {
    fn pos(&self, _: LaneId) -> i64 {
        self.pos
    }

    fn pos_of(&self, _: ConversationId) -> i64 {
        self.pos
    }

    async fn epoch(&mut self) -> Result<i64, StoreError> {
        Ok(1)
    }

    async fn read_log(&mut self, _: LaneId, _: i64, _: u32) -> Result<Vec<LogEntry>, StoreError> {
        // Whoever missed something reads everything again.
        Ok(Vec::new())
    }

    async fn lock_conversations(&mut self, ids: &[ConversationId]) -> Result<Vec<Conversation>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.opened()?;
        Ok(ids.iter().filter_map(|id| store.conversations.get(id).cloned()).collect())
    }

    async fn messages_by_key(&mut self, keys: &[(UserId, ClientKey)]) -> Result<Vec<Message>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.opened()?;
        let asked = |message: &&Arc<Message>| keys.iter().any(|(user, key)| is_of(message, *user, key));
        Ok(store.messages.iter().filter(asked).map(|message| Message::clone(message)).collect())
    }

    async fn members(&mut self, ids: &[MemberId]) -> Result<Vec<Member>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let store = self.opened()?;
        Ok(ids.iter().filter_map(|id| store.members.get(id).cloned()).collect())
    }

    async fn owners(&mut self, _: ConversationId, _: u32) -> Result<Vec<UserId>, StoreError> {
        unasked()
    }

    async fn existing_users(&mut self, _: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        unasked()
    }

    async fn group_by_key(
        &mut self,
        _: UserId,
        _: &ClientKey,
    ) -> Result<Option<(ConversationId, [u8; 16])>, StoreError> {
        unasked()
    }

    async fn insert_conversation(&mut self, _: &NewConversation) -> Result<(), StoreError> {
        unasked()
    }

    async fn put_members(&mut self, _: &[Member]) -> Result<(), StoreError> {
        unasked()
    }

    async fn write_messages(
        &mut self,
        messages: &[Arc<Message>],
        heads: &[Conversation],
    ) -> Result<(), StoreError> {
        if messages.is_empty() && heads.is_empty() {
            return self.opened().map(drop);
        }
        self.wrote.texts.extend(messages.iter().map(|message| text_of(message).to_owned()));
        self.staged.extend(messages.iter().cloned().map(Staged::Message));
        if !self.waits {
            self.check()?;
        }
        self.staged.extend(heads.iter().cloned().map(Staged::Head));
        Ok(())
    }

    async fn put_mentions(&mut self, mentioned: &[(MemberId, i32)]) -> Result<(), StoreError> {
        assert!(mentioned.is_empty(), "no test here mentions anybody");
        Ok(())
    }

    async fn update_reads(&mut self, members: &[Member]) -> Result<(), StoreError> {
        self.wrote.reads = members.len();
        self.staged.extend(members.iter().cloned().map(Staged::Member));
        Ok(())
    }

    async fn countable_at(
        &mut self,
        at: &[(ConversationId, i32)],
    ) -> Result<Vec<(ConversationId, i32, i32)>, StoreError> {
        // Every message of these tests is countable.
        Ok(at.iter().map(|(conversation, seq)| (*conversation, *seq, *seq)).collect())
    }

    async fn end_sessions(&mut self, _: EndSessions, _: Timestamp) -> Result<Vec<SessionId>, StoreError> {
        unasked()
    }

    async fn set_password_hash(&mut self, _: UserId, _: &str) -> Result<(), StoreError> {
        unasked()
    }

    async fn commit(
        mut self: Box<Self>,
        _: &[(LaneId, Vec<LoggedFact>)],
        _: Timestamp,
    ) -> Result<(), StoreError> {
        if self.waits {
            let checked = self.check();
            if let Err(error) = checked {
                self.log.lock().portions.push(self.wrote.clone());
                return Err(match error {
                    StoreError::Fault(_) => StoreError::Behind(Box::new(error)),
                    certain => certain,
                });
            }
        }
        let mut store = self.log.lock();
        store.pos = self.pos;
        self.wrote.committed = true;
        for staged in self.staged.drain(..) {
            match staged {
                Staged::Message(message) => store.messages.push(message),
                Staged::Head(head) => drop(store.conversations.insert(head.id, head)),
                Staged::Member(member) => drop(store.members.insert(member.id(), member)),
            }
        }
        store.portions.push(self.wrote.clone());
        if one_less(&self.log.lost_answers) {
            return Err(StoreError::InDoubt("the connection is gone".into()));
        }
        Ok(())
    }

    async fn rollback(self: Box<Self>) {
        self.log.lock().portions.push(self.wrote.clone());
    }
}

/// Takes one, if there is one.
fn one_less(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn is_of(message: &Message, user: UserId, key: &ClientKey) -> bool {
    message.sender == Some(user) && message.client_key.as_ref() == Some(key)
}

fn unasked<T>() -> Result<T, StoreError> {
    Err(StoreError::Fault("a committer does not ask for this".into()))
}

/// Nobody listens.
pub struct SilentBus;

impl Bus for SilentBus {
    fn publish(&self, _: Arc<LoggedBatch>) {}

    fn subscribe(&self) -> broadcast::Receiver<Arc<LoggedBatch>> {
        broadcast::channel(1).1
    }
}
