//! What a subscription missed: the rows whose lane position is above its cursor's, from one snapshot. Here for one subscription alone;
//! `gathered` reads for many at once, and comes here with what does not fit.

use std::{collections::HashMap, sync::Arc};

use super::{
    SqlStore,
    pool::Transaction,
    rows::{CONVERSATION, MEMBER, MESSAGE, Row, id_value, role},
    statement::Sql,
};
use crate::{
    ConversationId, LaneId, Member, MemberRole, Message, Positions, UserId,
    port::{
        StoreError,
        conversations::{Missed, MissedBounds, MissedInConversation, told_after},
        log::Heads,
    },
};

/// With statistics of when there were few members, MariaDB reads them all for some tens of users.
const MEMBERS_OF_USERS: &str = " FORCE INDEX (member_user_id_removed_rev_conversation_id)";

/// Conversations asked for in one statement.
pub(super) const CONVERSATIONS_A_STATEMENT: usize = 64;

/// What a subscription wants to know.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub viewer: UserId,
    /// Without it nothing but heads and memberships.
    pub since: Option<Positions>,
    pub only: Option<Vec<ConversationId>>,
    pub bounds: MissedBounds,
}

/// Of one viewer.
#[derive(Default)]
pub(super) struct Memberships {
    pub active: Vec<(ConversationId, MemberRole)>,
    /// Which changed, and after which position of its lane the viewer is told of it.
    pub changed: Vec<(ConversationId, i64)>,
}

/// An open conversation of the viewer, and what of it is asked for.
struct Asked {
    id: ConversationId,
    last_seq: i32,
    /// Changes after this position.
    since: i64,
    shows_reads: bool,
}

impl SqlStore {
    pub(super) async fn missed_in(
        &self,
        snapshot: &Transaction,
        question: &Question,
    ) -> Result<Missed, StoreError> {
        let Question { viewer, bounds, .. } = *question;
        let (heads, floor) = self.heads_in(snapshot).await?;
        let mut of_all = self.memberships_in(snapshot, &[question]).await?;
        let Memberships { active, changed } = of_all.pop().unwrap_or_default();
        let mut missed = Missed {
            heads,
            resumable_from: floor,
            memberships: active,
            conversations: Vec::new(),
            too_much: false,
        };
        let Some(since) = &question.since else { return Ok(missed) };
        let changed: Vec<ConversationId> = changed.into_iter().map(|(id, _)| id).collect();
        let mut left = bounds;
        for chunk in changed.chunks(CONVERSATIONS_A_STATEMENT) {
            let (part, events) = self.changes_in(snapshot, viewer, since, chunk, left).await?;
            missed.conversations.extend(part);
            match u32::try_from(events).ok().and_then(|events| left.events_max.checked_sub(events)) {
                Some(events_max) => left.events_max = events_max,
                None => {
                    missed.too_much = true;
                    break;
                }
            }
        }
        Ok(missed)
    }

    /// Where the lanes stand, and from where on their entries are kept.
    pub(super) async fn heads_in(&self, snapshot: &Transaction) -> Result<(Heads, Positions), StoreError> {
        // Of a `MIN(o.pos)` that depends on the lane, MariaDB reads every entry there is.
        let sql = "SELECT e.epoch, l.id, l.pos, \
            COALESCE((SELECT o.pos - 1 FROM outbox o WHERE o.lane = l.id ORDER BY o.pos LIMIT 1), l.pos) \
            FROM log_lane l JOIN confab_meta e ON e.id = 1 ORDER BY l.id";
        let rows = self.sql(sql).all(snapshot).await?;
        let mut floor = Positions::zero(self.layout);
        for row in &rows {
            let mut row = Row::new(row);
            let (_, lane, _): (i64, i16, i64) = (row.get()?, row.get()?, row.get()?);
            floor.set(LaneId(lane.cast_unsigned()), row.get()?);
        }
        Ok((self.decode_heads(&rows)?, floor))
    }

    /// Of each question, in their order: all active memberships, and which conversations changed for the viewer, those of ended memberships first: a
    /// filter may name them, so that they are told of even when the rest is too much.
    pub(super) async fn memberships_in(
        &self,
        snapshot: &Transaction,
        questions: &[&Question],
    ) -> Result<Vec<Memberships>, StoreError> {
        let mut places: HashMap<UserId, Vec<usize>> = HashMap::new();
        for (place, question) in questions.iter().enumerate() {
            places.entry(question.viewer).or_default().push(place);
        }
        let rows = self
            .sql("SELECT m.user_id, m.conversation_id, m.role, m.joined_pos, m.removed_rev, m.removed_pos, c.pos FROM member m")
            .push(self.dialect.hint(MEMBERS_OF_USERS))
            .push(" JOIN conversation c ON c.id = m.conversation_id WHERE m.user_id IN ")
            .list(places.keys().map(|user| user.0))
            .all(snapshot)
            .await?;
        let mut found: Vec<(Memberships, Vec<_>)> = Vec::new();
        found.resize_with(questions.len(), Default::default);
        for row in &rows {
            let mut row = Row::new(row);
            let user = UserId(row.get()?);
            let id = row.conversation_id()?;
            let role = role(row.get()?);
            let joined_pos: i64 = row.get()?;
            let removed: Option<i32> = row.get()?;
            let removed_pos: i64 = row.get()?;
            let conversation_pos: i64 = row.get()?;
            let pos = if removed.is_some() { removed_pos } else { conversation_pos };
            let lane = self.layout.of_conversation(id);
            for place in places.get(&user).into_iter().flatten().copied() {
                let (Some((memberships, ended)), Some(question)) =
                    (found.get_mut(place), questions.get(place))
                else {
                    continue;
                };
                if removed.is_none() {
                    memberships.active.push((id, role));
                }
                let since = question.since.as_ref().map(|since| since.get(lane));
                let wanted = question.only.as_ref().is_none_or(|only| only.contains(&id));
                if let Some(since) = since.filter(|since| wanted && pos > *since) {
                    let told_after = told_after(since, joined_pos);
                    if removed.is_some() { ended } else { &mut memberships.changed }.push((id, told_after));
                }
            }
        }
        let ended_first = |(mut memberships, mut ended): (Memberships, Vec<_>)| {
            ended.append(&mut memberships.changed);
            memberships.changed = ended;
            memberships
        };
        Ok(found.into_iter().map(ended_first).collect())
    }

    /// What changed in these conversations, and how many events tell it: more than `bounds` allows when not all of it was read.
    async fn changes_in(
        &self,
        snapshot: &Transaction,
        viewer: UserId,
        since: &Positions,
        ids: &[ConversationId],
        bounds: MissedBounds,
    ) -> Result<(Vec<MissedInConversation>, usize), StoreError> {
        let views = self
            .sql("SELECT ")
            .push(CONVERSATION)
            .push(", ")
            .push(MEMBER)
            .push(" FROM member m JOIN conversation c ON c.id = m.conversation_id WHERE m.user_id = ")
            .bind(viewer.0)
            .push(" AND m.conversation_id IN ")
            .list(ids.iter().map(|id| id_value(*id)))
            .all(snapshot)
            .await?;
        let mut conversations = Vec::with_capacity(views.len());
        for row in &views {
            let mut row = Row::new(row);
            let (conversation, viewer) = (Arc::new(row.conversation()?), row.member()?);
            conversations.push(MissedInConversation {
                conversation,
                viewer,
                members: Vec::new(),
                messages: Vec::new(),
            });
        }
        // Nothing but their removal is told to those who were removed.
        let asked: Vec<Asked> = conversations
            .iter()
            .filter(|one| one.viewer.is_active())
            .map(|one| Asked {
                id: one.conversation.id,
                last_seq: one.conversation.last_seq,
                since: one.told_after(since.get(self.layout.of_conversation(one.conversation.id))),
                shows_reads: one.shows_reads(bounds),
            })
            .collect();
        let messages = self.messages_in(snapshot, &asked, bounds.events_max).await?;
        let mut rows = messages.len();
        let members = match usize::try_from(bounds.events_max).unwrap_or(usize::MAX).checked_sub(rows) {
            Some(left) => self.members_in(snapshot, viewer, &asked, left).await?,
            None => Vec::new(),
        };
        rows += members.len();
        let places: HashMap<ConversationId, usize> =
            conversations.iter().enumerate().map(|(place, one)| (one.conversation.id, place)).collect();
        for message in messages {
            if let Some(place) = places.get(&message.conversation) {
                conversations[*place].messages.push(Arc::new(message));
            }
        }
        for member in members {
            if let Some(place) = places.get(&member.conversation) {
                conversations[*place].members.push(member);
            }
        }
        for one in &mut conversations {
            one.messages.sort_unstable_by_key(|message| message.seq);
        }
        let events = conversations
            .iter()
            .map(|one| one.events(since.get(self.layout.of_conversation(one.conversation.id)), bounds));
        let events = events.sum::<usize>().max(rows);
        Ok((conversations, events))
    }

    /// At most `limit` + 1. Positions grow with `seq`, so the newest as many rows of a conversation show all that is new, or that it is
    /// too much.
    async fn messages_in(
        &self,
        snapshot: &Transaction,
        asked: &[Asked],
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let window = i32::try_from(limit).unwrap_or(i32::MAX);
        let sql = self.union(asked, |sql, one| {
            sql.push("SELECT ")
                .push(MESSAGE)
                .push(" FROM message g WHERE g.conversation_id = ")
                .bind(id_value(one.id))
                .push(" AND g.seq >= ")
                .bind(one.last_seq.saturating_sub(window))
                .push(" AND g.pos > ")
                .bind(one.since)
        });
        // Of the whole union.
        let sql = sql.push(" LIMIT ").bind(i64::from(limit) + 1);
        let rows = sql.all_or_none(snapshot, asked.is_empty()).await?;
        rows.iter().map(|row| Row::new(row).message()).collect()
    }

    /// Other members whose change shows, at most `limit` + 1.
    async fn members_in(
        &self,
        snapshot: &Transaction,
        viewer: UserId,
        asked: &[Asked],
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut index = 0;
        let sql = self.union(asked, |sql, one| {
            index += 1;
            let sql = sql
                .push("SELECT * FROM (SELECT ")
                .push(MEMBER)
                .push(" FROM member m WHERE m.conversation_id = ")
                .bind(id_value(one.id))
                .push(" AND m.pos > ")
                .bind(one.since)
                .push(" AND m.user_id <> ")
                .bind(viewer.0);
            let sql = if one.shows_reads {
                sql
            } else {
                // A read mark is all that most members of a large group change, and nobody is told of it.
                sql.push(" AND (m.joined_pos > ")
                    .bind(one.since)
                    .push(" OR m.removed_pos > ")
                    .bind(one.since)
                    .push(" OR m.role_pos > ")
                    .bind(one.since)
                    .push(")")
            };
            sql.push(" ORDER BY m.pos LIMIT ").bind(limit).push(&format!(") p{index}"))
        });
        let sql = sql.push(" LIMIT ").bind(limit);
        let rows = sql.all_or_none(snapshot, asked.is_empty()).await?;
        rows.iter().map(|row| Row::new(row).member()).collect()
    }

    fn union<T>(&self, parts: &[T], mut part: impl FnMut(Sql, &T) -> Sql) -> Sql {
        parts.iter().enumerate().fold(self.sql(""), |sql, (index, item)| {
            part(if index > 0 { sql.push(" UNION ALL ") } else { sql }, item)
        })
    }
}
