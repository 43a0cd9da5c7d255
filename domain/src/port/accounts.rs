//! Users with their secrets, sessions, refresh tokens.

use async_trait::async_trait;

use super::StoreError;
use crate::{Session, SessionId, Timestamp, User, UserId};

/// A session to be, with its first refresh token.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub session: Session,
    /// SHA-256 of the refresh token.
    pub token_hash: [u8; 32],
}

/// A user and the hash of their password, in PHC form.
#[derive(Clone, Debug)]
pub struct UserSecret {
    pub user: User,
    pub password_hash: String,
}

/// What is known of a refresh token.
#[derive(Clone, Debug)]
pub struct StoredToken {
    pub session: SessionId,
    pub user: UserId,
    pub issued_at: Timestamp,
    /// When it was exchanged for its successor, and the id of the key that derived it.
    pub spent: Option<(Timestamp, String)>,
    /// Whether the session has been ended.
    pub session_ended: bool,
}

#[async_trait]
pub trait Accounts: Send + Sync {
    /// Writes a user and their first session in one transaction; `Duplicate` when the username key is taken.
    async fn insert_user(
        &self,
        user: &User,
        username_key: &str,
        password_hash: &str,
        session: &NewSession,
    ) -> Result<(), StoreError>;

    async fn secret_by_username_key(&self, key: &str) -> Result<Option<UserSecret>, StoreError>;

    async fn secret_by_id(&self, id: UserId) -> Result<Option<UserSecret>, StoreError>;

    /// Replaces the password hash if it still is `old` (rehash with grown parameters).
    async fn replace_password_hash(&self, id: UserId, old: &str, new: &str) -> Result<(), StoreError>;

    /// Writes a session if the user's password hash still is the one that was checked; otherwise `false`.
    async fn insert_session(&self, session: &NewSession, password_hash: &str) -> Result<bool, StoreError>;

    /// Sessions of a user that were not ended and were used after `used_after`, newest first, at most `limit`.
    async fn sessions(
        &self,
        user: UserId,
        used_after: Timestamp,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError>;

    /// Notes by its keyed hash where a user has signed in from; the oldest beyond `kept_max` of the user go.
    async fn note_network(
        &self,
        user: UserId,
        hash: &[u8; 32],
        now: Timestamp,
        kept_max: u64,
    ) -> Result<(), StoreError>;

    /// Whether one of these was noted since then.
    async fn knows_network(&self, hashes: &[[u8; 32]], since: Timestamp) -> Result<bool, StoreError>;

    /// Removes networks noted before; answers how many rows went.
    async fn remove_networks(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError>;

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<StoredToken>, StoreError>;

    /// Spends a token and writes its successor in one transaction. `false` when it was spent already or its session ended;
    /// then nothing is written.
    async fn rotate_token(
        &self,
        hash: &[u8; 32],
        successor: &[u8; 32],
        key_id: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    async fn set_display_name(&self, user: UserId, display_name: &str) -> Result<(), StoreError>;

    /// Sessions ended since a point in time, with that time: what a node must refuse while their tokens live.
    async fn ended_sessions(&self, since: Timestamp) -> Result<Vec<(SessionId, Timestamp)>, StoreError>;

    /// Whose session this is, alive or ended.
    async fn user_of_session(&self, session: SessionId) -> Result<Option<UserId>, StoreError>;

    /// Removes tokens issued before; answers how many rows went.
    async fn remove_expired(&self, tokens_before: Timestamp, limit: u32) -> Result<u64, StoreError>;

    /// Removes sessions, ended or not, that were last used before and have no token left, with their devices; answers how many
    /// sessions went.
    async fn remove_sessions(&self, used_before: Timestamp, limit: u32) -> Result<u64, StoreError>;
}
