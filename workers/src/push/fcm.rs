//! Firebase Cloud Messaging, HTTP v1: a token of OAuth 2 for a service account, signed with RS256.
//!
//! Source: Google's "FCM HTTP v1 API" and "Using OAuth 2.0 for server to server applications".

mod message;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{Timestamp, port::Clock};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{
    StatusCode, Url,
    header::{AUTHORIZATION, HeaderValue},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use self::message::Body;
use super::{Failure, FcmSettings, Note, Outcome, http};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Asked for, at most an hour.
const TOKEN_SECONDS: i64 = 60 * 60;
/// A token is renewed so long before it ends.
const MARGIN_SECONDS: i64 = 5 * 60;

pub struct Fcm {
    connections: http::Connections,
    account: Account,
    url: Url,
    clock: Arc<dyn Clock>,
    /// As a header.
    token: Mutex<Option<(Timestamp, HeaderValue)>>,
    /// Whether Google ever took anything from us.
    has_accepted: AtomicBool,
}

/// What we need of a service account's file.
struct Account {
    project: String,
    email: String,
    token_url: String,
    key: EncodingKey,
}

impl Account {
    fn read(settings: &FcmSettings) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(&settings.account)?;
        let file: Value = serde_json::from_str(&text)?;
        let field = |name: &str| file[name].as_str().map(str::to_owned).ok_or_else(|| format!("no `{name}`"));
        let key = EncodingKey::from_rsa_pem(field("private_key")?.as_bytes())?;
        let token_url = field("token_uri")?;
        Ok(Self { project: field("project_id")?, email: field("client_email")?, token_url, key })
    }
}

impl Fcm {
    pub fn new(settings: &FcmSettings, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let account =
            Account::read(settings).map_err(|error| format!("{}: {error}", settings.account.display()))?;
        let connections = http::Connections::new(&settings.url)?;
        let url = Url::parse(&format!("{}/v1/projects/{}/messages:send", settings.url, account.project))?;
        Ok(Self {
            connections,
            account,
            url,
            clock,
            token: Mutex::new(None),
            has_accepted: AtomicBool::new(false),
        })
    }

    async fn token(&self) -> Result<HeaderValue, Failure> {
        // Held while it is asked for: nobody asks twice.
        let mut token = self.token.lock().await;
        let now = self.clock.now();
        if let Some((until, token)) = &*token
            && now.seconds() < until.seconds() - MARGIN_SECONDS
        {
            return Ok(token.clone());
        }
        let Account { email, token_url, key, .. } = &self.account;
        let (iat, exp) = (now.seconds(), now.seconds() + TOKEN_SECONDS);
        let claims = json!({ "iss": email, "scope": SCOPE, "aud": token_url, "iat": iat, "exp": exp });
        let assertion = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, key)?;
        let form = [("grant_type", GRANT), ("assertion", assertion.as_str())];
        let response =
            self.connections.next().post(token_url).form(&form).send().await?.error_for_status()?;
        let answer: Value = response.json().await?;
        let made = answer["access_token"].as_str().ok_or("no access token")?;
        let mut made = HeaderValue::try_from(format!("Bearer {made}"))?;
        made.set_sensitive(true);
        let seconds = answer["expires_in"].as_i64().unwrap_or(TOKEN_SECONDS).clamp(0, TOKEN_SECONDS);
        let until = now + Duration::from_secs(seconds.unsigned_abs());
        *token = Some((until, made.clone()));
        Ok(made)
    }

    pub async fn send(&self, device: &str, note: &Note) -> Outcome {
        let token = match self.token().await {
            Ok(token) => token,
            Err(error) => return Outcome::Closed(format!("no token for FCM: {error}"), None),
        };
        let conversation = note.conversation.to_string();
        let body = Body::new(device, &conversation, note);
        let request = self.connections.next().post(self.url.clone()).header(AUTHORIZATION, token);
        let response = match request.json(&body).send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Closed(error.to_string(), None),
        };
        let (status, wait) = (response.status(), http::retry_after(&response));
        if status == StatusCode::OK {
            self.has_accepted.store(true, Ordering::Relaxed);
            return Outcome::Sent;
        }
        let text = http::beginning(response).await;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let details = answer["error"]["details"].as_array().map(Vec::as_slice).unwrap_or_default();
        let code = details.iter().find_map(|detail| detail["errorCode"].as_str()).unwrap_or_default();
        let is_token = |detail: &Value| {
            let violations = detail["fieldViolations"].as_array().map(Vec::as_slice).unwrap_or_default();
            violations.iter().any(|violation| violation["field"] == "message.token")
        };
        let why = format!("{status} {text}");
        let works = self.has_accepted.load(Ordering::Relaxed);
        match (status, code) {
            (_, "UNREGISTERED") => Outcome::Gone,
            // Or all of them, where the project is the wrong one.
            (_, "SENDER_ID_MISMATCH") if works => Outcome::Gone,
            (StatusCode::BAD_REQUEST, _) if works && details.iter().any(is_token) => Outcome::Gone,
            // Firebase has no key for the devices of another provider.
            (_, "THIRD_PARTY_AUTH_ERROR") => Outcome::Later(why, wait),
            (StatusCode::UNAUTHORIZED, _) => {
                *self.token.lock().await = None;
                Outcome::Later(why, Some(Duration::ZERO))
            }
            // What people have to mend: our account, our project. Nothing is lost meanwhile.
            (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _) => Outcome::Closed(why, wait),
            // Google's own default.
            (StatusCode::TOO_MANY_REQUESTS, _) => Outcome::Closed(why, wait.or(Some(Duration::from_mins(1)))),
            _ => http::otherwise(status, why, wait),
        }
    }
}
