//! What a device holds: an access token, and the refresh token that follows from the one before.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use super::Services;
use crate::{
    Credentials, Domain, ErrorCode, ServiceError, ServiceResult, Session, SessionId, Timestamp, UserId,
    attempts::{FAMILIAR_FOR, FAMILIAR_PER_USER_MAX},
    keys::Key,
    port::{Random, accounts::NewSession},
    tokens::TokenId,
};

/// How long a refresh token can be exchanged, from its issue on: a device unused for longer signs in again.
pub(crate) const REFRESH_TOKEN_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// What a refresh token begins with, so that a leaked one is found by scanners.
const PREFIX: &str = "cfr_";
/// Bytes of a refresh token: beyond guessing.
const SECRET_BYTES: usize = 32;

/// The secret of a refresh token. Only its hash is stored, and no text of it reaches a log.
#[derive(Clone)]
pub(crate) struct RefreshToken([u8; SECRET_BYTES]);

impl RefreshToken {
    pub fn new(random: &dyn Random) -> Self {
        let mut secret = [0; SECRET_BYTES];
        random.fill(&mut secret);
        Self(secret)
    }

    /// From the form a client holds; `None` when it is no refresh token.
    pub fn parse(text: &str) -> Option<Self> {
        let mut secret = [0; SECRET_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text.strip_prefix(PREFIX)?, &mut secret).ok()?;
        (length == SECRET_BYTES).then_some(Self(secret))
    }

    /// The token that follows: the same one however often this is asked, so that a lost answer can be given again.
    pub fn successor(&self, key: &Key) -> Self {
        Self(key.successor_of_token(&self.0))
    }

    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken")
    }
}

impl Domain {
    pub(super) fn credentials(
        &self,
        user: UserId,
        session: SessionId,
        refresh_token: &RefreshToken,
    ) -> ServiceResult<Credentials> {
        let Services { tokens, random, .. } = &*self.services;
        let mut id = TokenId::default();
        random.fill(&mut id);
        let (access_token, access_token_expires_at) = tokens.issue(user, session, &id)?;
        Ok(Credentials { access_token, access_token_expires_at, refresh_token: refresh_token.to_text() })
    }

    /// Whether the account has signed in from there lately, on whatever node. `place` is of [`crate::attempts`].
    pub(super) async fn is_familiar(&self, place: Option<&[u8]>) -> ServiceResult<bool> {
        let Services { accounts, clock, keys, .. } = &*self.services;
        let Some(place) = place else { return Ok(false) };
        // A key that has been retired takes what it hashed with it; the owner is then known again after the next sign-in.
        let hashes: Vec<_> = keys.all().iter().map(|key| key.mac_of_network(place)).collect();
        Ok(accounts.knows_network(&hashes, clock.now().minus(FAMILIAR_FOR)).await?)
    }

    /// Notes where a user has signed in from. The sign-in does not depend on it.
    pub(super) async fn note_familiar(&self, user: UserId, place: Option<&[u8]>) {
        let Services { accounts, clock, keys, .. } = &*self.services;
        let Some(place) = place else { return };
        let now = clock.now();
        let hash = keys.signing(now).mac_of_network(place);
        let note = || accounts.note_network(user, &hash, now, FAMILIAR_PER_USER_MAX);
        if let Err(error) = self.retried(note).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a familiar network was not noted");
        }
    }

    /// Runs work in a task of its own: a caller that goes away never cancels a transaction half way (trap 1).
    pub(super) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = ServiceResult<T>> + Send + 'static,
    ) -> ServiceResult<T> {
        self.services.tasks.spawn(work.in_current_span()).await.map_err(ServiceError::internal)?
    }
}

/// A session that begins now.
pub(super) fn new_session(
    id: SessionId,
    user: UserId,
    device_name: Option<String>,
    token: &RefreshToken,
    now: Timestamp,
) -> NewSession {
    let session = Session { id, user, device_name, created_at: now, last_used_at: now };
    NewSession { session, token_hash: token.hash() }
}

/// The one answer to a wrong username, a wrong password, and both.
pub(super) fn wrong_password() -> ServiceError {
    ServiceError::new(ErrorCode::InvalidCredentials, "username and password do not match")
}

/// The one answer to a refresh token that is malformed, unknown, expired, or of an ended session.
pub(super) fn wrong_token() -> ServiceError {
    ServiceError::new(ErrorCode::InvalidCredentials, "the refresh token is not valid; sign in again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SystemRandom, ring};

    #[test]
    fn a_refresh_token_survives_the_wire_and_nothing_else_is_one() {
        let token = RefreshToken::new(&SystemRandom);
        let text = token.to_text();
        assert_eq!(RefreshToken::parse(&text).expect("a token").0, token.0);
        for bad in [
            "",
            "cfr_",
            &text[4..],
            &text[..text.len() - 1],
            &format!("{text}A"),
            &text.replace("cfr_", "ses_"),
        ] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(format!("{token:?}"), "RefreshToken");
    }

    #[test]
    fn the_successor_is_one_and_needs_the_key() {
        let (_folder, keys) = ring(2);
        let [first, second] = [&keys.ids()[0], &keys.ids()[1]].map(|id| keys.by_id(id).expect("a key"));
        let token = RefreshToken::new(&SystemRandom);
        assert_eq!(token.successor(&first).0, token.successor(&first).0);
        assert_ne!(token.successor(&first).0, token.successor(&second).0);
    }
}
