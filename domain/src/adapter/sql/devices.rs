//! Devices that get pushes, mutes and quiet hours, and dead tasks.

use std::collections::HashMap;

use async_trait::async_trait;
use entity::{dead_task, device, quiet_hours};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, Condition, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use sha2::{Digest as _, Sha256};

use super::{
    SqlStore,
    dialect::{Dialect, store_error},
    rows::{Row, id_value},
};
use crate::{
    ConversationId, DeadTask, PushAddress, PushProvider, PushRange, PushTarget, Pushed, QuietHours,
    SessionId, Timestamp, UserId,
    model::{Caller, push::Subscription},
    port::{Devices, StoreError, devices::Candidate},
};

/// One byte of the stored provider before the text keeps providers apart.
fn hash(provider: i16, text: &str) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(provider.to_be_bytes());
    hash.update(text);
    hash.finalize().to_vec()
}

const fn number(provider: PushProvider) -> i16 {
    match provider {
        PushProvider::Apns => 0,
        PushProvider::Fcm => 1,
        PushProvider::WebPush => 2,
    }
}

const fn provider(number: i16) -> PushProvider {
    match number {
        0 => PushProvider::Apns,
        1 => PushProvider::Fcm,
        _ => PushProvider::WebPush,
    }
}

fn address(row: &mut Row<'_>) -> Result<PushAddress, StoreError> {
    let unsound = |what: &str| StoreError::Fault(format!("a device has no sound {what}").into());
    let kind = provider(row.get()?);
    let text = String::from_utf8(row.get()?).map_err(|_| unsound("address"))?;
    let (p256dh, auth): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get()?, row.get()?);
    Ok(match kind {
        PushProvider::Apns => PushAddress::Apns(text),
        PushProvider::Fcm => PushAddress::Fcm(text),
        PushProvider::WebPush => PushAddress::WebPush(Box::new(Subscription {
            endpoint: text,
            p256dh: p256dh.and_then(|key| key.try_into().ok()).ok_or_else(|| unsound("key"))?,
            auth: auth.and_then(|secret| secret.try_into().ok()).ok_or_else(|| unsound("secret"))?,
        })),
    })
}

/// What an insert does where the row is there already.
const fn otherwise(dialect: Dialect, what: &Otherwise) -> &'static str {
    match dialect {
        Dialect::MySql => what.mysql,
        Dialect::Postgres => what.postgres,
        Dialect::Sqlite => what.sqlite,
    }
}

struct Otherwise {
    mysql: &'static str,
    postgres: &'static str,
    sqlite: &'static str,
}

/// A mark never goes back: a worker that slept through its task may come late.
const KEEP_THE_NEWER_MARK: Otherwise = Otherwise {
    mysql: " ON DUPLICATE KEY UPDATE seq = GREATEST(seq, VALUES(seq))",
    postgres: " ON CONFLICT (session_id, conversation_id) DO UPDATE SET seq = GREATEST(push_mark.seq, excluded.seq)",
    sqlite: " ON CONFLICT (session_id, conversation_id) DO UPDATE SET seq = MAX(push_mark.seq, excluded.seq)",
};

const REPLACE_THE_MUTE: Otherwise = Otherwise {
    mysql: " ON DUPLICATE KEY UPDATE until = VALUES(until)",
    postgres: " ON CONFLICT (user_id, conversation_id) DO UPDATE SET until = excluded.until",
    sqlite: " ON CONFLICT (user_id, conversation_id) DO UPDATE SET until = excluded.until",
};

#[async_trait]
impl Devices for SqlStore {
    async fn register(
        &self,
        caller: &Caller,
        address: &PushAddress,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let kind = number(address.provider());
        let (p256dh, auth) = match address {
            PushAddress::WebPush(subscription) => {
                (Some(subscription.p256dh.to_vec()), Some(subscription.auth.to_vec()))
            }
            _ => (None, None),
        };
        let address_hash = hash(kind, address.text());
        let transaction = self.dialect.begin_write(&self.writer).await?;
        device::Entity::delete_many()
            .filter(
                Condition::any()
                    .add(device::Column::SessionId.eq(caller.session.0))
                    .add(device::Column::AddressHash.eq(address_hash.clone())),
            )
            .exec(&transaction)
            .await
            .map_err(store_error)?;
        let row = device::ActiveModel {
            session_id: Set(caller.session.0),
            user_id: Set(caller.user.0),
            provider: Set(kind),
            address: Set(address.text().as_bytes().to_vec()),
            address_hash: Set(address_hash),
            p256dh: Set(p256dh),
            auth: Set(auth),
            registered_at: Set(now.0),
        };
        device::Entity::insert(row).exec_without_returning(&transaction).await.map_err(store_error)?;
        transaction.commit().await.map_err(store_error)
    }

    async fn unregister(&self, user: UserId, session: SessionId) -> Result<(), StoreError> {
        device::Entity::delete_many()
            .filter(device::Column::SessionId.eq(session.0))
            .filter(device::Column::UserId.eq(user.0))
            .exec(&self.writer)
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn providers(
        &self,
        sessions: &[SessionId],
    ) -> Result<HashMap<SessionId, PushProvider>, StoreError> {
        let among = device::Column::SessionId.is_in(sessions.iter().map(|session| session.0));
        let rows = device::Entity::find().filter(among).all(&self.reader).await.map_err(store_error)?;
        Ok(rows.into_iter().map(|row| (SessionId(row.session_id), provider(row.provider))).collect())
    }

    async fn muted(
        &self,
        user: UserId,
        ids: &[ConversationId],
    ) -> Result<HashMap<ConversationId, Timestamp>, StoreError> {
        let sql =
            self.sql("SELECT conversation_id, until FROM muted_conversation WHERE user_id = ").bind(user.0);
        let sql = sql.push(" AND conversation_id IN ").list(ids.iter().map(|id| id_value(*id)));
        let rows = sql.all_or_none(&self.reader, ids.is_empty()).await?;
        rows.iter()
            .map(|row| {
                let mut row = Row::new(row);
                Ok((row.conversation_id()?, row.time()?))
            })
            .collect()
    }

    async fn mute(
        &self,
        user: UserId,
        conversation: ConversationId,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.sql("INSERT INTO muted_conversation (user_id, conversation_id, until) VALUES ")
            .rows([[user.0.into(), id_value(conversation), until.0.into()]])
            .push(otherwise(self.dialect, &REPLACE_THE_MUTE))
            .run(&self.writer)
            .await
            .map(drop)
    }

    async fn quiet_hours(&self, user: UserId) -> Result<Option<QuietHours>, StoreError> {
        let row = quiet_hours::Entity::find_by_id(user.0).one(&self.reader).await.map_err(store_error)?;
        Ok(row.map(|row| QuietHours { starts: row.starts, ends: row.ends, time_zone: row.time_zone }))
    }

    async fn set_quiet_hours(&self, user: UserId, hours: Option<&QuietHours>) -> Result<(), StoreError> {
        let transaction = self.dialect.begin_write(&self.writer).await?;
        quiet_hours::Entity::delete_by_id(user.0).exec(&transaction).await.map_err(store_error)?;
        if let Some(hours) = hours {
            let row = quiet_hours::ActiveModel {
                user_id: Set(user.0),
                starts: Set(hours.starts),
                ends: Set(hours.ends),
                time_zone: Set(hours.time_zone.clone()),
            };
            quiet_hours::Entity::insert(row)
                .exec_without_returning(&transaction)
                .await
                .map_err(store_error)?;
        }
        transaction.commit().await.map_err(store_error)
    }

    async fn member_runs(
        &self,
        conversation: ConversationId,
        mut after: UserId,
        size: u32,
        runs: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut ends = Vec::new();
        for _ in 0..runs {
            let last = self
                .sql("SELECT m.user_id FROM member m WHERE m.removed_rev IS NULL AND m.conversation_id = ")
                .bind(id_value(conversation))
                .push(" AND m.user_id > ")
                .bind(after.0)
                .push(" ORDER BY m.user_id LIMIT 1 OFFSET ")
                .bind(i64::from(size) - 1)
                .one(&self.reader)
                .await?;
            let Some(last) = last else { break };
            after = UserId(Row::new(&last).get()?);
            ends.push(after);
        }
        Ok(ends)
    }

    async fn candidates(
        &self,
        range: &PushRange,
        sender: UserId,
        now: Timestamp,
    ) -> Result<Vec<Candidate>, StoreError> {
        let rows = self
            .sql(
                "SELECT c.senders, m.user_id, m.read_seq, d.session_id, d.provider, d.address, d.p256dh, d.auth, \
                 h.starts, h.ends, h.time_zone FROM member m JOIN conversation c ON c.id = m.conversation_id \
                 JOIN device d ON d.user_id = m.user_id JOIN session s ON s.id = d.session_id AND s.ended_at IS NULL \
                 LEFT JOIN muted_conversation q ON q.user_id = m.user_id AND q.conversation_id = m.conversation_id \
                 LEFT JOIN quiet_hours h ON h.user_id = m.user_id \
                 LEFT JOIN push_mark k ON k.session_id = d.session_id AND k.conversation_id = m.conversation_id \
                 WHERE m.removed_rev IS NULL AND m.conversation_id = ",
            )
            .bind(id_value(range.conversation))
            .push(" AND m.user_id > ")
            .bind(range.after.0)
            .push(" AND m.user_id <= ")
            .bind(range.upto.0)
            .push(" AND m.user_id <> ")
            .bind(sender.0)
            .push(" AND m.read_seq < ")
            .bind(range.seq)
            .push(" AND (q.until IS NULL OR q.until <= ")
            .bind(now.0)
            .push(") AND (k.seq IS NULL OR k.seq < ")
            .bind(range.seq)
            .push(") ORDER BY d.session_id")
            .all(&self.reader)
            .await?;
        let mut candidates = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut row = Row::new(row);
            let senders = row.senders()?;
            let user = UserId(row.get()?);
            let read_seq: i32 = row.get()?;
            // What they sent, they have read.
            if senders.of(user).map_or(read_seq, |sent| sent.seq.max(read_seq)) >= range.seq {
                continue;
            }
            let session = SessionId(row.get()?);
            let target = PushTarget { session, user, address: address(&mut row)?, badge: 0 };
            let starts: Option<i16> = row.get()?;
            let ends: Option<i16> = row.get()?;
            let time_zone: Option<String> = row.get()?;
            let quiet_hours = starts.zip(ends).zip(time_zone);
            let quiet_hours =
                quiet_hours.map(|((starts, ends), time_zone)| QuietHours { starts, ends, time_zone });
            candidates.push(Candidate { target, quiet_hours });
        }
        Ok(candidates)
    }

    async fn unread(&self, users: &[UserId]) -> Result<HashMap<UserId, i32>, StoreError> {
        let rows = self
            .sql(
                "SELECT m.user_id, m.read_seq, m.read_countable, c.countable, c.senders FROM member m \
                 JOIN conversation c ON c.id = m.conversation_id WHERE m.removed_rev IS NULL AND m.read_countable < c.countable \
                 AND m.user_id IN ",
            )
            .list(users.iter().map(|user| user.0))
            .all_or_none(&self.reader, users.is_empty())
            .await?;
        let mut unread: HashMap<UserId, i32> = HashMap::new();
        for row in &rows {
            let mut row = Row::new(row);
            let user = UserId(row.get()?);
            let (read_seq, read_countable, countable): (i32, i32, i32) = (row.get()?, row.get()?, row.get()?);
            let sent = row.senders()?.of(user).filter(|sent| sent.seq > read_seq);
            let read_countable = sent.map_or(read_countable, |sent| sent.countable);
            let total = unread.entry(user).or_default();
            *total = total.saturating_add((countable - read_countable).max(0));
        }
        Ok(unread)
    }

    async fn note_pushed(
        &self,
        conversation: ConversationId,
        seq: i32,
        pushed: &Pushed,
    ) -> Result<(), StoreError> {
        if !pushed.sent.is_empty() {
            let rows =
                pushed.sent.iter().map(|session| [session.0.into(), id_value(conversation), seq.into()]);
            self.sql("INSERT INTO push_mark (session_id, conversation_id, seq) VALUES ")
                .rows(rows)
                .push(otherwise(self.dialect, &KEEP_THE_NEWER_MARK))
                .run(&self.writer)
                .await?;
        }
        for (session, gone) in &pushed.gone {
            // It may have registered anew meanwhile.
            device::Entity::delete_many()
                .filter(device::Column::SessionId.eq(session.0))
                .filter(device::Column::Address.eq(gone.as_bytes().to_vec()))
                .exec(&self.writer)
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }

    async fn bury(&self, task: &DeadTask) -> Result<(), StoreError> {
        let row = dead_task::ActiveModel {
            id: Set(task.id),
            topic: Set(task.topic.clone()),
            record: Set(task.record.clone()),
            reason: Set(task.reason.clone()),
            died_at: Set(task.died_at.0),
        };
        dead_task::Entity::insert(row)
            .exec_without_returning(&self.writer)
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn dead(&self, limit: u32) -> Result<Vec<DeadTask>, StoreError> {
        let find = dead_task::Entity::find().order_by_asc(dead_task::Column::Id).limit(u64::from(limit));
        let rows = find.all(&self.reader).await.map_err(store_error)?;
        let task = |row: dead_task::Model| DeadTask {
            id: row.id,
            topic: row.topic,
            record: row.record,
            reason: row.reason,
            died_at: Timestamp(row.died_at),
        };
        Ok(rows.into_iter().map(task).collect())
    }

    async fn forget_dead(&self, id: i64) -> Result<(), StoreError> {
        dead_task::Entity::delete_by_id(id).exec(&self.writer).await.map(drop).map_err(store_error)
    }

    async fn remove_stale(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let stale = self
            .sql("SELECT d.session_id FROM device d LEFT JOIN session s ON s.id = d.session_id AND s.ended_at IS NULL ")
            .push("WHERE s.id IS NULL LIMIT ")
            .bind(i64::from(limit))
            .all(&self.reader)
            .await?;
        let stale = stale.iter().map(|row| Row::new(row).get::<i64>()).collect::<Result<Vec<_>, _>>()?;
        if !stale.is_empty() {
            for table in ["device", "push_mark"] {
                let delete = self.sql(&format!("DELETE FROM {table} WHERE session_id IN "));
                delete.list(stale.iter().copied()).run(&self.writer).await?;
            }
        }
        self.sql("DELETE FROM muted_conversation WHERE until <= ").bind(now.0).run(&self.writer).await?;
        Ok(stale.len() as u64)
    }
}
