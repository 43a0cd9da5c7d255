//! Who talks to whom, and who may know whether somebody is there.

use async_trait::async_trait;

use super::{
    SqlStore,
    dialect::Otherwise,
    rows::{Row, id_value},
};
use crate::{
    ConversationId, SessionId, Timestamp, UserId,
    port::{Contacts, StoreError},
};

const STAY_HIDDEN: Otherwise = Otherwise {
    mysql: " ON DUPLICATE KEY UPDATE user_id = VALUES(user_id)",
    postgres: " ON CONFLICT (user_id) DO NOTHING",
    sqlite: " ON CONFLICT (user_id) DO NOTHING",
};

fn ids(users: &[UserId]) -> impl Iterator<Item = i64> {
    users.iter().map(|user| user.0)
}

#[async_trait]
impl Contacts for SqlStore {
    async fn contacts(
        &self,
        viewer: UserId,
        among: &[UserId],
        members_max: i32,
    ) -> Result<Vec<UserId>, StoreError> {
        let sql = self
            .sql(
                "SELECT DISTINCT o.user_id FROM member v JOIN conversation c ON c.id = v.conversation_id \
                 JOIN member o ON o.conversation_id = v.conversation_id AND o.removed_rev IS NULL AND o.user_id IN ",
            )
            .list(ids(among))
            .push(" WHERE v.removed_rev IS NULL AND v.user_id = ")
            .bind(viewer.0)
            .push(" AND c.member_count <= ")
            .bind(members_max);
        let rows = sql.all_or_none(&self.reader, among.is_empty()).await?;
        rows.iter().map(|row| Ok(UserId(Row::new(row).get()?))).collect()
    }

    async fn members_of(
        &self,
        conversations: &[ConversationId],
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        let sql = self
            .sql("SELECT DISTINCT m.user_id FROM member m WHERE m.removed_rev IS NULL AND m.conversation_id IN ")
            .list(conversations.iter().map(|id| id_value(*id)))
            .push(" ORDER BY m.user_id LIMIT ")
            .bind(i64::from(limit));
        let rows = sql.all_or_none(&self.reader, conversations.is_empty()).await?;
        rows.iter().map(|row| Ok(UserId(Row::new(row).get()?))).collect()
    }

    async fn hidden(&self, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let sql = self.sql("SELECT h.user_id FROM hidden_presence h WHERE h.user_id IN ").list(ids(users));
        let rows = sql.all_or_none(&self.reader, users.is_empty()).await?;
        rows.iter().map(|row| Ok(UserId(Row::new(row).get()?))).collect()
    }

    async fn set_hidden(&self, user: UserId, hidden: bool) -> Result<(), StoreError> {
        let sql = if hidden {
            let insert = self.sql("INSERT INTO hidden_presence (user_id) VALUES ").rows([[user.0.into()]]);
            insert.push(self.dialect.otherwise(&STAY_HIDDEN))
        } else {
            self.sql("DELETE FROM hidden_presence WHERE user_id = ").bind(user.0)
        };
        sql.run(&self.writer).await.map(drop)
    }

    async fn last_used(&self, users: &[UserId]) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        let sql = self
            .sql("SELECT s.user_id, MAX(s.last_used_at) FROM session s WHERE s.user_id IN ")
            .list(ids(users))
            .push(" GROUP BY s.user_id");
        let rows = sql.all_or_none(&self.reader, users.is_empty()).await?;
        rows.iter()
            .map(|row| {
                let mut row = Row::new(row);
                Ok((UserId(row.get()?), row.time()?))
            })
            .collect()
    }

    async fn note_used(&self, sessions: &[SessionId], until: Timestamp) -> Result<(), StoreError> {
        if sessions.is_empty() {
            return Ok(());
        }
        // In the order of the key, as everybody locks them.
        let mut sessions: Vec<i64> = sessions.iter().map(|session| session.0).collect();
        sessions.sort_unstable();
        let update = self.sql("UPDATE session SET last_used_at = ").bind(until.0);
        let update = update.push(" WHERE last_used_at < ").bind(until.0).push(" AND id IN ").list(sessions);
        update.run(&self.writer).await.map(drop)
    }
}
