//! New credentials for a refresh token, which is spent by that.

use std::time::Duration;

use super::register::{refresh_token, token_hash};
use crate::{Chat, Credentials, ErrorCode, ServiceError, ServiceResult, port::accounts::StoredToken};

/// How long a spent token gives the same successor again: for parallel refreshes and lost responses.
const REPLAY_WINDOW: Duration = Duration::from_secs(30);
/// How long a refresh token lives; each refresh gives a new one.
pub const REFRESH_TOKEN_LIFETIME: Duration = Duration::from_hours(30 * 24);

impl Chat {
    /// The successor is derived from the spent token, so a retry gets the same one and nothing usable is stored. A spent token
    /// that comes back later was stolen, or its thief's was used: the session ends.
    pub async fn refresh_session(&self, spent: &str) -> ServiceResult<Credentials> {
        let hash = token_hash(spent);
        let stored = self.services.accounts.token(&hash).await?.ok_or_else(refused)?;
        let now = self.services.clock.now();
        if stored.session_ended || now.since(stored.issued_at) >= REFRESH_TOKEN_LIFETIME {
            return Err(refused());
        }
        if stored.spent.is_none() {
            let key = self.services.keys.signing();
            let successor = refresh_token(&key.successor(spent));
            let (chat, next, key_id) = (self.clone(), token_hash(&successor), key.id.clone());
            let rotate = async move { chat.services.accounts.rotate_token(&hash, &next, &key_id, now).await };
            if self.run_to_end(rotate).await?? {
                return self.credentials(stored.user, stored.session, successor);
            }
        }
        // Spent before, or by a parallel refresh a moment ago.
        let stored = self.services.accounts.token(&hash).await?.ok_or_else(refused)?;
        self.replay(spent, &stored).await
    }

    async fn replay(&self, spent: &str, stored: &StoredToken) -> ServiceResult<Credentials> {
        let Some((spent_at, key_id)) = stored.spent.as_ref().filter(|_| !stored.session_ended) else {
            return Err(refused());
        };
        let recent = self.services.clock.now().since(*spent_at) < REPLAY_WINDOW;
        if let Some(key) = self.services.keys.by_id(key_id).filter(|_| recent) {
            return self.credentials(stored.user, stored.session, refresh_token(&key.successor(spent)));
        }
        tracing::warn!(session = %stored.session, "a spent refresh token came back; the session is ended");
        self.end_session(stored.user, stored.session).await?;
        Err(refused())
    }
}

fn refused() -> ServiceError {
    ServiceError::new(ErrorCode::InvalidCredentials, "the refresh token is unknown, spent or expired")
        .at(&["refreshToken"])
}
