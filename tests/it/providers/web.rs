//! Those of browsers: RFC 8030 (Web Push), 8188 and 8291 (what a message is sealed with), 8292 (who sends it).

use aes_gcm::{Aes128Gcm, KeyInit as _, aead::Aead as _};
use axum::{
    http::{Method, StatusCode},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use jsonwebtoken::Algorithm;
use p256::{PublicKey, SecretKey, ecdh::diffie_hellman};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::Instant;

use super::{
    Answer, Asked, BODY_BYTES_MAX, Kind, Push, Refusal, Shared, answered, claims, new_key, now, point,
    random, require, take_time, text, verifying, with_retry_after,
};

pub const SUBJECT: &str = "mailto:push@confab.example";
const TOKEN_SECONDS_MAX: i64 = 24 * 60 * 60;
const TOPIC_CHARS_MAX: usize = 32;

/// What a browser keeps of its subscription.
#[derive(Clone)]
pub struct Browser {
    key: SecretKey,
    pub auth: [u8; 16],
}

impl Browser {
    pub fn new() -> Self {
        Self { key: new_key(), auth: random() }
    }

    pub fn public(&self) -> Vec<u8> {
        point(&self.key)
    }

    /// RFC 8188 with one record, and its keys by RFC 8291, section 3.4.
    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (salt, rest) = sealed.split_at_checked(16)?;
        let (record_size, rest) = rest.split_at_checked(4)?;
        let (&length, rest) = rest.split_first()?;
        let (theirs, record) = rest.split_at_checked(length.into())?;
        let record_size = u32::from_be_bytes(record_size.try_into().ok()?);
        if record.len() > usize::try_from(record_size).ok()? {
            return None;
        }
        let sender = PublicKey::from_sec1_bytes(theirs).ok()?;
        let shared = diffie_hellman(self.key.to_nonzero_scalar(), sender.as_affine());
        let info = [b"WebPush: info\0", &self.public()[..], theirs].concat();
        let secret: [u8; 32] = derive(&self.auth, shared.raw_secret_bytes(), &info);
        let key: [u8; 16] = derive(salt, &secret, b"Content-Encoding: aes128gcm\0");
        let nonce: [u8; 12] = derive(salt, &secret, b"Content-Encoding: nonce\0");
        let mut opened = Aes128Gcm::new(&key.into()).decrypt(&nonce.into(), record).ok()?;
        while opened.last() == Some(&0) {
            opened.pop();
        }
        // The delimiter of the last record.
        (opened.pop() == Some(2)).then_some(opened)
    }
}

fn derive<const N: usize>(salt: &[u8], secret: &[u8], info: &[u8]) -> [u8; N] {
    let mut derived = [0; N];
    Hkdf::<Sha256>::new(Some(salt), secret).expand(info, &mut derived).expect("a length that there is");
    derived
}

pub(super) async fn serve(shared: &Shared, name: &str, asked: &Asked) -> Response {
    let push = match read(shared, name, asked) {
        Ok(push) => push,
        Err(refusal) => {
            shared.refused("Web Push", &refusal);
            return answered(refusal.0, &json!(refusal.1));
        }
    };
    let id = push.id.clone();
    let answer = shared.answer(push);
    take_time(answer).await;
    match answer {
        Answer::Taken | Answer::Slowly(_) | Answer::Silence => {
            let mut response = answered(StatusCode::CREATED, &Value::Null);
            response.headers_mut().insert("location", format!("/message/{id}").parse().expect("a header"));
            response
        }
        Answer::Gone => answered(StatusCode::GONE, &Value::Null),
        Answer::Unknown => answered(StatusCode::NOT_FOUND, &Value::Null),
        Answer::Busy(seconds) => {
            with_retry_after(answered(StatusCode::TOO_MANY_REQUESTS, &Value::Null), seconds)
        }
        Answer::Away(seconds) => {
            with_retry_after(answered(StatusCode::SERVICE_UNAVAILABLE, &Value::Null), seconds)
        }
        Answer::Expired => answered(StatusCode::UNAUTHORIZED, &Value::Null),
    }
}

fn read(shared: &Shared, name: &str, asked: &Asked) -> Result<Push, Refusal> {
    require(asked.method == Method::POST, "the method")?;
    identify(shared, asked)?;
    require(asked.header("ttl")?.parse::<u32>().is_ok_and(|ttl| ttl > 0), "TTL")?;
    require(["very-low", "low", "normal", "high"].contains(&asked.header("urgency")?), "Urgency")?;
    let topic = asked.header("topic")?;
    let is_base64 = topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    require(topic.len() <= TOPIC_CHARS_MAX && is_base64, "Topic")?;
    require(asked.header("content-encoding")? == "aes128gcm", "Content-Encoding")?;
    require(asked.body.len() <= BODY_BYTES_MAX, "larger than any push service has to take")?;
    let browser = shared.lock().browsers.get(name).cloned();
    let browser = browser.ok_or_else(|| (StatusCode::NOT_FOUND, format!("no browser {name}")))?;
    let opened = browser.open(&asked.body);
    let opened = opened.ok_or_else(|| (StatusCode::BAD_REQUEST, "it does not open".to_owned()))?;
    let body: Value =
        serde_json::from_slice(&opened).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let tag = text(&body["tag"], "tag")?;
    Ok(Push {
        kind: Kind::Web,
        device: name.to_owned(),
        id: text(&body["pushId"], "pushId")?,
        message: text(&body["messageId"], "messageId")?,
        conversation: text(&body["conversationId"], "conversationId")?,
        // On the way the topic, on the device the tag.
        collapse: format!("{topic} {tag}"),
        title: text(&body["title"], "title")?,
        body: text(&body["body"], "body")?,
        badge: body["badge"].as_i64().ok_or_else(|| (StatusCode::BAD_REQUEST, "no badge".to_owned()))?,
        at: Instant::now(),
    })
}

/// RFC 8292: who sends, to this push service, today.
fn identify(shared: &Shared, asked: &Asked) -> Result<(), Refusal> {
    let authorization = asked.header("authorization")?;
    let unknown = |why: String| (StatusCode::FORBIDDEN, why);
    let parameters = authorization.strip_prefix("vapid ").unwrap_or_default();
    let parameter = |name: &str| {
        let mut found = parameters.split(',').filter_map(|one| one.trim().strip_prefix(name));
        found.next().unwrap_or_default()
    };
    let key = URL_SAFE_NO_PAD.encode(point(&shared.vapid));
    if parameter("k=") != key {
        return Err(unknown("another key than that of the subscription".to_owned()));
    }
    let (_, claims) =
        claims(parameter("t="), Algorithm::ES256, &verifying(&shared.vapid)).map_err(unknown)?;
    let origin = format!("http://{}", asked.header("host")?);
    require(claims["aud"] == origin, "aud is the origin of the endpoint")?;
    let left = claims["exp"].as_i64().unwrap_or(0) - now();
    require(left > 0 && left <= TOKEN_SECONDS_MAX, "exp is within a day")?;
    require(claims["sub"] == SUBJECT, "sub")
}
