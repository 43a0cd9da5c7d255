//! GraphQL over WebSocket: the protocol `graphql-transport-ws`, and no other.
//!
//! Start at [`upgrade`], then `connection` (one socket: its reader, and `writer` beside it in the same task by `halves`), `operation` (what is
//! opened on it) and `queue` (what waits to be written, with the hub's end in `outbound` and the last look in `sight`). `sockets` knows them all. What the messages mean is in `message`, why a
//! socket is closed in `close`.

mod close;
mod connection;
mod halves;
mod message;
mod operation;
mod outbound;
mod payload;
mod queue;
mod rate;
mod sight;
mod sockets;
mod writer;

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{FromRequestParts, ws::WebSocketUpgrade},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

pub use self::{
    outbound::{Outbound, serialise_response},
    payload::{Alone, Made, PendingPayload},
    queue::Closed,
    sight::{About, Sight, Watched},
    sockets::Sockets,
};
use crate::{edge::Edge, origin::Origins, server::ConnectionPlace, trace};

/// The one subprotocol that is spoken here.
pub const SUBPROTOCOL: &str = "graphql-transport-ws";

/// Bytes read at once. Idle sockets hold this much. The longest message that is allowed takes 512 reads, most take one or two.
const READ_BUFFER_BYTES: usize = 512;

/// Bytes gathered before they are written; a flush writes less.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;

/// Whether a request asks for a WebSocket.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Opens a socket, after checking who asks for it: browsers send cross-origin upgrades without asking. The socket keeps
/// `place`, its connection's.
pub async fn upgrade(
    edge: Arc<Edge>,
    sockets: Sockets,
    origins: &Origins,
    mut parts: Parts,
    address: Option<IpAddr>,
    place: Arc<ConnectionPlace>,
) -> Response {
    if !origins.allow(&parts.headers) {
        return (StatusCode::FORBIDDEN, "origin not allowed").into_response();
    }
    let trace = trace::of(&parts.headers, &*edge.random);
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let offered: Vec<_> = upgrade.requested_protocols().cloned().collect();
    let Some(first) = offered.first() else {
        let message = "the subprotocol graphql-transport-ws is required";
        return (StatusCode::BAD_REQUEST, message).into_response();
    };
    let spoken = offered.iter().find(|offered| offered.as_bytes() == SUBPROTOCOL.as_bytes());
    // A socket of another protocol is opened all the same: only so can the client read why it is closed.
    let known = spoken.is_some();
    let selected = spoken.unwrap_or(first).clone();
    let message_bytes_max = edge.settings.sockets.message_bytes_max;
    let mut upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        // Somewhat larger ones are still read to their end, so that the close frame arrives.
        .max_message_size(message_bytes_max * 2)
        .max_frame_size(message_bytes_max * 2);
    upgrade.set_selected_protocol(selected);
    upgrade.on_upgrade(async move |socket| {
        if known {
            connection::serve(edge, &sockets, socket, place, address, trace);
        } else {
            edge.tasks.spawn(connection::refuse(socket, close::BAD_SUBPROTOCOL));
        }
    })
}
