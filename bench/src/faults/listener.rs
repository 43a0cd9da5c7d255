//! A subscription of a client, and how it ends.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    client::{CALL_TIMEOUT, Token},
    journal::Ended,
};

/// A socket that is silent for so long is asked for a sign of life, and given up after as long again.
const SILENCE: Duration = Duration::from_secs(3);

const EVENTS: &str = "subscription($after: EventCursor) { events(after: $after) { __typename cursor
    ... on ConversationEvent { rev conversation { id title } }
    ... on MessageSent { message { id seq sender { id } } }
    ... on ReadMarked { user { id } readSeq }
    ... on MemberAdded { member { user { id } } }
    ... on MemberRemoved { user { id } }
    ... on ResyncRequired { reason } } }";

/// A subscription to everything that concerns a user.
pub struct Listener(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What came.
pub enum Heard {
    Event(Value),
    Over(Ended),
    /// What no fault explains.
    Wrong(String),
}

impl Listener {
    pub async fn open(url: &str, token: &Token, after: Option<&str>) -> Option<Self> {
        timeout(CALL_TIMEOUT, Self::connect(url, token, after)).await.ok()?
    }

    async fn connect(url: &str, token: &Token, after: Option<&str>) -> Option<Self> {
        let url = format!("{}/graphql", url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().ok()?;
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().ok()?);
        let mut listener = Self(connect_async(request).await.ok()?.0);
        let authorization = format!("Bearer {}", token.access());
        listener
            .say(json!({ "type": "connection_init", "payload": { "authorization": authorization } }))
            .await
            .ok()?;
        if listener.hear().await.ok()?["type"] != "connection_ack" {
            return None;
        }
        let payload = json!({ "query": EVENTS, "variables": { "after": after } });
        listener.say(json!({ "id": "1", "type": "subscribe", "payload": payload })).await.ok()?;
        Some(listener)
    }

    async fn say(&mut self, message: Value) -> Result<(), Ended> {
        self.0.send(Message::text(message.to_string())).await.map_err(|_| Ended::Lost)
    }

    async fn hear(&mut self) -> Result<Value, Ended> {
        let mut asked = false;
        loop {
            let frame = match timeout(SILENCE, self.0.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(_) => return Err(Ended::Lost),
                Err(_) if asked => return Err(Ended::Silent),
                Err(_) => {
                    asked = true;
                    self.say(json!({ "type": "ping" })).await?;
                    continue;
                }
            };
            asked = false;
            match frame {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).map_err(|_| Ended::Lost)?;
                    if message["type"] != "pong" {
                        return Ok(message);
                    }
                }
                Message::Close(Some(frame)) => return Err(Ended::Closed(frame.code.into())),
                Message::Close(None) => return Err(Ended::Lost),
                _ => {}
            }
        }
    }

    pub async fn next(&mut self) -> Heard {
        let mut message = match self.hear().await {
            Ok(message) => message,
            Err(ended) => return Heard::Over(ended),
        };
        let errors = message["payload"].get("errors").is_some();
        if message["type"] == "next" && !errors {
            return Heard::Event(message["payload"]["data"]["events"].take());
        }
        // An operation may be refused while a back end is away; the client comes again.
        let retryable = message["payload"][0]["extensions"]["retryable"] == true;
        if retryable || message["type"] == "complete" {
            Heard::Over(Ended::Refused)
        } else {
            Heard::Wrong(message.to_string())
        }
    }

    /// Whether the subscription goes live; what comes before that is passed over.
    pub async fn goes_live(&mut self) -> bool {
        loop {
            match self.next().await {
                Heard::Event(event) if event["__typename"] == "StreamLive" => return true,
                Heard::Event(_) => {}
                Heard::Over(_) | Heard::Wrong(_) => return false,
            }
        }
    }
}
