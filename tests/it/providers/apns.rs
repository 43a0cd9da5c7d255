//! Apple's: "Sending notification requests to APNs", "Handling notification responses from APNs", "Establishing a token-based
//! connection to APNs".

use axum::{
    http::{Method, StatusCode, Version},
    response::Response,
};
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Answer, Asked, Kind, Push, Refusal, Shared, answered, claims, now, require, take_time, text, verifying,
    with_retry_after,
};

pub const KEY_ID: &str = "KEY1234567";
pub const TEAM_ID: &str = "TEAM123456";
pub const TOPIC: &str = "example.confab";
/// Bytes of a device token.
const TOKEN_BYTES: usize = 32;
const TOKEN_AGE_MAX: i64 = 60 * 60;
const COLLAPSE_ID_BYTES_MAX: usize = 64;

/// The name in hex, filled up with zeros.
pub fn token_of(name: &str) -> String {
    assert!(name.len() <= TOKEN_BYTES, "{name} is a short name");
    let hex: String = name.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("{hex:0<width$}", width = 2 * TOKEN_BYTES)
}

fn name_of(token: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> =
        (0..token.len()).step_by(2).map(|at| u8::from_str_radix(token.get(at..at + 2)?, 16).ok()).collect();
    let bytes = bytes.filter(|bytes| bytes.len() == TOKEN_BYTES)?;
    Some(String::from_utf8(bytes).ok()?.trim_end_matches('\0').to_owned())
}

pub(super) async fn serve(shared: &Shared, token: &str, asked: &Asked) -> Response {
    let push = match read(shared, token, asked) {
        Ok(push) => push,
        Err(refusal) => {
            shared.refused("APNs", &refusal);
            return answered(refusal.0, &json!({ "reason": refusal.1 }));
        }
    };
    let id = push.id.clone();
    let answer = shared.answer(push);
    take_time(answer).await;
    let refuse = |status: u16, reason: &str| {
        answered(StatusCode::from_u16(status).expect("a status"), &json!({ "reason": reason }))
    };
    let mut response = match answer {
        Answer::Taken | Answer::Slowly(_) | Answer::Silence => answered(StatusCode::OK, &json!(null)),
        Answer::Gone => {
            let body = json!({ "reason": "Unregistered", "timestamp": now() * 1000 });
            answered(StatusCode::GONE, &body)
        }
        Answer::Unknown => refuse(400, "BadDeviceToken"),
        Answer::Busy(seconds) => with_retry_after(refuse(429, "TooManyRequests"), seconds),
        Answer::Away(seconds) => with_retry_after(refuse(503, "ServiceUnavailable"), seconds),
        Answer::Expired => refuse(403, "ExpiredProviderToken"),
    };
    response.headers_mut().insert("apns-id", id.parse().expect("a header"));
    response
}

fn read(shared: &Shared, token: &str, asked: &Asked) -> Result<Push, Refusal> {
    let bad = |reason: &str| (StatusCode::BAD_REQUEST, reason.to_owned());
    let forbidden = |reason: &str| (StatusCode::FORBIDDEN, reason.to_owned());
    require(asked.version == Version::HTTP_2, "it speaks HTTP/2 alone")?;
    if asked.method != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed".to_owned()));
    }
    let (kid, claims) = claims(asked.bearer()?, Algorithm::ES256, &verifying(&shared.apns))
        .map_err(|error| forbidden(&format!("InvalidProviderToken: {error}")))?;
    if kid.as_deref() != Some(KEY_ID) || claims["iss"] != TEAM_ID {
        return Err(forbidden("InvalidProviderToken"));
    }
    let age = now() - claims["iat"].as_i64().ok_or_else(|| forbidden("InvalidProviderToken: no iat"))?;
    if !(-60..TOKEN_AGE_MAX).contains(&age) {
        return Err(forbidden("ExpiredProviderToken"));
    }
    if asked.header("apns-topic")? != TOPIC {
        return Err(bad("TopicDisallowed"));
    }
    require(asked.header("apns-push-type")? == "alert", "InvalidPushType")?;
    require(["5", "10"].contains(&asked.header("apns-priority")?), "BadPriority")?;
    let expiration = asked.header("apns-expiration")?.parse::<i64>().unwrap_or(-1);
    require(expiration > now(), "BadExpirationDate: it is kept for a while")?;
    let id = asked.header("apns-id")?;
    require(is_uuid(id), "BadMessageId")?;
    let collapse = asked.header("apns-collapse-id")?;
    require(collapse.len() <= COLLAPSE_ID_BYTES_MAX, "BadCollapseId")?;
    let body = asked.json()?;
    let aps = &body["aps"];
    require(aps["sound"].is_string(), "no sound")?;
    require(aps["thread-id"] == collapse, "the thread is the conversation's")?;
    Ok(Push {
        kind: Kind::Apns,
        device: name_of(token).ok_or_else(|| bad("BadDeviceToken"))?,
        id: id.to_owned(),
        message: text(&body["messageId"], "messageId")?,
        conversation: text(&body["conversationId"], "conversationId")?,
        collapse: collapse.to_owned(),
        title: text(&aps["alert"]["title"], "title")?,
        body: text(&aps["alert"]["body"], "body")?,
        badge: aps["badge"].as_i64().ok_or_else(|| bad("no badge"))?,
        at: Instant::now(),
    })
}

/// RFC 9562, in the form that Apple asks for.
fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}
