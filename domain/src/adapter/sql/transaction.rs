//! The write path's hands: one transaction in one lane, or in several.

use std::sync::Arc;

use async_trait::async_trait;
use entity::{conversation, member, user_account};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait as _, EntityTrait, QueryFilter, Value,
    sea_query::{Expr, OnConflict},
};

use super::{
    batch_text,
    devices::remove_devices,
    dialect::{
        Dialect, MEMBER_PAIRS, MESSAGE_KEYS, MESSAGE_PLACES, Otherwise, commit_error, lane_number,
        statement_rows, store_error,
    },
    exchange::Exchange,
    kept::{Kept, Line},
    log::read_entries,
    pool::Transaction,
    rows::{
        CONVERSATION, HEADS, MEMBER, MESSAGE, READS, Row, head_values, id_value, member_row, message_columns,
        message_values,
    },
    statement::Sql,
    unsent::Unsent,
};
use crate::{
    ClientKey, Conversation, ConversationId, ConversationKind, LaneId, LaneLayout, LoggedFact, Member,
    MemberId, Message, SessionId, Timestamp, UserId,
    contract::outbox,
    port::{
        LaneTransaction, StoreError,
        log::{EndSessions, LogEntry, NewConversation},
    },
};

pub(super) struct SqlTransaction {
    pub dialect: Dialect,
    pub line: Line,
    /// Where its connection goes afterwards.
    pub kept: Kept,
    pub exchange: Exchange,
    pub layout: LaneLayout,
    /// The positions it takes.
    pub positions: Vec<(LaneId, i64)>,
    /// Where what it writes waits for its commit, or for something to be read.
    pub unsent: Option<Unsent>,
}

/// Mentions in one statement: a batch may have fifty times as many as messages, and more than a statement can bind.
const MENTIONS_AT_ONCE: usize = 512;

/// Under the lock of its lane a message is newer than any other that mentioned somebody there.
const TAKE_THE_NEW_MENTION: Otherwise = Otherwise {
    mysql: " ON DUPLICATE KEY UPDATE seq = VALUES(seq)",
    postgres: " ON CONFLICT (conversation_id, user_id) DO UPDATE SET seq = excluded.seq",
    sqlite: " ON CONFLICT (conversation_id, user_id) DO UPDATE SET seq = excluded.seq",
};

impl SqlTransaction {
    fn sql(&self, text: &str) -> Sql {
        Sql::new(self.dialect, text)
    }

    /// The connection, with the transaction open and everything written.
    async fn open(&mut self) -> Result<&Transaction, StoreError> {
        if let Some(unsent) = &mut self.unsent {
            unsent.send(&self.line.connection).await?;
        }
        Ok(&self.line.connection)
    }

    /// Statements of MySQL.
    async fn write(&mut self, statements: &str) -> Result<(), StoreError> {
        if let Some(unsent) = &mut self.unsent {
            unsent.push(statements);
        } else if !statements.is_empty() {
            let text = self.exchange.text(statements);
            self.line.connection.execute_unprepared(&text).await.map_err(store_error)?;
        }
        Ok(())
    }

    /// The title is written apart: it changes seldom, and a head is written with every batch.
    async fn write_titles(&mut self, heads: &[Conversation]) -> Result<(), StoreError> {
        for head in heads.iter().filter(|head| head.title_pos == head.pos) {
            conversation::Entity::update_many()
                .col_expr(conversation::Column::Title, Expr::value(head.title.as_deref().map(str::to_owned)))
                .col_expr(conversation::Column::TitlePos, Expr::value(head.title_pos))
                .col_expr(conversation::Column::TitleRev, Expr::value(head.title_rev))
                .filter(conversation::Column::Id.eq(head.id.as_bytes().to_vec()))
                .exec(self.open().await?)
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }

    async fn insert_messages(&self, messages: &[Arc<Message>]) -> Result<(), StoreError> {
        let insert = format!("{}message ({}) VALUES ", self.dialect.insert(), message_columns());
        let whole = if statement_rows(messages.len()) == messages.len() {
            messages.len()
        } else {
            messages.len() / 8 * 8
        };
        let (whole, rest) = messages.split_at(whole);
        for part in [whole, rest].into_iter().filter(|part| !part.is_empty()) {
            let rows = part.iter().map(|message| message_values(message)).collect::<Result<Vec<_>, _>>()?;
            self.sql(&insert).rows(rows).run(&self.line.connection).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl LaneTransaction for SqlTransaction {
    fn pos(&self, lane: LaneId) -> i64 {
        self.positions.iter().find(|(held, _)| *held == lane).map_or(0, |(_, pos)| *pos)
    }

    fn pos_of(&self, conversation: ConversationId) -> i64 {
        self.pos(self.layout.of_conversation(conversation))
    }

    async fn epoch(&mut self) -> Result<i64, StoreError> {
        let row = self.sql("SELECT epoch FROM confab_meta WHERE id = 1").one(self.open().await?).await?;
        Row::new(&row.ok_or_else(|| StoreError::Fault("the installation has no epoch".into()))?).get()
    }

    async fn read_log(&mut self, lane: LaneId, after: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        read_entries(self.dialect, self.open().await?, lane, after, limit).await
    }

    async fn lock_conversations(&mut self, ids: &[ConversationId]) -> Result<Vec<Conversation>, StoreError> {
        debug_assert!(ids.is_sorted(), "conversations are locked in the order of their ids");
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .sql("SELECT ")
            .push(CONVERSATION)
            .push(" FROM conversation c WHERE c.id IN ")
            .list(ids.iter().map(|id| id_value(*id)))
            .push(" ORDER BY c.id")
            .push(self.dialect.for_update())
            .all(self.open().await?)
            .await?;
        rows.iter().map(|row| Row::new(row).conversation()).collect()
    }

    async fn messages_by_key(&mut self, keys: &[(UserId, ClientKey)]) -> Result<Vec<Message>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let tuples = keys.iter().map(|(user, key)| [user.0.into(), key.as_str().as_bytes().to_vec().into()]);
        let select = self.sql("SELECT ").push(MESSAGE);
        let rows = self.dialect.pairs_from(select, &MESSAGE_KEYS, tuples).all(self.open().await?).await?;
        rows.iter().map(|row| Row::new(row).message()).collect()
    }

    async fn members(&mut self, ids: &[MemberId]) -> Result<Vec<Member>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let pairs = ids.iter().map(|id| [id_value(id.conversation), id.user.0.into()]);
        let select = self.sql("SELECT ").push(MEMBER);
        let rows = self.dialect.pairs_from(select, &MEMBER_PAIRS, pairs).all(self.open().await?).await?;
        rows.iter().map(|row| Row::new(row).member()).collect()
    }

    async fn owners(&mut self, conversation: ConversationId, limit: u32) -> Result<Vec<UserId>, StoreError> {
        let rows = self
            .sql("SELECT m.user_id FROM member m WHERE m.conversation_id = ")
            .bind(id_value(conversation))
            .push(" AND m.removed_rev IS NULL AND m.role = 2 LIMIT ")
            .bind(i64::from(limit))
            .all(self.open().await?)
            .await?;
        rows.iter().map(|row| Row::new(row).get().map(UserId)).collect()
    }

    async fn existing_users(&mut self, ids: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .sql("SELECT id FROM user_account WHERE id IN ")
            .list(ids.iter().map(|id| id.0))
            .all(self.open().await?)
            .await?;
        rows.iter().map(|row| Row::new(row).get().map(UserId)).collect()
    }

    async fn group_by_key(
        &mut self,
        creator: UserId,
        key: &ClientKey,
    ) -> Result<Option<(ConversationId, [u8; 16])>, StoreError> {
        let found = conversation::Entity::find()
            .filter(conversation::Column::CreatorId.eq(creator.0))
            .filter(conversation::Column::ClientKey.eq(key.as_str().as_bytes().to_vec()))
            .one(self.open().await?)
            .await
            .map_err(store_error)?;
        let fault = || StoreError::Fault("a stored key has the wrong length".into());
        found
            .map(|row| {
                let id: [u8; 16] = row.id.try_into().map_err(|_| fault())?;
                let id = ConversationId::from_bytes(id).map_err(|_| fault())?;
                Ok((id, row.request_hash.try_into().map_err(|_| fault())?))
            })
            .transpose()
    }

    async fn insert_conversation(&mut self, new: &NewConversation) -> Result<(), StoreError> {
        let head = &new.conversation;
        let row = conversation::ActiveModel {
            id: Set(head.id.as_bytes().to_vec()),
            kind: Set(i16::from(head.kind == ConversationKind::Group)),
            title: Set(head.title.as_deref().map(str::to_owned)),
            created_at: Set(head.created_at.0),
            last_seq: Set(head.last_seq),
            rev: Set(head.rev),
            countable: Set(head.countable),
            member_count: Set(head.member_count),
            active_at: Set(head.active_at.0),
            lane: Set(lane_number(self.layout.of_conversation(head.id))),
            pos: Set(head.pos),
            title_pos: Set(head.title_pos),
            title_rev: Set(head.title_rev),
            senders: Set(Vec::new()),
            creator_id: Set(new.creator.0),
            client_key: Set(new.client_key.as_ref().map(|key| key.as_str().as_bytes().to_vec())),
            request_hash: Set(new.request_hash.to_vec()),
        };
        let insert = conversation::Entity::insert(row).exec_without_returning(self.open().await?).await;
        insert.map(drop).map_err(store_error)
    }

    async fn put_members(&mut self, members: &[Member]) -> Result<(), StoreError> {
        if members.is_empty() {
            return Ok(());
        }
        let known = OnConflict::columns([member::Column::ConversationId, member::Column::UserId])
            .update_columns([
                member::Column::Role,
                member::Column::ReadSeq,
                member::Column::ReadCountable,
                member::Column::JoinedAt,
                member::Column::JoinedRev,
                member::Column::JoinedPos,
                member::Column::RemovedRev,
                member::Column::RemovedPos,
                member::Column::RoleRev,
                member::Column::RolePos,
                member::Column::ReadRev,
                member::Column::ReadPos,
                member::Column::Pos,
            ])
            .to_owned();
        member::Entity::insert_many(members.iter().map(member_row))
            .on_conflict(known)
            .exec_without_returning(self.open().await?)
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn write_messages(
        &mut self,
        messages: &[Arc<Message>],
        heads: &[Conversation],
    ) -> Result<(), StoreError> {
        self.write_titles(heads).await?;
        if self.dialect == Dialect::MySql {
            let mut text = String::new();
            batch_text::insert_messages(&mut text, messages)?;
            batch_text::overwrite_heads(&mut text, heads)?;
            self.write(&text).await?;
            if text.is_empty() {
                // What a batch refuses, or answers without a change, holds only if nobody else has committed.
                self.open().await?;
            }
            return Ok(());
        }
        self.insert_messages(messages).await?;
        let rows = heads.iter().map(head_values).collect();
        self.dialect.update_rows(self.open().await?, &HEADS, rows).await
    }

    async fn put_mentions(&mut self, mentioned: &[(MemberId, i32)]) -> Result<(), StoreError> {
        if mentioned.is_empty() {
            return Ok(());
        }
        let otherwise = self.dialect.otherwise(&TAKE_THE_NEW_MENTION);
        if self.dialect == Dialect::MySql {
            return self.write(&batch_text::put_mentions(mentioned, otherwise)?).await;
        }
        for part in mentioned.chunks(MENTIONS_AT_ONCE) {
            let rows =
                part.iter().map(|(id, seq)| [id_value(id.conversation), id.user.0.into(), (*seq).into()]);
            self.sql("INSERT INTO mention (conversation_id, user_id, seq) VALUES ")
                .rows(rows)
                .push(otherwise)
                .run(self.open().await?)
                .await?;
        }
        Ok(())
    }

    async fn update_reads(&mut self, members: &[Member]) -> Result<(), StoreError> {
        if members.is_empty() {
            return Ok(());
        }
        let rows = members.iter().map(|member| {
            [
                id_value(member.conversation),
                member.user.0.into(),
                member.read_seq.into(),
                member.read_countable.into(),
                member.read_rev.into(),
                member.read_pos.into(),
                member.pos().into(),
            ]
        });
        let rows = rows.collect::<Vec<_>>();
        if self.dialect == Dialect::MySql {
            return self.write(&batch_text::update_rows(&READS, &rows)?).await;
        }
        self.dialect.update_rows(self.open().await?, &READS, rows).await
    }

    async fn countable_at(
        &mut self,
        at: &[(ConversationId, i32)],
    ) -> Result<Vec<(ConversationId, i32, i32)>, StoreError> {
        if at.is_empty() {
            return Ok(Vec::new());
        }
        let select = self.sql("SELECT g.conversation_id, g.seq, g.countable");
        let rows =
            self.dialect.pairs_from(select, &MESSAGE_PLACES, places(at)).all(self.open().await?).await?;
        rows.iter()
            .map(|row| {
                let mut row = Row::new(row);
                Ok((row.conversation_id()?, row.get()?, row.get()?))
            })
            .collect()
    }

    async fn end_sessions(
        &mut self,
        which: EndSessions,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, StoreError> {
        let (user, session, comparison) = match which {
            EndSessions::One { user, session } => (user, session, " AND id = "),
            EndSessions::AllBut { user, session } => (user, session, " AND id <> "),
        };
        let rows = self
            .sql("SELECT id FROM session WHERE ended_at IS NULL AND user_id = ")
            .bind(user.0)
            .push(comparison)
            .bind(session.0)
            .push(self.dialect.for_update())
            .all(self.open().await?)
            .await?;
        let ids = rows.iter().map(|row| Row::new(row).get::<i64>()).collect::<Result<Vec<_>, _>>()?;
        if !ids.is_empty() {
            let end = self
                .sql("UPDATE session SET ended_at = ")
                .bind(now.0)
                .push(" WHERE id IN ")
                .list(ids.clone());
            end.run(self.open().await?).await?;
            remove_devices(self.dialect, self.open().await?, &ids).await?;
        }
        Ok(ids.into_iter().map(SessionId).collect())
    }

    async fn set_password_hash(&mut self, user: UserId, hash: &str) -> Result<(), StoreError> {
        user_account::Entity::update_many()
            .col_expr(user_account::Column::PasswordHash, Expr::value(hash))
            .filter(user_account::Column::Id.eq(user.0))
            .exec(self.open().await?)
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn commit(
        mut self: Box<Self>,
        facts: &[(LaneId, Vec<LoggedFact>)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let entries = self.positions.iter().map(|(lane, pos)| {
            let facts = facts.iter().find(|(of, _)| of == lane).map_or(&[][..], |(_, facts)| facts);
            (*lane, *pos, outbox::encode(facts))
        });
        let entries = entries.collect::<Vec<_>>();
        if self.dialect == Dialect::MySql {
            let text = batch_text::commit(&entries, now);
            let connection = &self.line.connection;
            match self.unsent.take() {
                Some(unsent) => unsent.commit(&text, connection).await?,
                None => {
                    let text = self.exchange.text(&text);
                    connection.execute_unprepared(&text).await.map_err(commit_error)?;
                }
            }
            self.kept.put(self.line);
            return Ok(());
        }
        let rows = entries
            .into_iter()
            .map(|(lane, pos, payload)| [lane_number(lane).into(), pos.into(), now.0.into(), payload.into()]);
        let insert = self.sql("INSERT INTO outbox (lane, pos, created_at, payload) VALUES ");
        insert.rows::<4>(rows).run(&self.line.connection).await?;
        self.line.connection.commit().await.map_err(commit_error)
    }

    async fn rollback(self: Box<Self>) {
        if self.dialect == Dialect::MySql {
            self.kept.roll_back(self.line).await;
        } else {
            // A connection that cannot even roll back is closed, and the server rolls back then.
            let _ = self.line.connection.rollback().await;
        }
    }
}

fn places(at: &[(ConversationId, i32)]) -> impl Iterator<Item = [Value; 2]> {
    at.iter().map(|(conversation, seq)| [id_value(*conversation), (*seq).into()])
}
