//! Users with their secrets, sessions, refresh tokens.

use async_trait::async_trait;
use entity::{familiar_network, refresh_token, session, user_account};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict},
};

use super::{SqlStore, devices::remove_devices, dialect::store_error, rows::Row, statement::Sql};
use crate::{
    Session, SessionId, Timestamp, User, UserId,
    port::{
        Accounts, StoreError,
        accounts::{NewSession, StoredToken, UserSecret},
    },
};

impl SqlStore {
    async fn write_session(&self, on: &impl ConnectionTrait, new: &NewSession) -> Result<(), StoreError> {
        let row = session::ActiveModel {
            id: Set(new.session.id.0),
            user_id: Set(new.session.user.0),
            device_name: Set(new.session.device_name.clone()),
            created_at: Set(new.session.created_at.0),
            last_used_at: Set(new.session.last_used_at.0),
            ended_at: Set(None),
        };
        session::Entity::insert(row).exec_without_returning(on).await.map_err(store_error)?;
        let token = refresh_token::ActiveModel {
            hash: Set(new.token_hash.to_vec()),
            session_id: Set(new.session.id.0),
            user_id: Set(new.session.user.0),
            issued_at: Set(new.session.created_at.0),
            spent_at: Set(None),
            key_id: Set(None),
        };
        refresh_token::Entity::insert(token).exec_without_returning(on).await.map(drop).map_err(store_error)
    }
}

fn secret(row: user_account::Model) -> UserSecret {
    let user = User {
        id: UserId(row.id),
        username: row.username.into(),
        display_name: row.display_name.into(),
        created_at: Timestamp(row.created_at),
    };
    UserSecret { user, password_hash: row.password_hash }
}

#[async_trait]
impl Accounts for SqlStore {
    async fn insert_user(
        &self,
        user: &User,
        username_key: &str,
        password_hash: &str,
        session: &NewSession,
    ) -> Result<(), StoreError> {
        let transaction = self.dialect.begin_write(&self.writer).await?;
        let row = user_account::ActiveModel {
            id: Set(user.id.0),
            username: Set(user.username.to_string()),
            username_key: Set(username_key.as_bytes().to_vec()),
            display_name: Set(user.display_name.to_string()),
            password_hash: Set(password_hash.to_owned()),
            created_at: Set(user.created_at.0),
        };
        user_account::Entity::insert(row).exec_without_returning(&transaction).await.map_err(store_error)?;
        self.write_session(&transaction, session).await?;
        transaction.commit().await.map_err(store_error)
    }

    async fn secret_by_username_key(&self, key: &str) -> Result<Option<UserSecret>, StoreError> {
        let by_key = user_account::Column::UsernameKey.eq(key.as_bytes().to_vec());
        let row = user_account::Entity::find().filter(by_key).one(&self.reader).await.map_err(store_error)?;
        Ok(row.map(secret))
    }

    async fn secret_by_id(&self, id: UserId) -> Result<Option<UserSecret>, StoreError> {
        let row = user_account::Entity::find_by_id(id.0).one(&self.reader).await.map_err(store_error)?;
        Ok(row.map(secret))
    }

    async fn replace_password_hash(&self, id: UserId, old: &str, new: &str) -> Result<(), StoreError> {
        user_account::Entity::update_many()
            .col_expr(user_account::Column::PasswordHash, Expr::value(new))
            .filter(user_account::Column::Id.eq(id.0))
            .filter(user_account::Column::PasswordHash.eq(old))
            .exec(&self.writer)
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn insert_session(&self, session: &NewSession, password_hash: &str) -> Result<bool, StoreError> {
        let transaction = self.dialect.begin_write(&self.writer).await?;
        // Who changes the password locks the same row first, and then ends the sessions there are.
        let user = Sql::new(self.dialect, "SELECT password_hash FROM user_account WHERE id = ")
            .bind(session.session.user.0)
            .push(self.dialect.for_update())
            .one(&transaction)
            .await?;
        let holds =
            user.map(|row| Row::new(&row).get::<String>()).transpose()?.as_deref() == Some(password_hash);
        if holds {
            self.write_session(&transaction, session).await?;
        }
        transaction.commit().await.map_err(store_error)?;
        Ok(holds)
    }

    async fn sessions(
        &self,
        user: UserId,
        used_after: Timestamp,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let rows = session::Entity::find()
            .filter(session::Column::UserId.eq(user.0))
            .filter(session::Column::EndedAt.is_null())
            .filter(session::Column::LastUsedAt.gt(used_after.0))
            .order_by_desc(session::Column::Id)
            .limit(u64::from(limit))
            .all(&self.reader)
            .await
            .map_err(store_error)?;
        Ok(rows
            .into_iter()
            .map(|row| Session {
                id: SessionId(row.id),
                user: UserId(row.user_id),
                device_name: row.device_name,
                created_at: Timestamp(row.created_at),
                last_used_at: Timestamp(row.last_used_at),
            })
            .collect())
    }

    async fn note_network(
        &self,
        user: UserId,
        hash: &[u8; 32],
        now: Timestamp,
        kept_max: u64,
    ) -> Result<(), StoreError> {
        let row = familiar_network::ActiveModel {
            hash: Set(hash.to_vec()),
            user_id: Set(user.0),
            signed_in_at: Set(now.0),
        };
        let known = OnConflict::column(familiar_network::Column::Hash)
            .update_column(familiar_network::Column::SignedInAt)
            .to_owned();
        familiar_network::Entity::insert(row)
            .on_conflict(known)
            .exec_without_returning(&self.writer)
            .await
            .map_err(store_error)?;
        let of_user = familiar_network::Column::UserId.eq(user.0);
        let oldest = familiar_network::Entity::find()
            .filter(of_user.clone())
            .order_by_desc(familiar_network::Column::SignedInAt)
            .offset(kept_max)
            .limit(1)
            .one(&self.writer)
            .await
            .map_err(store_error)?;
        if let Some(oldest) = oldest {
            familiar_network::Entity::delete_many()
                .filter(of_user)
                .filter(familiar_network::Column::SignedInAt.lte(oldest.signed_in_at))
                .exec(&self.writer)
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }

    async fn knows_network(&self, hashes: &[[u8; 32]], since: Timestamp) -> Result<bool, StoreError> {
        let known = familiar_network::Entity::find()
            .filter(familiar_network::Column::Hash.is_in(hashes.iter().map(|hash| hash.to_vec())))
            .filter(familiar_network::Column::SignedInAt.gt(since.0))
            .one(&self.reader)
            .await
            .map_err(store_error)?;
        Ok(known.is_some())
    }

    async fn remove_networks(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let old = familiar_network::Entity::find()
            .select_only()
            .column(familiar_network::Column::Hash)
            .filter(familiar_network::Column::SignedInAt.lt(before.0))
            .limit(u64::from(limit))
            .into_tuple::<Vec<u8>>()
            .all(&self.reader)
            .await
            .map_err(store_error)?;
        if old.is_empty() {
            return Ok(0);
        }
        let delete = familiar_network::Entity::delete_many()
            .filter(familiar_network::Column::Hash.is_in(old))
            .filter(familiar_network::Column::SignedInAt.lt(before.0));
        Ok(delete.exec(&self.writer).await.map_err(store_error)?.rows_affected)
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<StoredToken>, StoreError> {
        let row = self
            .sql("SELECT t.session_id, t.user_id, t.issued_at, t.spent_at, t.key_id, s.ended_at FROM refresh_token t ")
            .push("JOIN session s ON s.id = t.session_id WHERE t.hash = ")
            .bind(hash.to_vec())
            .one(&self.writer)
            .await?;
        row.map(|row| {
            let mut row = Row::new(&row);
            let (session, user) = (SessionId(row.get()?), UserId(row.get()?));
            let issued_at = row.time()?;
            let spent_at: Option<i64> = row.get()?;
            let key_id: Option<String> = row.get()?;
            let spent = spent_at.map(|at| (Timestamp(at), key_id.unwrap_or_default()));
            let session_ended = row.get::<Option<i64>>()?.is_some();
            Ok(StoredToken { session, user, issued_at, spent, session_ended })
        })
        .transpose()
    }

    async fn rotate_token(
        &self,
        hash: &[u8; 32],
        successor: &[u8; 32],
        key_id: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let transaction = self.dialect.begin_write(&self.writer).await?;
        // One update claims the token; whoever comes second changes no row.
        let claimed = self
            .sql("UPDATE refresh_token SET spent_at = ")
            .bind(now.0)
            .push(", key_id = ")
            .bind(key_id)
            .push(" WHERE spent_at IS NULL AND hash = ")
            .bind(hash.to_vec())
            .push(" AND session_id IN (SELECT s.id FROM session s WHERE s.ended_at IS NULL)")
            .run(&transaction)
            .await?;
        if claimed.rows_affected() == 0 {
            transaction.rollback().await.map_err(store_error)?;
            return Ok(false);
        }
        self.sql("INSERT INTO refresh_token (hash, session_id, user_id, issued_at) SELECT ")
            .bind(successor.to_vec())
            .push(", session_id, user_id, ")
            .bind(now.0)
            .push(match self.dialect {
                super::dialect::Dialect::Postgres => "::bigint",
                _ => "",
            })
            .push(" FROM refresh_token WHERE hash = ")
            .bind(hash.to_vec())
            .run(&transaction)
            .await?;
        self.sql("UPDATE session SET last_used_at = ")
            .bind(now.0)
            .push(" WHERE id = (SELECT t.session_id FROM refresh_token t WHERE t.hash = ")
            .bind(hash.to_vec())
            .push(")")
            .run(&transaction)
            .await?;
        transaction.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn set_display_name(&self, user: UserId, display_name: &str) -> Result<(), StoreError> {
        user_account::Entity::update_many()
            .col_expr(user_account::Column::DisplayName, Expr::value(display_name))
            .filter(user_account::Column::Id.eq(user.0))
            .exec(&self.writer)
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn ended_sessions(&self, since: Timestamp) -> Result<Vec<(SessionId, Timestamp)>, StoreError> {
        let rows = session::Entity::find()
            .filter(session::Column::EndedAt.gte(since.0))
            .all(&self.reader)
            .await
            .map_err(store_error)?;
        let ended = rows.into_iter().filter_map(|row| Some((SessionId(row.id), Timestamp(row.ended_at?))));
        Ok(ended.collect())
    }

    async fn user_of_session(&self, session: SessionId) -> Result<Option<UserId>, StoreError> {
        let row = session::Entity::find_by_id(session.0).one(&self.reader).await.map_err(store_error)?;
        Ok(row.map(|row| UserId(row.user_id)))
    }

    async fn remove_expired(&self, tokens_before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let old = refresh_token::Entity::find()
            .select_only()
            .column(refresh_token::Column::Hash)
            .filter(refresh_token::Column::IssuedAt.lt(tokens_before.0))
            .limit(u64::from(limit))
            .into_tuple::<Vec<u8>>()
            .all(&self.reader)
            .await
            .map_err(store_error)?;
        if old.is_empty() {
            return Ok(0);
        }
        let delete = refresh_token::Entity::delete_many().filter(refresh_token::Column::Hash.is_in(old));
        Ok(delete.exec(&self.writer).await.map_err(store_error)?.rows_affected)
    }

    async fn remove_sessions(&self, used_before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let rows = self
            .sql("SELECT s.id FROM session s WHERE s.last_used_at < ")
            .bind(used_before.0)
            // Tokens go first, in portions of their own.
            .push(" AND NOT EXISTS (SELECT 1 FROM refresh_token t WHERE t.session_id = s.id) LIMIT ")
            .bind(i64::from(limit))
            .all(&self.reader)
            .await?;
        let ids = rows.iter().map(|row| Row::new(row).get::<i64>()).collect::<Result<Vec<_>, _>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        let transaction = self.dialect.begin_write(&self.writer).await?;
        remove_devices(self.dialect, &transaction, &ids).await?;
        let delete = self.sql("DELETE FROM session WHERE id IN ").list(ids).run(&transaction).await?;
        transaction.commit().await.map_err(store_error)?;
        Ok(delete.rows_affected())
    }
}
