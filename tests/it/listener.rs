//! A client that follows the events of a server and remembers how far it came.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

const DEADLINE: Duration = Duration::from_secs(20);

const EVENTS: &str = "subscription($after: EventCursor) { events(after: $after) { __typename cursor
    ... on ConversationEvent { rev conversation { id } }
    ... on MessageSent { message { seq clientMessageId } }
    ... on ResyncRequired { reason } } }";

/// One subscription to everything; `None` from its methods means that the connection is gone.
pub struct Listener(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Listener {
    pub async fn open(url: &str, token: &str, after: Option<&str>) -> Option<Self> {
        Self::subscribed(url, token, EVENTS, json!({ "after": after })).await
    }

    /// With another subscription.
    pub async fn subscribed(url: &str, token: &str, query: &str, variables: Value) -> Option<Self> {
        let url = format!("{}/graphql", url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("an address");
        let subprotocol = "graphql-transport-ws".parse().expect("a header");
        request.headers_mut().insert("sec-websocket-protocol", subprotocol);
        let mut listener = Self(connect_async(request).await.ok()?.0);
        let authorization = format!("Bearer {token}");
        listener
            .say(json!({ "type": "connection_init", "payload": { "authorization": authorization } }))
            .await?;
        assert_eq!(listener.hear(DEADLINE).await?["type"], "connection_ack");
        let payload = json!({ "query": query, "variables": variables });
        listener.say(json!({ "id": "1", "type": "subscribe", "payload": payload })).await?;
        Some(listener)
    }

    async fn say(&mut self, message: Value) -> Option<()> {
        self.0.send(Message::text(message.to_string())).await.ok()
    }

    async fn hear(&mut self, within: Duration) -> Option<Value> {
        loop {
            let frame = tokio::time::timeout(within, self.0.next()).await.expect("something in time");
            match frame?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).expect("JSON")),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    pub async fn event(&mut self) -> Option<Value> {
        Some(self.data().await?["events"].clone())
    }

    /// What comes next, of whatever subscription it is.
    pub async fn data(&mut self) -> Option<Value> {
        self.patiently(DEADLINE).await
    }

    pub async fn patiently(&mut self, within: Duration) -> Option<Value> {
        let message = self.hear(within).await?;
        assert_eq!(message["type"], "next", "{message}");
        assert!(message["payload"].get("errors").is_none(), "{message}");
        Some(message["payload"]["data"].clone())
    }

    /// What comes up to and with `StreamLive`.
    pub async fn opening(&mut self) -> Option<Vec<Value>> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await?;
            let live = event["__typename"] == "StreamLive";
            events.push(event);
            if live {
                return Some(events);
            }
        }
    }
}
