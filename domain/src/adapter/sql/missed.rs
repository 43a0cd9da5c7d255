//! What a subscription missed: the rows whose lane position is above its cursor's, from one snapshot.

use std::{collections::HashMap, sync::Arc};

use super::{
    SqlStore,
    pool::Transaction,
    rows::{CONVERSATION, MEMBER, MESSAGE, Row, id_value, role},
    statement::Sql,
};
use crate::{
    ConversationId, Member, MemberRole, Message, Positions, UserId,
    port::{
        StoreError,
        conversations::{Missed, MissedInConversation},
        log::Heads,
    },
};

/// Conversations asked for in one statement.
const CONVERSATIONS_A_STATEMENT: usize = 64;

impl SqlStore {
    pub(super) async fn read_missed(
        &self,
        viewer: UserId,
        since: Option<&Positions>,
        only: Option<&[ConversationId]>,
        limit: u32,
    ) -> Result<Missed, StoreError> {
        let snapshot = self.dialect.begin_snapshot(&self.snapshots).await?;
        let missed = self.missed_in(&snapshot, viewer, since, only, limit).await;
        let _ = snapshot.rollback().await;
        missed
    }

    async fn missed_in(
        &self,
        snapshot: &Transaction,
        viewer: UserId,
        since: Option<&Positions>,
        only: Option<&[ConversationId]>,
        limit: u32,
    ) -> Result<Missed, StoreError> {
        let heads = self.heads_in(snapshot).await?;
        let (memberships, changed) = self.memberships_in(snapshot, viewer, since).await?;
        let mut missed = Missed { heads, memberships, conversations: Vec::new(), too_much: false };
        let Some(since) = since else { return Ok(missed) };
        let changed: Vec<ConversationId> =
            changed.into_iter().filter(|id| only.is_none_or(|only| only.contains(id))).collect();
        let mut events = 0;
        for chunk in changed.chunks(CONVERSATIONS_A_STATEMENT) {
            let part = self.changes_in(snapshot, viewer, since, chunk, limit).await?;
            events += part.iter().map(|one| one.messages.len() + one.members.len()).sum::<usize>();
            missed.conversations.extend(part);
            if events > limit as usize {
                missed.too_much = true;
                break;
            }
        }
        Ok(missed)
    }

    async fn heads_in(&self, snapshot: &Transaction) -> Result<Heads, StoreError> {
        let sql = "SELECT e.epoch, l.id, l.pos FROM log_lane l JOIN confab_meta e ON e.id = 1 ORDER BY l.id";
        self.decode_heads(&self.sql(sql).all(snapshot).await?)
    }

    /// All active memberships, and which conversations changed for the viewer, ended memberships included.
    async fn memberships_in(
        &self,
        snapshot: &Transaction,
        viewer: UserId,
        since: Option<&Positions>,
    ) -> Result<(Vec<(ConversationId, MemberRole)>, Vec<ConversationId>), StoreError> {
        let rows = self
            .sql("SELECT m.conversation_id, m.role, m.removed_rev, m.removed_pos, c.pos FROM member m ")
            .push("JOIN conversation c ON c.id = m.conversation_id WHERE m.user_id = ")
            .bind(viewer.0)
            .all(snapshot)
            .await?;
        let (mut active, mut changed) = (Vec::new(), Vec::new());
        for row in &rows {
            let mut row = Row::new(row);
            let id = row.conversation_id()?;
            let role = role(row.get()?);
            let removed: Option<i32> = row.get()?;
            let removed_pos: i64 = row.get()?;
            let conversation_pos: i64 = row.get()?;
            let pos = if removed.is_some() { removed_pos } else { conversation_pos };
            if removed.is_none() {
                active.push((id, role));
            }
            if since.is_some_and(|since| pos > since.get(self.layout.of_conversation(id))) {
                changed.push(id);
            }
        }
        Ok((active, changed))
    }

    async fn changes_in(
        &self,
        snapshot: &Transaction,
        viewer: UserId,
        since: &Positions,
        ids: &[ConversationId],
        limit: u32,
    ) -> Result<Vec<MissedInConversation>, StoreError> {
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
        let open: Vec<(ConversationId, i32)> = conversations
            .iter()
            .filter(|one| one.viewer.is_active())
            .map(|one| (one.conversation.id, one.conversation.last_seq))
            .collect();
        let mut messages = self.messages_in(snapshot, since, &open, limit).await?;
        let mut members = self.members_in(snapshot, since, &open, limit).await?;
        for one in &mut conversations {
            one.messages = messages.remove(&one.conversation.id).unwrap_or_default();
            one.members = members.remove(&one.conversation.id).unwrap_or_default();
            one.members.retain(|member| member.user != viewer);
        }
        Ok(conversations)
    }

    /// Positions grow with `seq`, so the newest `limit` + 1 rows of a conversation show all that is new, or that it is too much.
    async fn messages_in(
        &self,
        snapshot: &Transaction,
        since: &Positions,
        open: &[(ConversationId, i32)],
        limit: u32,
    ) -> Result<HashMap<ConversationId, Vec<Arc<Message>>>, StoreError> {
        let window = i32::try_from(limit).unwrap_or(i32::MAX);
        let sql = self.union(open, |sql, (id, last_seq)| {
            sql.push("SELECT ")
                .push(MESSAGE)
                .push(" FROM message g WHERE g.conversation_id = ")
                .bind(id_value(*id))
                .push(" AND g.seq >= ")
                .bind(last_seq.saturating_sub(window))
                .push(" AND g.pos > ")
                .bind(since.get(self.layout.of_conversation(*id)))
        });
        let mut found: HashMap<_, Vec<Arc<Message>>> = HashMap::new();
        for row in &sql.all_or_none(snapshot, open.is_empty()).await? {
            let message = Row::new(row).message()?;
            found.entry(message.conversation).or_default().push(Arc::new(message));
        }
        for messages in found.values_mut() {
            messages.sort_unstable_by_key(|message| message.seq);
        }
        Ok(found)
    }

    async fn members_in(
        &self,
        snapshot: &Transaction,
        since: &Positions,
        open: &[(ConversationId, i32)],
        limit: u32,
    ) -> Result<HashMap<ConversationId, Vec<Member>>, StoreError> {
        let mut index = 0;
        let sql = self.union(open, |sql, (id, _)| {
            index += 1;
            sql.push("SELECT * FROM (SELECT ")
                .push(MEMBER)
                .push(" FROM member m WHERE m.conversation_id = ")
                .bind(id_value(*id))
                .push(" AND m.pos > ")
                .bind(since.get(self.layout.of_conversation(*id)))
                .push(" ORDER BY m.pos LIMIT ")
                .bind(i64::from(limit) + 1)
                .push(&format!(") p{index}"))
        });
        let mut found: HashMap<_, Vec<Member>> = HashMap::new();
        for row in &sql.all_or_none(snapshot, open.is_empty()).await? {
            let member = Row::new(row).member()?;
            found.entry(member.conversation).or_default().push(member);
        }
        Ok(found)
    }

    fn union<T>(&self, parts: &[T], mut part: impl FnMut(Sql, &T) -> Sql) -> Sql {
        parts.iter().enumerate().fold(self.sql(""), |sql, (index, item)| {
            part(if index > 0 { sql.push(" UNION ALL ") } else { sql }, item)
        })
    }
}
