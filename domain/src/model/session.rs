//! Sessions: signed-in devices, who calls, and what proves it.

use super::{SessionId, Timestamp, UserId};

/// Who calls: a user, through one of their sessions. Made only from a verified access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    pub user: UserId,
    pub session: SessionId,
    /// When the access token ends, and with it what a socket may do.
    pub expires_at: Timestamp,
}

/// One signed-in device of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub device_name: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
}

/// What a client holds after signing in.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_token: String,
    pub access_token_expires_at: Timestamp,
    pub refresh_token: String,
}
