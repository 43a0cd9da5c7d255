use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};

use super::*;
use crate::{
    ErrorCode,
    testing::{ManualClock, ring},
};

struct Fixture {
    _folder: tempfile::TempDir,
    keys: KeyRing,
    clock: Arc<ManualClock>,
    tokens: AccessTokens,
}

fn fixture() -> Fixture {
    let (folder, keys) = ring(1);
    let clock = Arc::new(ManualClock::at(1_900_000_000));
    let tokens = AccessTokens::new(keys.clone(), clock.clone());
    Fixture { _folder: folder, keys, clock, tokens }
}

impl Fixture {
    fn issue(&self) -> String {
        self.tokens.issue(UserId(7), SessionId(8), &[1; 12]).expect("a token").0
    }

    /// A token signed with the real key, whatever it says.
    fn signed(&self, header: &Value, claims: &Value) -> String {
        let key = self.keys.signing(self.clock.now());
        let text = format!("{}.{}", part(header), part(claims));
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &key.token_signing, Algorithm::HS256);
        format!("{text}.{}", signature.expect("signs"))
    }

    fn header(&self) -> Value {
        json!({"typ": "at+jwt", "alg": "HS256", "kid": self.keys.ids()[0]})
    }

    fn refuses(&self, token: &str, why: &str) {
        let error = self.tokens.verify(token).expect_err(why);
        let plain = refused();
        assert_eq!((error.code(), error.message()), (ErrorCode::Unauthenticated, plain.message()), "{why}");
    }
}

fn part(value: &Value) -> String {
    BASE64.encode(value.to_string())
}

fn claims() -> Value {
    json!({
        "iss": "confab", "aud": "confab-api", "sub": UserId(7).to_string(), "sid": SessionId(8).to_string(),
        "iat": 1_900_000_000, "exp": 1_900_000_900,
    })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

#[test]
fn a_token_names_its_user_and_session_for_fifteen_minutes() {
    let test = fixture();
    let (token, expires_at) = test.tokens.issue(UserId(7), SessionId(8), &[2; 12]).expect("a token");
    assert_eq!(expires_at, Timestamp(1_900_000_900_000_000));
    let caller = Caller { user: UserId(7), session: SessionId(8), expires_at };
    assert_eq!(test.tokens.verify(&token).expect("valid"), caller);
    assert_eq!(test.tokens.verify(&test.signed(&test.header(), &claims())).expect("valid"), caller);
    test.clock.advance(Duration::from_secs(899));
    assert_eq!(test.tokens.verify(&token).expect("valid, and remembered"), caller);
    test.clock.advance(Duration::from_secs(1));
    test.refuses(&token, "expired, though remembered");
}

#[test]
fn an_expired_token_is_refused_when_it_was_never_seen_before() {
    let test = fixture();
    let token = test.issue();
    test.clock.advance(ACCESS_TOKEN_LIFETIME);
    test.refuses(&token, "expired");
}

#[test]
fn a_retired_key_takes_its_tokens_along_and_a_new_one_leaves_them_valid() {
    let test = fixture();
    let token = test.issue();
    test.tokens.verify(&token).expect("valid");
    KeyRing::create(test.keys.folder(), &*test.clock, &crate::testing::SystemRandom).expect("a key");
    test.keys.reload().expect("reloads");
    test.tokens.verify(&token).expect("still valid");
    let path = test.keys.folder().join(format!("{}.key", test.keys.ids()[0]));
    std::fs::remove_file(path).expect("removes");
    test.keys.reload().expect("reloads");
    test.refuses(&token, "its key is retired");
}

#[test]
fn only_the_one_algorithm_type_and_key_are_accepted() {
    let test = fixture();
    let unsigned = format!("{}.{}.", part(&with(test.header(), "alg", json!("none"))), part(&claims()));
    test.refuses(&unsigned, "alg none");
    for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256"] {
        test.refuses(&test.signed(&with(test.header(), "alg", json!(alg)), &claims()), alg);
    }
    for typ in [json!("JWT"), json!("at+JWT"), json!("application/at+jwt"), Value::Null] {
        test.refuses(&test.signed(&with(test.header(), "typ", typ), &claims()), "another type");
    }
    for kid in [json!("1-aa"), json!("../../etc/passwd"), json!("' OR 1=1 --"), json!(7), Value::Null] {
        test.refuses(&test.signed(&with(test.header(), "kid", kid), &claims()), "another kid");
    }
    test.refuses(&test.signed(&with(test.header(), "crit", json!(["exp"])), &claims()), "crit");
    let (_folder, others) = ring(1);
    let foreign = Fixture { keys: others, ..fixture() };
    test.refuses(&foreign.signed(&test.header(), &claims()), "another key under our kid");
}

#[test]
fn every_claim_is_exact() {
    let test = fixture();
    let values = [json!("x"), json!(7), json!(""), json!(["confab", "x"]), Value::Null];
    for name in ["iss", "aud", "sub", "sid"] {
        for value in &values {
            test.refuses(&test.signed(&test.header(), &with(claims(), name, value.clone())), name);
        }
    }
    test.refuses(&test.signed(&test.header(), &with(claims(), "aud", json!(["confab-api"]))), "a list");
    test.refuses(&test.signed(&test.header(), &with(claims(), "sub", claims()["sid"].clone())), "a session");
    for exp in [
        json!("1900000900"),
        json!(1_900_000_900.5),
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        Value::Null,
    ] {
        test.refuses(&test.signed(&test.header(), &with(claims(), "exp", exp.clone())), &exp.to_string());
    }
    let mut bare = claims();
    bare.as_object_mut().expect("an object").remove("exp");
    test.refuses(&test.signed(&test.header(), &bare), "no exp");
}

#[test]
fn one_changed_character_is_refused_wherever_it_is() {
    let test = fixture();
    let token = test.issue();
    for index in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        test.refuses(&changed, &format!("character {index}"));
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let test = fixture();
    let refresh = format!("cfr_{}", BASE64.encode([7; 32]));
    for text in ["", ".", "..", "a.b.c", "Bearer x", &refresh, &"a".repeat(100_000), "\u{202E}.\0.é"] {
        test.refuses(text, "no token");
    }
}

#[test]
fn of_more_tokens_than_the_bound_those_used_last_are_remembered() {
    let it = fixture();
    let token = it.issue();
    let caller = it.tokens.verify(&token).expect("valid");
    let (now, key) = (it.clock.now(), it.keys.signing(it.clock.now()).reference);
    let others = (0..VERIFIED_MAX).map(|number| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        hash
    });
    for (number, hash) in others.enumerate() {
        it.tokens.remember(hash, Verified { caller, key }, now);
        if number == 0 {
            it.tokens.verify(&token).expect("valid");
        }
    }
    let mut remembered = it.tokens.verified();
    assert_eq!(remembered.len(), VERIFIED_MAX);
    assert!(remembered.get(&[0; 32]).is_none(), "used before the token was again");
    let of_token: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    assert!(remembered.get(&of_token).is_some());
}

#[test]
fn a_token_that_has_expired_is_forgotten_with_the_next_one() {
    let it = fixture();
    for _ in 0..2 {
        it.tokens.verify(&it.issue()).expect("valid");
        assert_eq!(it.tokens.verified().len(), 1);
        it.clock.advance(ACCESS_TOKEN_LIFETIME);
    }
}
