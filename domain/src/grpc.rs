//! The domain behind gRPC: `confab domain` serves it, `confab api` and `confab worker` call it.
//!
//! All calls stand in one table (`calls`). A `Chat` that is `remote` spreads them over the endpoints by lane, so that batches form
//! and what a committer knows of its lanes stays true, and turns to another endpoint when one fails.

pub(crate) mod calls;
pub(crate) mod convert;
mod endpoint;
pub mod metadata;
pub(crate) mod remote;
mod sends;
pub mod server;
mod status;

use std::time::Duration;

pub use remote::{Remote, RemoteError, RemoteSetup};

/// Largest request: a list of ids, or a message's text.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Largest reply: a replay of many messages.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often each side asks whether the other still answers, and how long it waits for the answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an endpoint's health is asked, and how long for: with both, one that accepts but does not answer is out in time.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
