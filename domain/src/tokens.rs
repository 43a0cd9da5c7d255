//! Access tokens: JWTs of 15 minutes, signed with HS256.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, crypto::rust_crypto};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Caller, ServiceError, ServiceResult, SessionId, Timestamp, UserId, keys::KeyRing, port::Clock};

/// How long an access token lives.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_mins(15);

const ISSUER: &str = "confab";
const AUDIENCE: &str = "confab-api";
/// RFC 9068: keeps other JWTs of the same keys, should there ever be any, from being taken for access tokens.
const TYPE: &str = "at+jwt";
/// Tokens whose signature was verified a moment ago; each takes about 100 bytes.
const VERIFIED_MAX: u64 = 100_000;
/// Longer strings are no tokens of ours.
const TOKEN_BYTES_MAX: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: i64,
    exp: i64,
}

/// Issues and verifies access tokens.
#[derive(Clone)]
pub struct Tokens {
    keys: KeyRing,
    clock: Arc<dyn Clock>,
    verified: Cache<[u8; 32], (String, Caller)>,
}

impl Tokens {
    pub fn new(keys: KeyRing, clock: Arc<dyn Clock>) -> Self {
        // Feature unification elsewhere must not decide which implementation signs. A second call finds the same one installed.
        let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
        let verified =
            Cache::builder().max_capacity(VERIFIED_MAX).time_to_live(ACCESS_TOKEN_LIFETIME).build();
        Self { keys, clock, verified }
    }

    /// A token for a session, and when it ends.
    pub fn issue(&self, user: UserId, session: SessionId) -> ServiceResult<(String, Timestamp)> {
        let key = self.keys.signing();
        let now = self.clock.now().seconds();
        let exp = now + ACCESS_TOKEN_LIFETIME.as_secs().cast_signed();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_string(),
            sid: session.to_string(),
            iat: now,
            exp,
        };
        let header =
            Header { kid: Some(key.id.clone()), typ: Some(TYPE.to_owned()), ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&key.token));
        let token = token.map_err(ServiceError::internal)?;
        Ok((token, Timestamp::from_micros(exp.saturating_mul(1_000_000))))
    }

    /// Who a token speaks for. Every defect gives the same answer.
    pub fn verify(&self, token: &str) -> ServiceResult<Caller> {
        let refused = || ServiceError::unauthenticated("the access token is invalid or expired");
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused());
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let known = self.verified.get(&hash).filter(|(key, _)| self.keys.by_id(key).is_some());
        let (key, caller) = match known {
            Some(known) => known,
            None => self.decode(token).ok_or_else(refused)?,
        };
        if self.clock.now() >= caller.expires_at {
            return Err(refused());
        }
        self.verified.insert(hash, (key, caller));
        Ok(caller)
    }

    fn decode(&self, token: &str) -> Option<(String, Caller)> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        // Only what we issue: nothing that names keys by content or place.
        if header.typ.as_deref() != Some(TYPE) || header.alg != Algorithm::HS256 {
            return None;
        }
        let key = self.keys.by_id(header.kid.as_deref()?)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "sub", "aud", "iss"]);
        // The injected clock decides, in `verify`.
        validation.validate_exp = false;
        let decoding = DecodingKey::from_secret(&key.token);
        let claims = jsonwebtoken::decode::<Claims>(token, &decoding, &validation).ok()?.claims;
        let lifetime = claims.exp.checked_sub(claims.iat)?;
        if lifetime <= 0 || lifetime > ACCESS_TOKEN_LIFETIME.as_secs().cast_signed() {
            return None;
        }
        let caller = Caller {
            user: claims.sub.parse().ok()?,
            session: claims.sid.parse().ok()?,
            expires_at: Timestamp::from_micros(claims.exp.checked_mul(1_000_000)?),
        };
        Some((key.id.clone(), caller))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;
    use crate::adapter::ambient::SystemRandom;

    struct TestClock(AtomicI64);

    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    struct Fixture {
        tokens: Tokens,
        clock: Arc<TestClock>,
        keys: KeyRing,
        folder: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(TestClock(AtomicI64::new(1_800_000_000_000_000)));
        KeyRing::create(folder.path(), &*clock, &SystemRandom).expect("a key");
        let keys = KeyRing::open(folder.path(), clock.clone()).expect("opens");
        Fixture { tokens: Tokens::new(keys.clone(), clock.clone()), clock, keys, folder }
    }

    /// A token of our making, with header and claims changed.
    fn forged(
        fixture: &Fixture,
        algorithm: Algorithm,
        secret: &[u8],
        change: impl Fn(&mut Header, &mut Value),
    ) -> String {
        let now = fixture.clock.now().seconds();
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": UserId(1).to_string(), "sid": SessionId(2).to_string(),
            "iat": now, "exp": now + 60,
        });
        let mut header = Header {
            kid: Some(fixture.keys.signing().id.clone()),
            typ: Some(TYPE.to_owned()),
            ..Header::new(algorithm)
        };
        change(&mut header, &mut claims);
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).expect("encodes")
    }

    #[test]
    fn a_token_speaks_for_its_session_until_it_expires() {
        let fixture = fixture();
        let (token, expires_at) = fixture.tokens.issue(UserId(1), SessionId(2)).expect("issues");
        let caller = fixture.tokens.verify(&token).expect("verifies");
        assert_eq!(caller, Caller { user: UserId(1), session: SessionId(2), expires_at });
        fixture.clock.0.store(expires_at.0 - 1, Ordering::Relaxed);
        assert!(fixture.tokens.verify(&token).is_ok());
        fixture.clock.0.store(expires_at.0, Ordering::Relaxed);
        assert!(fixture.tokens.verify(&token).is_err(), "also from the cache");
    }

    type Change = fn(&mut Header, &mut Value);

    #[test]
    fn nothing_but_our_own_tokens_is_taken() {
        let fixture = fixture();
        let secret = fixture.keys.signing().token;
        let good = forged(&fixture, Algorithm::HS256, &secret, |_, _| {});
        assert!(fixture.tokens.verify(&good).is_ok());
        let changes: [(&str, Change); 11] = [
            ("issuer", |_, claims| claims["iss"] = json!("other")),
            ("audience", |_, claims| claims["aud"] = json!("other")),
            ("no audience", |_, claims| drop(claims.as_object_mut().map(|claims| claims.remove("aud")))),
            ("expiry as text", |_, claims| claims["exp"] = json!("4000000000")),
            ("no expiry", |_, claims| drop(claims.as_object_mut().map(|claims| claims.remove("exp")))),
            ("too long a life", |_, claims| {
                claims["exp"] = json!(claims["iat"].as_i64().unwrap_or(0) + 3600);
            }),
            ("expired", |_, claims| claims["exp"] = json!(1_700_000_000)),
            ("id of another type", |_, claims| claims["sub"] = json!(SessionId(2).to_string())),
            ("type", |header, _| header.typ = Some("JWT".to_owned())),
            ("unknown key", |header, _| header.kid = Some("../../etc/passwd".to_owned())),
            ("no key", |header, _| header.kid = None),
        ];
        for (name, change) in changes {
            let token = forged(&fixture, Algorithm::HS256, &secret, change);
            assert!(fixture.tokens.verify(&token).is_err(), "{name}");
        }
        assert!(
            fixture.tokens.verify(&forged(&fixture, Algorithm::HS512, &secret, |_, _| {})).is_err(),
            "algorithm"
        );
        assert!(
            fixture.tokens.verify(&forged(&fixture, Algorithm::HS256, &[7; 32], |_, _| {})).is_err(),
            "other secret"
        );
        let (_, rest) = good.split_once('.').expect("a JWT");
        let none = URL_SAFE_NO_PAD
            .encode(json!({ "alg": "none", "typ": TYPE, "kid": fixture.keys.signing().id }).to_string());
        let unsigned = format!("{none}.{}.", rest.split('.').next().unwrap_or_default());
        assert!(fixture.tokens.verify(&unsigned).is_err(), "alg none");
        for index in 0..good.len() {
            let mut altered = good.clone().into_bytes();
            altered[index] = if altered[index] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).expect("ASCII");
            // The last character of base64 may carry unused bits; the decoder refuses those too.
            assert!(altered == good || fixture.tokens.verify(&altered).is_err(), "character {index}");
        }
    }

    #[test]
    fn a_new_key_verifies_first_and_signs_after_the_reload_period() {
        let fixture = fixture();
        let old = fixture.keys.signing().id.clone();
        fixture.clock.0.fetch_add(1_000_000, Ordering::Relaxed);
        let folder = fixture.folder.path();
        let new = KeyRing::create(folder, &*fixture.clock, &SystemRandom).expect("a key");
        fixture.keys.reload().expect("reloads");
        assert!(fixture.keys.by_id(&new).is_some());
        assert_eq!(fixture.keys.signing().id, old);
        let (token, _) = fixture.tokens.issue(UserId(1), SessionId(2)).expect("issues");
        fixture.clock.0.fetch_add(61_000_000, Ordering::Relaxed);
        assert_eq!(fixture.keys.signing().id, new);
        assert!(fixture.tokens.verify(&token).is_ok());
        std::fs::remove_file(folder.join(format!("{old}.key"))).expect("retires");
        fixture.keys.reload().expect("reloads");
        assert!(
            fixture.tokens.verify(&token).is_err(),
            "a retired key verifies nothing, not even what was verified before"
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let fixture = fixture();
        let file = std::fs::read_dir(fixture.folder.path())
            .expect("reads")
            .next()
            .expect("a key")
            .expect("reads")
            .path();
        assert_eq!(std::fs::metadata(&file).expect("reads").permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("changes");
        assert!(fixture.keys.reload().is_err_and(|error| error.to_string().contains("chmod 600")));
    }
}
