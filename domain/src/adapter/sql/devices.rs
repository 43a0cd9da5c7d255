//! Devices that get pushes, mutes and quiet hours.

use std::collections::HashMap;

use async_trait::async_trait;
use entity::{device, quiet_hours};
use sea_orm::{ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _};
use sha2::{Digest as _, Sha256};

use super::{
    SqlStore,
    dialect::{Dialect, Otherwise, store_error},
    pushes::{provider, remove_marks},
    rows::{Row, id_value},
    statement::Sql,
};
use crate::{
    ConversationId, PushAddress, PushProvider, QuietHours, SessionId, Timestamp, UserId,
    model::Caller,
    port::{Devices, StoreError},
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

const REPLACE_THE_MUTE: Otherwise = Otherwise {
    mysql: " ON DUPLICATE KEY UPDATE until = VALUES(until)",
    postgres: " ON CONFLICT (user_id, conversation_id) DO UPDATE SET until = excluded.until",
    sqlite: " ON CONFLICT (user_id, conversation_id) DO UPDATE SET until = excluded.until",
};

const REPLACE_THE_HOURS: Otherwise = Otherwise {
    mysql: " ON DUPLICATE KEY UPDATE starts = VALUES(starts), ends = VALUES(ends), time_zone = VALUES(time_zone)",
    postgres: " ON CONFLICT (user_id) DO UPDATE SET starts = excluded.starts, ends = excluded.ends, \
        time_zone = excluded.time_zone",
    sqlite: " ON CONFLICT (user_id) DO UPDATE SET starts = excluded.starts, ends = excluded.ends, \
        time_zone = excluded.time_zone",
};

/// Devices of sessions that end, and what only they needed.
pub(super) async fn remove_devices(
    dialect: Dialect,
    on: &impl ConnectionTrait,
    sessions: &[i64],
) -> Result<(), StoreError> {
    let delete = Sql::new(dialect, "DELETE FROM device WHERE session_id IN ");
    delete.list(sessions.iter().copied()).run(on).await?;
    remove_marks(dialect, on, sessions).await
}

#[async_trait]
impl Devices for SqlStore {
    async fn register(
        &self,
        caller: &Caller,
        address: &PushAddress,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let kind = number(address.provider());
        let (p256dh, auth) = match address {
            PushAddress::WebPush(subscription) => {
                (Some(subscription.p256dh.to_vec()), Some(subscription.auth.to_vec()))
            }
            _ => (None, None),
        };
        let address_hash = hash(kind, address.text());
        let transaction = self.dialect.begin_write(&self.writer).await?;
        // Who ends the session locks its row as well, and then removes the device.
        let alive =
            self.sql("SELECT id FROM session WHERE ended_at IS NULL AND id = ").bind(caller.session.0);
        if alive.push(self.dialect.for_update()).one(&transaction).await?.is_none() {
            transaction.rollback().await.map_err(store_error)?;
            return Ok(false);
        }
        // By one key at a time, so that only rows that are there are locked (trap 7).
        for one in [
            device::Column::SessionId.eq(caller.session.0),
            device::Column::AddressHash.eq(address_hash.clone()),
        ] {
            device::Entity::delete_many().filter(one).exec(&transaction).await.map_err(store_error)?;
        }
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
        transaction.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn unregister(&self, user: UserId, session: SessionId) -> Result<(), StoreError> {
        let removed = device::Entity::delete_many()
            .filter(device::Column::SessionId.eq(session.0))
            .filter(device::Column::UserId.eq(user.0))
            .exec(&self.writer)
            .await
            .map_err(store_error)?;
        if removed.rows_affected > 0 {
            remove_marks(self.dialect, &self.writer, &[session.0]).await?;
        }
        Ok(())
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
            .push(self.dialect.otherwise(&REPLACE_THE_MUTE))
            .run(&self.writer)
            .await
            .map(drop)
    }

    async fn quiet_hours(&self, user: UserId) -> Result<Option<QuietHours>, StoreError> {
        let row = quiet_hours::Entity::find_by_id(user.0).one(&self.reader).await.map_err(store_error)?;
        Ok(row.map(|row| QuietHours { starts: row.starts, ends: row.ends, time_zone: row.time_zone }))
    }

    async fn set_quiet_hours(&self, user: UserId, hours: Option<&QuietHours>) -> Result<(), StoreError> {
        let Some(QuietHours { starts, ends, time_zone }) = hours else {
            let delete = quiet_hours::Entity::delete_by_id(user.0).exec(&self.writer);
            return delete.await.map(drop).map_err(store_error);
        };
        self.sql("INSERT INTO quiet_hours (user_id, starts, ends, time_zone) VALUES ")
            .rows([[user.0.into(), (*starts).into(), (*ends).into(), time_zone.clone().into()]])
            .push(self.dialect.otherwise(&REPLACE_THE_HOURS))
            .run(&self.writer)
            .await
            .map(drop)
    }

    async fn remove_expired_mutes(&self, now: Timestamp) -> Result<u64, StoreError> {
        let delete = self.sql("DELETE FROM muted_conversation WHERE until <= ").bind(now.0);
        Ok(delete.run(&self.writer).await?.rows_affected())
    }
}
