//! New credentials for a refresh token, which is spent by it.

use std::time::Duration;

use super::{
    Services,
    credentials::{REFRESH_TOKEN_LIFETIME, RefreshToken, wrong_token},
};
use crate::{
    Credentials, Domain, ServiceResult, Timestamp,
    port::{accounts::StoredToken, log::EndSessions},
};

/// How long a spent token gets its successor again: a lost answer is asked for within seconds, a stolen token comes later.
const GRACE: Duration = Duration::from_secs(30);

impl Domain {
    /// However many ask at once with the same token, they get the same successor. A token used again later has been copied
    /// by somebody: its session ends.
    pub async fn refresh_session(&self, refresh_token: &str) -> ServiceResult<Credentials> {
        let token = RefreshToken::parse(refresh_token).ok_or_else(wrong_token)?;
        let domain = self.clone();
        self.to_the_end(async move { domain.rotate(&token).await }).await
    }

    async fn rotate(&self, token: &RefreshToken) -> ServiceResult<Credentials> {
        let Services { accounts, clock, keys, .. } = &*self.services;
        let (hash, now) = (token.hash(), clock.now());
        let mut stored = accounts.token(&hash).await?.ok_or_else(wrong_token)?;
        if stored.spent.is_none() && is_usable(&stored, now) {
            let key = keys.signing(now);
            let successor = token.successor(&key);
            let next = successor.hash();
            if self.retried(|| accounts.rotate_token(&hash, &next, &key.id, now)).await? {
                return self.credentials(stored.user, stored.session, &successor);
            }
            // Another call was first, or the session has just ended.
            stored = accounts.token(&hash).await?.ok_or_else(wrong_token)?;
        }
        self.repeat(token, stored, now).await
    }

    /// The answer to a token that was spent before.
    async fn repeat(
        &self,
        token: &RefreshToken,
        stored: StoredToken,
        now: Timestamp,
    ) -> ServiceResult<Credentials> {
        if !is_usable(&stored, now) {
            return Err(wrong_token());
        }
        let (spent_at, key_id) = stored.spent.ok_or_else(wrong_token)?;
        if now.since(spent_at) > GRACE {
            let which = EndSessions::One { user: stored.user, session: stored.session };
            self.end_sessions(stored.user, which, None).await?;
            tracing::warn!(
                user.id = %stored.user,
                session.id = %stored.session,
                "a spent refresh token was used again; its session has been ended"
            );
            return Err(wrong_token());
        }
        let key = self.services.keys.by_id(&key_id).ok_or_else(wrong_token)?;
        self.credentials(stored.user, stored.session, &token.successor(&key))
    }
}

fn is_usable(stored: &StoredToken, now: Timestamp) -> bool {
    !stored.session_ended && now < stored.issued_at + REFRESH_TOKEN_LIFETIME
}
