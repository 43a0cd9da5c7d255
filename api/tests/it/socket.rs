//! A WebSocket client that says exactly what a test wants, and hears exactly what came.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _, http::HeaderValue},
};

use crate::test_server::TestServer;

const DEADLINE: Duration = Duration::from_secs(20);

pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What a handshake asks for.
#[derive(Clone, Copy)]
pub struct Handshake<'a> {
    pub subprotocol: Option<&'a str>,
    pub origin: Option<&'a str>,
}

pub const HANDSHAKE: Handshake<'_> = Handshake { subprotocol: Some("graphql-transport-ws"), origin: None };

impl Socket {
    pub async fn open(server: &TestServer) -> Self {
        Self::with(server, HANDSHAKE).await.expect("connects")
    }

    pub async fn with(server: &TestServer, handshake: Handshake<'_>) -> tungstenite::Result<Self> {
        let mut request = format!("ws://{}/graphql", server.address).into_client_request()?;
        let mut header = |name: &'static str, value: Option<&str>| {
            if let Some(value) = value {
                request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header"));
            }
        };
        header("sec-websocket-protocol", handshake.subprotocol);
        header("origin", handshake.origin);
        Ok(Self(connect_async(request).await?.0))
    }

    /// After `connection_init`, signed in with a token.
    pub async fn initialised(server: &TestServer, token: Option<&str>) -> Self {
        let mut socket = Self::open(server).await;
        socket.init(token).await;
        assert_eq!(socket.hear().await["type"], "connection_ack");
        socket
    }

    pub async fn init(&mut self, token: Option<&str>) {
        let payload = token.map(|token| json!({ "authorization": format!("Bearer {token}") }));
        self.say(json!({ "type": "connection_init", "payload": payload })).await;
    }

    pub async fn say(&mut self, message: Value) {
        self.send(Message::text(message.to_string())).await;
    }

    pub async fn send(&mut self, message: Message) {
        self.0.send(message).await.expect("writes");
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        let payload = json!({ "query": query, "variables": variables });
        self.say(json!({ "id": id, "type": "subscribe", "payload": payload })).await;
    }

    /// The next frame, whatever it is; `None` once the connection is gone.
    pub async fn frame(&mut self) -> Option<Message> {
        timeout(DEADLINE, self.0.next()).await.expect("in time")?.ok()
    }

    /// The next message.
    pub async fn hear(&mut self) -> Value {
        loop {
            match self.frame().await.expect("open") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Passes over what still comes and answers with the code and the reason of the close.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.frame().await {
                Some(Message::Close(Some(frame))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Message::Close(None)) | None => return (1006, String::new()),
                Some(_) => {}
            }
        }
    }

    /// Code and reason, if the server closes it rather than acknowledging a `connection_init`.
    pub async fn refused(mut self) -> Option<(u16, String)> {
        // It may be closed already.
        let _ = self.0.send(Message::text(r#"{"type":"connection_init"}"#)).await;
        loop {
            match self.frame().await {
                Some(Message::Text(_)) => return None,
                Some(Message::Close(Some(frame))) => {
                    return Some((frame.code.into(), frame.reason.to_string()));
                }
                Some(Message::Close(None)) | None => return Some((1006, String::new())),
                Some(_) => {}
            }
        }
    }
}
