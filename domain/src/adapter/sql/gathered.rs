//! What many subscriptions missed, read together: whoever gets a turn reads for all that wait, in one snapshot, and the rows of a
//! conversation once for all of its members.
//!
//! A subscription that waits alone is read by itself, and so is one that missed more of a conversation than [`WINDOW`]: both ways see the
//! same rows of a snapshot, and tell the same of them.

use std::{collections::HashMap, sync::Arc};

use futures_util::FutureExt as _;

use super::{
    SqlStore,
    dialect::{Dialect, MEMBER_PAIRS},
    gathering::{Answer, Waiting},
    missed::{CONVERSATIONS_A_STATEMENT, Memberships, Question},
    pool::Transaction,
    rows::{CONVERSATION, MEMBER, MESSAGE, Row, id_value},
    statement::Sql,
};
use crate::{
    Conversation, ConversationId, Member, MemberId, Message,
    port::{
        StoreError,
        conversations::{Missed, MissedBounds, MissedInConversation},
    },
};

/// Conversations of all of them together; who would be beyond is read for in another snapshot.
const CONVERSATIONS_MAX: usize = 512;
/// The newest messages that are read of a conversation. Who missed more reads alone.
const WINDOW: i32 = 32;
/// Changed memberships that are read in one statement; where there are more, each reads alone.
const MEMBERS_MAX: usize = 4096;

/// Why several could not be read, for each of them.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
struct Common(Arc<StoreError>);

impl Common {
    fn to_one(&self) -> StoreError {
        let source = Box::new(self.clone());
        match *self.0 {
            StoreError::Duplicate(_) | StoreError::Fault(_) => StoreError::Fault(source),
            StoreError::Conflict(_) | StoreError::Behind(_) => StoreError::Conflict(source),
            StoreError::Unavailable(_) | StoreError::InDoubt(_) => StoreError::Unavailable(source),
        }
    }
}

/// What was read of a conversation for all that asked.
struct Shared {
    conversation: Arc<Conversation>,
    /// The newest, oldest first: all that are new to anybody, or [`WINDOW`] of them.
    messages: Vec<Arc<Message>>,
    members: Vec<Member>,
}

impl Shared {
    /// Whether everything after this position of its lane is here. Positions grow with `seq`.
    fn is_complete(&self, told_after: i64) -> bool {
        let read = i32::try_from(self.messages.len()).unwrap_or(i32::MAX);
        read < WINDOW
            || self.conversation.last_seq <= WINDOW
            || self.messages.first().is_some_and(|oldest| oldest.pos <= told_after)
    }
}

/// A conversation that is read for several, and after which position of its lane the first of them is told.
type Since = (ConversationId, i64);

impl SqlStore {
    /// In a task of its own: a snapshot is a transaction, and whoever reads may read for others.
    pub(super) async fn read_missed(&self, question: Question) -> Result<Missed, StoreError> {
        let mut answer = self.gathering.enter(question.clone());
        let answer = loop {
            tokio::select! {
                biased;
                answered = &mut answer => break answered,
                turn = self.turns.to_gather() => {
                    let turn = turn?;
                    let taken = self.gathering.take().await;
                    if taken.is_empty() {
                        // Somebody else reads for this one.
                        drop(turn);
                        break (&mut answer).await;
                    }
                    // Allocated by whoever reads: the others, many in a storm, only wait.
                    self.read_together(taken).boxed().await;
                }
            }
        };
        match answer {
            Ok(Answer::Read(missed)) => missed,
            Ok(Answer::ReadAlone) => {
                let _turn = self.turns.take().await?;
                self.read_alone(&question).boxed().await
            }
            Err(gone) => Err(StoreError::Unavailable(gone.into())),
        }
    }

    async fn read_alone(&self, question: &Question) -> Result<Missed, StoreError> {
        let snapshot = self.dialect.begin_snapshot(&self.snapshots).await?;
        let missed = self.missed_in(&snapshot, question).await;
        let _ = snapshot.rollback().await;
        missed
    }

    /// Answers all of these, in as many snapshots as it takes.
    async fn read_together(&self, mut asked: Vec<Waiting>) {
        while asked.len() > 1 {
            asked = self.read_some(asked).await;
        }
        if let Some(Waiting { question, reply }) = asked.pop() {
            let _ = reply.send(Answer::Read(self.read_alone(&question).await));
        }
    }

    /// Answers those that fit into one snapshot; the rest is left.
    async fn read_some(&self, mut asked: Vec<Waiting>) -> Vec<Waiting> {
        let answers = match self.dialect.begin_snapshot(&self.snapshots).await {
            Ok(snapshot) => {
                let questions: Vec<&Question> = asked.iter().map(|one| &one.question).collect();
                let answers = self.gathered_in(&snapshot, &questions).await;
                let _ = snapshot.rollback().await;
                answers
            }
            Err(error) => Err(error),
        };
        match answers {
            Ok(answers) => {
                let rest = asked.split_off(answers.len().min(asked.len()));
                for (one, answer) in asked.into_iter().zip(answers) {
                    // One that was cancelled needs none.
                    let _ = one.reply.send(answer);
                }
                rest
            }
            Err(error) => {
                let common = Common(Arc::new(error));
                for one in asked {
                    let _ = one.reply.send(Answer::Read(Err(common.to_one())));
                }
                Vec::new()
            }
        }
    }

    /// The answers to the first of the questions, as many as there is room for, and one at least.
    async fn gathered_in(
        &self,
        snapshot: &Transaction,
        questions: &[&Question],
    ) -> Result<Vec<Answer>, StoreError> {
        let Some(bounds) = questions.first().map(|first| first.bounds) else { return Ok(Vec::new()) };
        let (heads, floor) = self.heads_in(snapshot).await?;
        let of_all = self.memberships_in(snapshot, questions).await?;
        let (fitting, wanted) = those_that_fit(&of_all);
        let pairs = of_all.iter().zip(questions).take(fitting).filter(|(one, _)| is_light(one));
        let pairs: Vec<MemberId> = pairs
            .flat_map(|(one, question)| {
                one.changed.iter().map(|(id, _)| MemberId { conversation: *id, user: question.viewer })
            })
            .collect();
        let (mut read, mut viewers) = (HashMap::new(), HashMap::new());
        for chunk in wanted.chunks(CONVERSATIONS_A_STATEMENT) {
            self.conversations_in(snapshot, chunk, bounds, &mut read).await?;
        }
        for chunk in pairs.chunks(MEMBERS_MAX) {
            self.viewers_in(snapshot, chunk, &mut viewers).await?;
        }
        let answers = of_all.into_iter().zip(questions).take(fitting).map(|(memberships, question)| {
            let Some(conversations) = told(question, &memberships, &read, &viewers) else {
                return Answer::ReadAlone;
            };
            let since =
                |id| question.since.as_ref().map_or(0, |since| since.get(self.layout.of_conversation(id)));
            let events: usize =
                conversations.iter().map(|one| one.events(since(one.conversation.id), bounds)).sum();
            let rows: usize = conversations.iter().map(|one| one.messages.len() + one.members.len()).sum();
            Answer::Read(Ok(Missed {
                heads: heads.clone(),
                resumable_from: floor.clone(),
                memberships: memberships.active,
                too_much: events.max(rows) > usize::try_from(bounds.events_max).unwrap_or(usize::MAX),
                conversations,
            }))
        });
        Ok(answers.collect())
    }

    async fn conversations_in(
        &self,
        snapshot: &Transaction,
        wanted: &[Since],
        bounds: MissedBounds,
        read: &mut HashMap<ConversationId, Shared>,
    ) -> Result<(), StoreError> {
        let heads = self.sql("SELECT ").push(CONVERSATION).push(" FROM conversation c WHERE c.id IN ");
        let heads = heads.list(wanted.iter().map(|(id, _)| id_value(*id))).all(snapshot).await?;
        let since: HashMap<ConversationId, i64> = wanted.iter().copied().collect();
        let mut open: Vec<(Conversation, i64)> = Vec::with_capacity(heads.len());
        for row in &heads {
            let conversation = Row::new(row).conversation()?;
            let since = since.get(&conversation.id).copied().unwrap_or(0);
            open.push((conversation, since));
        }
        let Some(members) = self.changed_members_in(snapshot, &open, bounds).await? else { return Ok(()) };
        let messages = self.windows_in(snapshot, &open).await?;
        for (conversation, _) in open {
            let id = conversation.id;
            let conversation = Arc::new(conversation);
            read.insert(id, Shared { conversation, messages: Vec::new(), members: Vec::new() });
        }
        for message in messages {
            if let Some(shared) = read.get_mut(&message.conversation) {
                shared.messages.push(Arc::new(message));
            }
        }
        for member in members {
            if let Some(shared) = read.get_mut(&member.conversation) {
                shared.members.push(member);
            }
        }
        for shared in read.values_mut() {
            shared.messages.sort_unstable_by_key(|message| message.seq);
        }
        Ok(())
    }

    /// Of each conversation the new ones among the newest.
    async fn windows_in(
        &self,
        snapshot: &Transaction,
        open: &[(Conversation, i64)],
    ) -> Result<Vec<Message>, StoreError> {
        let sql = self.sql("SELECT ").push(MESSAGE).push(" FROM message g ").push(match self.dialect {
            // Left alone, MariaDB weighs every index for every range.
            Dialect::MySql => "FORCE INDEX (PRIMARY) WHERE ",
            Dialect::Postgres | Dialect::Sqlite => "WHERE ",
        });
        let sql = any_of(sql, open, |sql, (conversation, since)| {
            sql.push("(g.conversation_id = ")
                .bind(id_value(conversation.id))
                .push(" AND g.seq > ")
                .bind(conversation.last_seq.saturating_sub(WINDOW))
                .push(" AND g.pos > ")
                .bind(*since)
                .push(")")
        });
        let rows = sql.all_or_none(snapshot, open.is_empty()).await?;
        rows.iter().map(|row| Row::new(row).message()).collect()
    }

    /// Members whose change shows; `None` when there are too many.
    async fn changed_members_in(
        &self,
        snapshot: &Transaction,
        open: &[(Conversation, i64)],
        bounds: MissedBounds,
    ) -> Result<Option<Vec<Member>>, StoreError> {
        let sql = self.sql("SELECT ").push(MEMBER).push(" FROM member m ").push(match self.dialect {
            Dialect::MySql => "FORCE INDEX (member_conversation_id_pos) WHERE ",
            Dialect::Postgres | Dialect::Sqlite => "WHERE ",
        });
        let sql = any_of(sql, open, |sql, (conversation, since)| {
            // A read mark is all that most members of a large group change, and nobody is told of it.
            let reads_since = if bounds.shows_reads(conversation) { *since } else { i64::MAX };
            let sql = sql.push("(m.conversation_id = ").bind(id_value(conversation.id));
            let sql = sql.push(" AND m.pos > ").bind(*since);
            let facts = [("joined", *since), ("removed", *since), ("role", *since), ("read", reads_since)];
            let sql = facts.into_iter().enumerate().fold(sql, |sql, (index, (fact, since))| {
                let or = if index > 0 { " OR" } else { " AND (" };
                sql.push(&format!("{or} m.{fact}_pos > ")).bind(since)
            });
            sql.push("))")
        });
        let limit = i64::try_from(MEMBERS_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let rows = sql.push(" LIMIT ").bind(limit).all_or_none(snapshot, open.is_empty()).await?;
        if rows.len() > MEMBERS_MAX {
            return Ok(None);
        }
        rows.iter().map(|row| Row::new(row).member()).collect::<Result<_, _>>().map(Some)
    }

    async fn viewers_in(
        &self,
        snapshot: &Transaction,
        ids: &[MemberId],
        viewers: &mut HashMap<MemberId, Member>,
    ) -> Result<(), StoreError> {
        let pairs = ids.iter().map(|id| [id_value(id.conversation), id.user.0.into()]);
        let sql = self.dialect.pairs_from(self.sql("SELECT ").push(MEMBER), &MEMBER_PAIRS, pairs);
        for row in &sql.all_or_none(snapshot, ids.is_empty()).await? {
            let member = Row::new(row).member()?;
            viewers.insert(member.id(), member);
        }
        Ok(())
    }
}

/// More than one statement asks for is read alone.
fn is_light(memberships: &Memberships) -> bool {
    memberships.changed.len() <= CONVERSATIONS_A_STATEMENT
}

/// How many of the first fit together, and the conversations that are to be read for them.
fn those_that_fit(of_all: &[Memberships]) -> (usize, Vec<Since>) {
    let mut wanted: HashMap<ConversationId, i64> = HashMap::new();
    for (index, memberships) in of_all.iter().enumerate() {
        if !is_light(memberships) {
            continue;
        }
        let more = memberships.changed.iter().filter(|(id, _)| !wanted.contains_key(id)).count();
        if index > 0 && wanted.len() + more > CONVERSATIONS_MAX {
            return (index, wanted.into_iter().collect());
        }
        for (id, told_after) in &memberships.changed {
            let first = wanted.entry(*id).or_insert(*told_after);
            *first = (*first).min(*told_after);
        }
    }
    (of_all.len(), wanted.into_iter().collect())
}

/// One viewer's part of what was read; `None` when it is not all there.
fn told(
    question: &Question,
    memberships: &Memberships,
    read: &HashMap<ConversationId, Shared>,
    viewers: &HashMap<MemberId, Member>,
) -> Option<Vec<MissedInConversation>> {
    if !is_light(memberships) {
        return None;
    }
    let told = memberships.changed.iter().map(|(id, told_after)| {
        let shared = read.get(id)?;
        let viewer = viewers.get(&MemberId { conversation: *id, user: question.viewer })?.clone();
        let conversation = shared.conversation.clone();
        if !viewer.is_active() {
            // Nothing but their removal is told to those who were removed.
            return Some(MissedInConversation {
                conversation,
                viewer,
                members: Vec::new(),
                messages: Vec::new(),
            });
        }
        if !shared.is_complete(*told_after) {
            return None;
        }
        let messages = shared.messages.iter().filter(|message| message.pos > *told_after).cloned();
        let shows_reads = question.bounds.shows_reads(&conversation);
        let changed = |member: &&Member| {
            member.user != viewer.user
                && (member.joined_pos > *told_after
                    || member.removed_pos > *told_after
                    || member.role_pos > *told_after
                    || (shows_reads && member.read_pos > *told_after))
        };
        let members = shared.members.iter().filter(changed).cloned().collect();
        Some(MissedInConversation { conversation, members, messages: messages.collect(), viewer })
    });
    told.collect()
}

/// Any of these conditions. The last is repeated up to a power of two, so that few distinct texts fill the connections' statement caches.
fn any_of<T>(sql: Sql, parts: &[T], mut part: impl FnMut(Sql, &T) -> Sql) -> Sql {
    let padding = parts.last().into_iter().cycle().take(parts.len().next_power_of_two() - parts.len());
    parts
        .iter()
        .chain(padding)
        .enumerate()
        .fold(sql, |sql, (index, item)| part(if index > 0 { sql.push(" OR ") } else { sql }, item))
}
