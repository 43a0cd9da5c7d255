//! The read side: finders scoped to a viewer, and those of the hub.

use async_trait::async_trait;
use sea_orm::Value;

use super::{
    SqlStore,
    dialect::{MEMBER_PAIRS, MESSAGE_PLACES},
    rows::{CONVERSATION, MEMBER, MESSAGE, Row, USER, id_value},
    statement::Sql,
};
use crate::{
    Conversation, ConversationId, ConversationView, Direction, Member, MemberId, Message, MessageId,
    PageRequest, Positions, User, UserId,
    port::{
        Conversations, StoreError,
        conversations::{ListCursor, Missed},
    },
};

/// Holds for rows of a table whose `conversation_id` the viewer may read now.
const VIEWER_IS_MEMBER: &str = " AND EXISTS (SELECT 1 FROM member v WHERE v.removed_rev IS NULL \
    AND v.conversation_id = {table}.conversation_id AND v.user_id = ";

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
        let (order, size) = match request.direction {
            Direction::Forward => (" ORDER BY m.user_id LIMIT ", i64::from(request.size) + 1),
            Direction::Backward => (" ORDER BY m.user_id DESC LIMIT ", i64::from(request.size) + 1),
        };
        // One bounded select a conversation. The number of selects is padded with an id that no conversation has, so that
        // few distinct texts fill the statement caches.
        let padded = conversations.len().next_power_of_two();
        let nobody = Value::from(vec![0_u8; 16]);
        let ids = conversations.iter().map(|id| id_value(*id)).chain(std::iter::repeat(nobody)).take(padded);
        let mut sql = self.sql("");
        for (index, id) in ids.enumerate() {
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

    async fn members(&self, viewer: UserId, ids: &[MemberId]) -> Result<Vec<Member>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sql = self.members_at(ids).push(" AND m.removed_rev IS NULL");
        self.read_members(Self::visible_to(sql, "m", viewer)).await
    }

    async fn history(
        &self,
        viewer: UserId,
        conversation: ConversationId,
        request: &PageRequest<i32>,
    ) -> Result<Vec<Message>, StoreError> {
        let mut sql = self.messages_where().push("g.conversation_id = ").bind(id_value(conversation));
        if let Some(after) = request.after {
            sql = sql.push(" AND g.seq > ").bind(after);
        }
        if let Some(before) = request.before {
            sql = sql.push(" AND g.seq < ").bind(before);
        }
        let order = match request.direction {
            Direction::Forward => " ORDER BY g.seq LIMIT ",
            Direction::Backward => " ORDER BY g.seq DESC LIMIT ",
        };
        let sql = Self::visible_to(sql, "g", viewer).push(order).bind(i64::from(request.size) + 1);
        self.read_messages(sql).await
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
        limit: u32,
    ) -> Result<Missed, StoreError> {
        self.read_missed(viewer, since, only, limit).await
    }
}
