//! Access tokens: JWTs of 15 minutes that name a user and one of their sessions.
//!
//! HS256 with the key that `kid` names, and nothing else; type, issuer and audience are exact (RFC 8725, RFC 9068). Whatever
//! is wrong with a token, the answer is the same.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    crypto::rust_crypto,
    decode, decode_header, encode,
    errors::{Error, ErrorKind},
};
use lru::LruCache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Caller, ServiceError, ServiceResult, SessionId, Timestamp, UserId,
    keys::{KeyReference, KeyRing},
    port::Clock,
};

/// How long an access token lives, and so the longest that a node which heard of nothing honours an ended session.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_mins(15);

/// Random: no two tokens have the same.
pub(crate) type TokenId = [u8; 12];

const ISSUER: &str = "confab";
const AUDIENCE: &str = "confab-api";
/// The type of RFC 9068: a token for another use is no access token.
const TYPE: &str = "at+jwt";
/// Our tokens have about 350 bytes; anything much longer is not one.
const TOKEN_BYTES_MAX: usize = 1024;
/// Verified tokens remembered, about 130 bytes each: the devices active on one node at a time.
const VERIFIED_MAX: usize = 100_000;

/// Chooses the cryptography of the JWT library, whatever other crates ask of it, and proves that it works: without a
/// provider the library panics at the first token.
pub(crate) fn install_crypto() -> Result<(), Error> {
    // An error means that one is installed already; the test below tells whether it is fit.
    let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
    let claims =
        Claims::new(Caller { user: UserId(1), session: SessionId(1), expires_at: Timestamp(0) }, 0, &[0; 12]);
    let token = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(&[1; 32]))?;
    decode::<Claims>(&token, &DecodingKey::from_secret(&[1; 32]), &validation())?;
    match decode::<Claims>(&token, &DecodingKey::from_secret(&[2; 32]), &validation()) {
        Err(_) => Ok(()),
        Ok(_) => Err(ErrorKind::InvalidSignature.into()),
    }
}

/// Issues and verifies access tokens.
pub(crate) struct AccessTokens {
    keys: KeyRing,
    clock: Arc<dyn Clock>,
    validation: Validation,
    /// By the SHA-256 of the token, so that no token stays in memory.
    verified: Mutex<LruCache<[u8; 32], Verified>>,
}

#[derive(Clone)]
struct Verified {
    caller: Caller,
    /// Not the key itself, which must be forgotten when it is retired.
    key: KeyReference,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: i64,
    exp: i64,
    /// What tells two tokens of one second apart. Nobody looks at it here.
    #[serde(default)]
    jti: String,
}

impl Claims {
    fn new(caller: Caller, issued_at: i64, id: &TokenId) -> Self {
        Self {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: caller.user.to_string(),
            sid: caller.session.to_string(),
            iat: issued_at,
            exp: caller.expires_at.seconds(),
            jti: URL_SAFE_NO_PAD.encode(id),
        }
    }

    fn caller(&self) -> Option<Caller> {
        let expires_at = Timestamp(self.exp.checked_mul(1_000_000)?);
        Some(Caller { user: self.sub.parse().ok()?, session: self.sid.parse().ok()?, expires_at })
    }
}

impl AccessTokens {
    pub fn new(keys: KeyRing, clock: Arc<dyn Clock>) -> Self {
        // It grows with what it holds; a bound given here would be allocated at once.
        let verified = Mutex::new(LruCache::unbounded());
        Self { keys, clock, validation: validation(), verified }
    }

    /// A token and when it ends, in whole seconds.
    pub fn issue(
        &self,
        user: UserId,
        session: SessionId,
        id: &TokenId,
    ) -> ServiceResult<(String, Timestamp)> {
        let now = self.clock.now();
        let key = self.keys.signing(now);
        let expires_at = Timestamp(now.seconds() * 1_000_000) + ACCESS_TOKEN_LIFETIME;
        let claims = Claims::new(Caller { user, session, expires_at }, now.seconds(), id);
        let header =
            Header { typ: Some(TYPE.to_owned()), kid: Some(key.id.clone()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &claims, &key.token_signing).map_err(ServiceError::internal)?;
        Ok((token, expires_at))
    }

    /// Who a token speaks for; `UNAUTHENTICATED` for every defect alike.
    pub fn verify(&self, token: &str) -> ServiceResult<Caller> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused());
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = self.clock.now();
        let known = self.verified().get(&hash).cloned();
        let known = known.filter(|known| self.keys.by_reference(known.key).is_some());
        let is_new = known.is_none();
        let verified = known.or_else(|| self.check(token)).filter(|it| now < it.caller.expires_at);
        let verified = verified.ok_or_else(refused)?;
        let caller = verified.caller;
        if is_new {
            self.remember(hash, verified, now);
        }
        Ok(caller)
    }

    /// And forgets what has expired: whatever was not used for as long as a token lives.
    fn remember(&self, hash: [u8; 32], verified: Verified, now: Timestamp) {
        let mut all = self.verified();
        all.put(hash, verified);
        while all.len() > VERIFIED_MAX
            || all.peek_lru().is_some_and(|(_, oldest)| oldest.caller.expires_at <= now)
        {
            all.pop_lru();
        }
    }

    fn verified(&self) -> MutexGuard<'_, LruCache<[u8; 32], Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything but the time.
    fn check(&self, token: &str) -> Option<Verified> {
        let header = decode_header(token).ok()?;
        // `crit` names extensions that must be understood (RFC 7515 section 4.1.11); there are none here.
        let ours =
            header.typ.as_deref() == Some(TYPE) && header.alg == Algorithm::HS256 && header.crit.is_none();
        let key = self.keys.by_id(header.kid.as_deref().filter(|_| ours)?)?;
        let claims = decode::<Claims>(token, &key.token_verifying, &self.validation).ok()?.claims;
        Some(Verified { caller: claims.caller()?, key: key.reference })
    }
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // Compared with the injected clock instead, to the second.
    validation.validate_exp = false;
    validation.leeway = 0;
    validation
}

fn refused() -> ServiceError {
    ServiceError::unauthenticated("the access token is invalid or expired")
}

#[cfg(test)]
mod tests;
