//! What an operator may set at the edges, with the defaults.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{guard::Limits, server::TlsFiles};

/// Settings of the API's listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Port 0 is any free one.
    pub listen: SocketAddr,
    /// Exact origins that browsers may call from; empty = the server's own, and loopback ones while listening on
    /// loopback.
    pub allowed_origins: Vec<String>,
    /// Proxies in front whose entry in `X-Forwarded-For` counts.
    pub trusted_hops: usize,
    /// A certificate; without one there is no TLS.
    pub tls: Option<TlsFiles>,
    /// Connections open at once; more wait to be accepted.
    pub connections_max: usize,
    /// Connections of one address; more are closed. Not counted behind a proxy, whose address all would have.
    pub connections_per_address_max: usize,
    /// How long a connection may take no answer, or over HTTP/2 ask nothing, once it has asked something.
    pub idle_timeout: Duration,
    /// How long a request's header may take, and what comes before it.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    pub body_bytes_max: usize,
    /// How long a client waits for an answer before it is `UNAVAILABLE`. The work itself goes on.
    pub operation_timeout: Duration,
    /// Operations running at once, over HTTP and sockets together; more are `UNAVAILABLE`.
    pub operations_max: usize,
    /// Bytes of documents kept in parsed form.
    pub cached_documents_bytes_max: u64,
    /// Manifests of the documents that alone may run; empty = all may.
    pub trusted_documents: Vec<PathBuf>,
    pub limits: Limits,
    pub sockets: SocketSettings,
    /// Over how long a stopping node spreads the closing of its sockets.
    pub drain_spread: Duration,
    /// How long a stopping node waits for what is running.
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4000)),
            allowed_origins: Vec::new(),
            trusted_hops: 0,
            tls: None,
            connections_max: 50_000,
            connections_per_address_max: 2000,
            idle_timeout: Duration::from_mins(1),
            header_timeout: Duration::from_secs(8),
            body_timeout: Duration::from_secs(8),
            body_bytes_max: 1024 * 1024,
            operation_timeout: Duration::from_secs(10),
            operations_max: 4096,
            cached_documents_bytes_max: 4 * 1024 * 1024,
            trusted_documents: Vec::new(),
            limits: Limits::default(),
            sockets: SocketSettings::default(),
            drain_spread: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(25),
        }
    }
}

/// Settings of WebSockets.
#[derive(Clone, Debug)]
pub struct SocketSettings {
    pub total_max: usize,
    /// Sockets of one signed-in user on this node.
    pub per_user_max: usize,
    /// Sockets of one address on this node.
    pub per_address_max: usize,
    /// Sockets that may be opened in a second on this node; more are told to come again.
    pub opened_per_second_max: u32,
    /// Operations open at once on one socket.
    pub operations_max: usize,
    /// Bytes of a message from the client.
    pub message_bytes_max: usize,
    /// Messages waiting to be written to one socket.
    pub queue_messages_max: usize,
    /// Bytes waiting to be written to one socket.
    pub queue_bytes_max: usize,
    /// How long a client may take to send `connection_init`.
    pub init_timeout: Duration,
    /// How often a socket is pinged; after two without a sign of life it is dropped.
    pub ping_interval: Duration,
    /// How long one write may take before the reader is too slow.
    pub write_timeout: Duration,
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self {
            total_max: 20_000,
            per_user_max: 50,
            per_address_max: 1000,
            opened_per_second_max: 2000,
            operations_max: 100,
            message_bytes_max: 256 * 1024,
            queue_messages_max: 256,
            queue_bytes_max: 1024 * 1024,
            init_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            write_timeout: Duration::from_secs(10),
        }
    }
}
