//! Apple Push Notification service: HTTP/2, a token signed with ES256.
//!
//! Source: Apple's "Sending notification requests to APNs" and "Establishing a token-based connection to APNs".

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{Timestamp, port::Clock};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{ApnsSettings, Failure, Note, Outcome, http};

/// Apple takes tokens of 20 to 60 minutes.
const TOKEN_SECONDS: i64 = 40 * 60;
/// How long Apple keeps a push for a device that is away.
const KEPT_SECONDS: i64 = 24 * 60 * 60;

pub struct Apns {
    connections: http::Connections,
    settings: ApnsSettings,
    key: EncodingKey,
    clock: Arc<dyn Clock>,
    token: Mutex<Option<(Timestamp, String)>>,
    /// Whether Apple ever took anything from us.
    has_accepted: AtomicBool,
}

impl Apns {
    pub fn new(settings: &ApnsSettings, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let pem =
            std::fs::read(&settings.key).map_err(|error| format!("{}: {error}", settings.key.display()))?;
        let key =
            EncodingKey::from_ec_pem(&pem).map_err(|error| format!("{}: {error}", settings.key.display()))?;
        let connections = http::Connections::new(&settings.url)?;
        Ok(Self {
            connections,
            settings: settings.clone(),
            key,
            clock,
            token: Mutex::new(None),
            has_accepted: AtomicBool::new(false),
        })
    }

    fn token(&self) -> Result<String, Failure> {
        let now = self.clock.now();
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, token)) = &*token
            && now.seconds() - made.seconds() < TOKEN_SECONDS
        {
            return Ok(token.clone());
        }
        let header = Header { kid: Some(self.settings.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let claims = json!({ "iss": self.settings.team_id, "iat": now.seconds() });
        let made = jsonwebtoken::encode(&header, &claims, &self.key)?;
        *token = Some((now, made.clone()));
        Ok(made)
    }

    fn forget_token(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub async fn send(&self, device: &str, note: &Note) -> Outcome {
        let token = match self.token() {
            Ok(token) => token,
            Err(error) => return Outcome::Closed(error.to_string(), None),
        };
        let conversation = note.conversation.to_string();
        let body = json!({
            "aps": {
                "alert": { "title": note.title, "body": note.body },
                "badge": note.badge,
                "sound": "default",
                "thread-id": conversation,
            },
            "conversationId": conversation,
            "messageId": note.message.to_string(),
        });
        let request = self
            .connections
            .next()
            .post(format!("{}/3/device/{device}", self.settings.url))
            .bearer_auth(token)
            .header("apns-id", note.uuid())
            .header("apns-topic", &self.settings.topic)
            .header("apns-push-type", "alert")
            .header("apns-priority", "10")
            .header("apns-collapse-id", &conversation)
            .header("apns-expiration", (self.clock.now().seconds() + KEPT_SECONDS).to_string())
            .json(&body);
        let response = match request.send().await {
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
        let why = format!("{status} {text}");
        match (status, answer["reason"].as_str().unwrap_or_default()) {
            (StatusCode::GONE, _) | (_, "Unregistered" | "ExpiredToken") => Outcome::Gone,
            // Or all of them, where we push to the wrong one of Apple's two environments.
            (_, "BadDeviceToken") if self.has_accepted.load(Ordering::Relaxed) => Outcome::Gone,
            (_, "ExpiredProviderToken") => {
                self.forget_token();
                Outcome::Later(why, Some(Duration::ZERO))
            }
            (_, "TooManyRequests") => Outcome::Later(why, wait),
            // What people have to mend: our key, our topic. Nothing is lost meanwhile.
            (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _)
            | (_, "BadTopic" | "MissingTopic" | "TopicDisallowed" | "DeviceTokenNotForTopic") => {
                Outcome::Closed(why, wait)
            }
            _ => http::otherwise(status, why, wait),
        }
    }
}
