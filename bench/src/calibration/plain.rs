//! Sending a message as a route of axum would have it: typed JSON in, typed JSON out, nothing else.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderName, StatusCode, header},
    routing::post,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Draft {
    conversation_id: String,
    client_message_id: String,
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    id: String,
    seq: usize,
    created_at: &'static str,
}

pub(crate) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    crate::listening(listener.local_addr().expect("bound").port());
    let routes = Router::new().route("/messages", post(send));
    axum::serve(listener, routes).await.expect("serves");
}

/// What it answers depends on all it was sent.
async fn send(body: Bytes) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), StatusCode> {
    let draft: Draft = serde_json::from_slice(&body).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
    let Draft { conversation_id, client_message_id, text } = draft;
    let seq = client_message_id.len() + text.len();
    let sent = Sent { id: conversation_id, seq, created_at: "2026-01-01T00:00:00.000000Z" };
    let answer = serde_json::to_vec(&sent).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer))
}
