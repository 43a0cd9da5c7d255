//! Google's: "FCM HTTP v1 API", "FCM error codes", "Using OAuth 2.0 for server to server applications".

use std::collections::HashMap;

use axum::{
    http::{Method, StatusCode, Version},
    response::Response,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Answer, Asked, Kind, Push, Refusal, Shared, account_key, answered, claims, now, require, take_time, text,
    with_retry_after,
};

const PROJECT: &str = "confab-tests";
const EMAIL: &str = "push@confab-tests.example";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ASSERTION_SECONDS_MAX: i64 = 60 * 60;
/// Google's have 2048; these are made while the tests wait.
pub const KEY_BITS: usize = 1024;

/// The file of a service account.
pub fn account(url: &str) -> Value {
    let key = account_key().to_pkcs8_pem(LineEnding::LF).expect("a key");
    json!({
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": key.as_str(),
        "client_email": EMAIL,
        "token_uri": format!("{url}/token"),
    })
}

/// The endpoint for tokens.
pub(super) fn token(shared: &Shared, asked: &Asked) -> Response {
    if let Err(refusal) = check_assertion(shared, asked) {
        shared.refused("OAuth", &refusal);
        let body = json!({ "error": "invalid_grant", "error_description": refusal.1 });
        return answered(StatusCode::BAD_REQUEST, &body);
    }
    let mut state = shared.lock();
    state.bearers_made += 1;
    let bearer = format!("bearer-{}", state.bearers_made);
    state.bearers.push(bearer.clone());
    let body = json!({ "access_token": bearer, "expires_in": 3599, "token_type": "Bearer" });
    answered(StatusCode::OK, &body)
}

fn check_assertion(shared: &Shared, asked: &Asked) -> Result<(), Refusal> {
    require(asked.method == Method::POST, "the method")?;
    require(asked.header("content-type")? == "application/x-www-form-urlencoded", "the type of the content")?;
    let form = std::str::from_utf8(&asked.body).unwrap_or_default();
    let form: HashMap<&str, &str> = form.split('&').filter_map(|pair| pair.split_once('=')).collect();
    require(form.get("grant_type").is_some_and(|grant| grant.replace("%3A", ":") == GRANT), "the grant")?;
    let key = account_key().to_public_key().to_public_key_pem(LineEnding::LF).expect("a key");
    let key = DecodingKey::from_rsa_pem(key.as_bytes()).expect("a key");
    let assertion = form.get("assertion").copied().unwrap_or_default();
    let (_, claims) = claims(assertion, Algorithm::RS256, &key)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("the assertion: {error}")))?;
    require(claims["iss"] == EMAIL, "iss")?;
    require(claims["scope"] == SCOPE, "scope")?;
    require(claims["aud"] == format!("{}/token", shared.url), "aud")?;
    let (iat, exp) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    require((now() - iat).abs() < 60 && exp > now() && exp - iat <= ASSERTION_SECONDS_MAX, "iat and exp")
}

pub(super) async fn serve(shared: &Shared, project: &str, asked: &Asked) -> Response {
    let (push, bearer) = match read(shared, project, asked) {
        Ok(read) => read,
        Err(refusal) => {
            shared.refused("FCM", &refusal);
            return refuse(refusal.0, "INVALID_ARGUMENT", &refusal.1, "INVALID_ARGUMENT");
        }
    };
    // What has expired expires for whatever else is on its way.
    if !shared.lock().bearers.contains(&bearer) {
        return expired();
    }
    let name = format!("projects/{PROJECT}/messages/{}", push.id);
    let answer = shared.answer(push);
    take_time(answer).await;
    match answer {
        Answer::Taken | Answer::Slowly(_) | Answer::Silence => {
            answered(StatusCode::OK, &json!({ "name": name }))
        }
        Answer::Gone => {
            refuse(StatusCode::NOT_FOUND, "NOT_FOUND", "Requested entity was not found.", "UNREGISTERED")
        }
        Answer::Unknown => refuse(
            StatusCode::BAD_REQUEST,
            "INVALID_ARGUMENT",
            "The registration token is not a valid FCM registration token",
            "INVALID_ARGUMENT",
        ),
        Answer::Busy(seconds) => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            with_retry_after(refuse(status, "RESOURCE_EXHAUSTED", "quota", "QUOTA_EXCEEDED"), seconds)
        }
        Answer::Away(seconds) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            with_retry_after(refuse(status, "UNAVAILABLE", "overloaded", "UNAVAILABLE"), seconds)
        }
        Answer::Expired => {
            shared.lock().bearers.retain(|held| *held != bearer);
            expired()
        }
    }
}

fn refuse(code: StatusCode, status: &str, message: &str, error: &str) -> Response {
    let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    let details = json!([{ "@type": kind, "errorCode": error }]);
    let body = json!({ "code": code.as_u16(), "message": message, "status": status, "details": details });
    answered(code, &json!({ "error": body }))
}

/// As all of Google's services say it.
fn expired() -> Response {
    let info = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_EXPIRED",
        "domain": "googleapis.com",
    }]);
    let message = "Request had invalid authentication credentials.";
    let body = json!({ "code": 401, "message": message, "status": "UNAUTHENTICATED", "details": info });
    answered(StatusCode::UNAUTHORIZED, &json!({ "error": body }))
}

/// The push, and the token that it came with.
fn read(shared: &Shared, project: &str, asked: &Asked) -> Result<(Push, String), Refusal> {
    require(asked.version == Version::HTTP_2, "it is asked over HTTP/2")?;
    require(asked.method == Method::POST, "the method")?;
    require(project == PROJECT, "the project")?;
    let bearer = asked.bearer()?.to_owned();
    let made = 1..=shared.lock().bearers_made;
    require(made.into_iter().any(|number| bearer == format!("bearer-{number}")), "a token that nobody made")?;
    let body = asked.json()?;
    let message = &body["message"];
    let (notification, data, android) = (&message["notification"], &message["data"], &message["android"]);
    require(
        data.as_object().is_some_and(|data| data.values().all(Value::is_string)),
        "values of data are texts",
    )?;
    require(["HIGH", "NORMAL"].contains(&android["priority"].as_str().unwrap_or_default()), "the priority")?;
    let ttl = android["ttl"].as_str().and_then(|ttl| ttl.strip_suffix('s')?.parse::<u32>().ok());
    require(ttl.is_some_and(|ttl| ttl > 0), "it is kept for a while")?;
    let collapse = text(&android["collapse_key"], "collapse_key")?;
    require(android["notification"]["tag"] == collapse, "the tag is the conversation's")?;
    let badge = android["notification"]["notification_count"].as_i64();
    let push = Push {
        kind: Kind::Fcm,
        device: text(&message["token"], "token")?,
        id: text(&data["pushId"], "pushId")?,
        message: text(&data["messageId"], "messageId")?,
        conversation: text(&data["conversationId"], "conversationId")?,
        collapse,
        title: text(&notification["title"], "title")?,
        body: text(&notification["body"], "body")?,
        badge: badge.ok_or_else(|| (StatusCode::BAD_REQUEST, "no count".to_owned()))?,
        at: Instant::now(),
    };
    Ok((push, bearer))
}
