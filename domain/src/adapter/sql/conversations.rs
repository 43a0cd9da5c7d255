//! The read side: finders scoped to a viewer, and those of the hub.

use std::cmp::Reverse;

use async_trait::async_trait;
use sea_orm::Value;

use super::{
    SqlStore,
    dialect::{MEMBER_PAIRS, MESSAGE_PLACES},
    missed::Question,
    rows::{CONVERSATION, MEMBER, MESSAGE, Row, USER, id_value},
    statement::Sql,
};
use crate::{
    Conversation, ConversationId, ConversationView, Direction, Member, MemberId, Message, MessageId,
    PageRequest, Positions, User, UserId,
    port::{
        Conversations, StoreError,
        conversations::{HistoryPage, ListCursor, Missed, MissedBounds},
    },
};

/// Holds for rows of a table whose `conversation_id` the viewer may read now.
const VIEWER_IS_MEMBER: &str = " AND EXISTS (SELECT 1 FROM member v WHERE v.removed_rev IS NULL \
    AND v.conversation_id = {table}.conversation_id AND v.user_id = ";

/// Pages read by one statement. `SQLite` takes 500 selects in one, and a statement cache as few texts as possible.
const PAGES_A_STATEMENT: usize = 128;

/// The number of selects is padded with an id that no conversation has, so that few distinct texts fill the statement caches.
fn padded(ids: impl ExactSizeIterator<Item = Value>) -> impl Iterator<Item = Value> {
    let padded = ids.len().next_power_of_two();
    ids.chain(std::iter::repeat(Value::from(vec![0_u8; 16]))).take(padded)
}

impl SqlStore {
    pub(super) fn sql(&self, text: &str) -> Sql {
        Sql::new(self.dialect, text)
    }

    fn visible_to(sql: Sql, table: &str, viewer: UserId) -> Sql {
        sql.push(&VIEWER_IS_MEMBER.replace("{table}", table)).bind(viewer.0).push(")")
    }

    async fn read_messages(&self, sql: Sql) -> Result<Vec<Message>, StoreError> {
        let rows = sql.all(&self.reader).await?;
        rows.iter().map(|row| Row::new(row).message()).collect()
    }

    async fn read_members(&self, sql: Sql) -> Result<Vec<Member>, StoreError> {
        let rows = sql.all(&self.reader).await?;
        rows.iter().map(|row| Row::new(row).member()).collect()
    }

    async fn read_views(&self, sql: Sql) -> Result<Vec<ConversationView>, StoreError> {
        let rows = sql.all(&self.reader).await?;
        rows.iter()
            .map(|row| {
                let mut row = Row::new(row);
                Ok(ConversationView { conversation: row.conversation()?.into(), viewer: row.member()? })
            })
            .collect()
    }

    async fn read_member_pages(
        &self,
        viewer: UserId,
        conversations: &[ConversationId],
        request: &PageRequest<UserId>,
    ) -> Result<Vec<Member>, StoreError> {
        let (order, size) = match request.direction {
            Direction::Forward => (" ORDER BY m.user_id LIMIT ", i64::from(request.size) + 1),
            Direction::Backward => (" ORDER BY m.user_id DESC LIMIT ", i64::from(request.size) + 1),
        };
        let mut sql = self.sql("");
        for (index, id) in padded(conversations.iter().map(|id| id_value(*id))).enumerate() {
            sql = sql.push(if index > 0 { " UNION ALL " } else { "" }).push("SELECT * FROM (SELECT ");
            sql = sql
                .push(MEMBER)
                .push(" FROM member m WHERE m.removed_rev IS NULL AND m.conversation_id = ")
                .bind(id);
            if let Some(after) = request.after {
                sql = sql.push(" AND m.user_id > ").bind(after.0);
            }
            if let Some(before) = request.before {
                sql = sql.push(" AND m.user_id < ").bind(before.0);
            }
            sql = Self::visible_to(sql, "m", viewer).push(order).bind(size).push(&format!(") p{index}"));
        }
        self.read_members(sql).await
    }

    /// One bounded select a page, whatever each asks for: rows say of which page they are.
    async fn read_history_pages(
        &self,
        viewer: UserId,
        pages: &[HistoryPage],
    ) -> Result<Vec<Vec<Message>>, StoreError> {
        let mut sql = self.sql("");
        for (index, id) in padded(pages.iter().map(|page| id_value(page.conversation))).enumerate() {
            // The select of a single page needs no table of its own.
            let (begin, end) = match pages.len() {
                1 => (String::new(), String::new()),
                _ => ("SELECT * FROM (".to_owned(), format!(") p{index}")),
            };
            let request = pages.get(index).or(pages.last()).map(|page| &page.request);
            let Some(PageRequest { size, direction, after, before }) = request else { break };
            let order = match direction {
                Direction::Forward => " ORDER BY g.seq LIMIT ",
                Direction::Backward => " ORDER BY g.seq DESC LIMIT ",
            };
            sql = sql
                .push(if index > 0 { " UNION ALL " } else { "" })
                .push(&begin)
                .push("SELECT ")
                .push(MESSAGE);
            sql = sql.push(&format!(", {index} AS page FROM message g WHERE g.conversation_id = ")).bind(id);
            // Bounds that are always there, so that pages with and without cursors are one text.
            sql = sql.push(" AND g.seq BETWEEN ").bind(after.unwrap_or(0).saturating_add(1));
            sql = sql.push(" AND ").bind(before.map_or(i32::MAX, |before| before.saturating_sub(1)));
            sql = Self::visible_to(sql, "g", viewer).push(order).bind(i64::from(*size) + 1).push(&end);
        }
        let mut found = vec![Vec::new(); pages.len()];
        for row in sql.all_or_none(&self.reader, pages.is_empty()).await? {
            let mut row = Row::new(&row);
            let message = row.message()?;
            let page = usize::try_from(row.get::<i32>()?).ok().and_then(|page| found.get_mut(page));
            page.ok_or_else(|| StoreError::Fault("a row of no page".into()))?.push(message);
        }
        // A union promises no order.
        for (rows, page) in found.iter_mut().zip(pages) {
            match page.request.direction {
                Direction::Forward => rows.sort_unstable_by_key(|message| message.seq),
                Direction::Backward => rows.sort_unstable_by_key(|message| Reverse(message.seq)),
            }
        }
        Ok(found)
    }

    fn views_of(&self, viewer: UserId) -> Sql {
        self.sql("SELECT ")
            .push(CONVERSATION)
            .push(", ")
            .push(MEMBER)
            .push(" FROM member m JOIN conversation c ON c.id = m.conversation_id WHERE m.user_id = ")
            .bind(viewer.0)
            .push(" AND m.removed_rev IS NULL")
    }

    fn messages_where(&self) -> Sql {
        self.sql("SELECT ").push(MESSAGE).push(" FROM message g WHERE ")
    }

    fn messages_in_places(&self, at: &[(ConversationId, i32)]) -> Sql {
        let places = at.iter().map(|(conversation, seq)| [id_value(*conversation), (*seq).into()]);
        self.dialect.pairs_from(self.sql("SELECT ").push(MESSAGE), &MESSAGE_PLACES, places)
    }

    fn members_at(&self, ids: &[MemberId]) -> Sql {
        let pairs = ids.iter().map(|id| [id_value(id.conversation), id.user.0.into()]);
        self.dialect.pairs_from(self.sql("SELECT ").push(MEMBER), &MEMBER_PAIRS, pairs)
    }
}

#[async_trait]
impl Conversations for SqlStore {
    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let select = self.sql("SELECT ").push(USER).push(" FROM user_account u WHERE u.id IN ");
        let rows = select.list(ids.iter().map(|id| id.0)).all(&self.reader).await?;
        rows.iter().map(|row| Row::new(row).user()).collect()
    }

    async fn user_by_username_key(&self, key: &str) -> Result<Option<User>, StoreError> {
        let select = self.sql("SELECT ").push(USER).push(" FROM user_account u WHERE u.username_key = ");
        let row = select.bind(key.as_bytes().to_vec()).one(&self.reader).await?;
        row.map(|row| Row::new(&row).user()).transpose()
    }

    async fn views(
        &self,
        viewer: UserId,
        ids: &[ConversationId],
    ) -> Result<Vec<ConversationView>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = ids.iter().map(|id| id_value(*id));
        self.read_views(self.views_of(viewer).push(" AND m.conversation_id IN ").list(ids)).await
    }

    async fn list(
        &self,
        viewer: UserId,
        request: &PageRequest<ListCursor>,
    ) -> Result<Vec<ConversationView>, StoreError> {
        let beyond = |sql: Sql, cursor: &ListCursor, sign: &str| {
            sql.push(&format!(" AND (c.active_at {sign} "))
                .bind(cursor.active_at.0)
                .push(" OR (c.active_at = ")
                .bind(cursor.active_at.0)
                .push(&format!(" AND c.id {sign} "))
                .bind(id_value(cursor.conversation))
                .push("))")
        };
        let mut sql = self.views_of(viewer);
        if let Some(after) = &request.after {
            sql = beyond(sql, after, "<");
        }
        if let Some(before) = &request.before {
            sql = beyond(sql, before, ">");
        }
        let order = match request.direction {
            Direction::Forward => " ORDER BY c.active_at DESC, c.id DESC LIMIT ",
            Direction::Backward => " ORDER BY c.active_at, c.id LIMIT ",
        };
        self.read_views(sql.push(order).bind(i64::from(request.size) + 1)).await
    }

    async fn member_pages(
        &self,
        viewer: UserId,
        conversations: &[ConversationId],
        request: &PageRequest<UserId>,
    ) -> Result<Vec<Member>, StoreError> {
        let mut members = Vec::new();
        for conversations in conversations.chunks(PAGES_A_STATEMENT) {
            members.extend(self.read_member_pages(viewer, conversations, request).await?);
        }
        Ok(members)
    }

    async fn members(&self, viewer: UserId, ids: &[MemberId]) -> Result<Vec<Member>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sql = self.members_at(ids).push(" AND m.removed_rev IS NULL");
        self.read_members(Self::visible_to(sql, "m", viewer)).await
    }

    async fn history_pages(
        &self,
        viewer: UserId,
        pages: &[HistoryPage],
    ) -> Result<Vec<Vec<Message>>, StoreError> {
        let mut found = Vec::with_capacity(pages.len());
        for pages in pages.chunks(PAGES_A_STATEMENT) {
            found.extend(self.read_history_pages(viewer, pages).await?);
        }
        Ok(found)
    }

    async fn messages(&self, viewer: UserId, ids: &[MessageId]) -> Result<Vec<Message>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sql = self.messages_where().push("g.id IN ").list(ids.iter().map(|id| id.0));
        self.read_messages(Self::visible_to(sql, "g", viewer)).await
    }

    async fn messages_at(
        &self,
        viewer: UserId,
        at: &[(ConversationId, i32)],
    ) -> Result<Vec<Message>, StoreError> {
        if at.is_empty() {
            return Ok(Vec::new());
        }
        self.read_messages(Self::visible_to(self.messages_in_places(at), "g", viewer)).await
    }

    async fn heads_of(&self, ids: &[ConversationId]) -> Result<Vec<Conversation>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sql = self.sql("SELECT ").push(CONVERSATION).push(" FROM conversation c WHERE c.id IN ");
        let rows = sql.list(ids.iter().map(|id| id_value(*id))).all(&self.reader).await?;
        rows.iter().map(|row| Row::new(row).conversation()).collect()
    }

    async fn messages_for_hub(&self, at: &[(ConversationId, i32)]) -> Result<Vec<Message>, StoreError> {
        if at.is_empty() {
            return Ok(Vec::new());
        }
        self.read_messages(self.messages_in_places(at)).await
    }

    async fn members_for_hub(&self, ids: &[MemberId]) -> Result<Vec<Member>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.read_members(self.members_at(ids)).await
    }

    async fn missed(
        &self,
        viewer: UserId,
        since: Option<&Positions>,
        only: Option<&[ConversationId]>,
        bounds: MissedBounds,
    ) -> Result<Missed, StoreError> {
        let (since, only) = (since.cloned(), only.map(<[_]>::to_vec));
        self.read_missed(Question { viewer, since, only, bounds }).await
    }
}
