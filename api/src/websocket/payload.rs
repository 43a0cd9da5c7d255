//! What an execution comes to, as sockets share it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use async_graphql::ServerError;
use axum::extract::ws::Utf8Bytes;
use domain::Caller;
use futures_util::future::BoxFuture;

/// An execution result, serialised once and shared between sockets.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Ready(Utf8Bytes),
    /// Its place in the queue is taken; it is still being made. Its bytes count once it is there.
    Pending(PendingPayload),
}

/// Set once, by who makes it. Nobody waits for it: who holds a place is woken.
pub type PendingPayload = Arc<OnceLock<Made>>;

/// What became of a payload that was still being made.
#[derive(Clone)]
pub enum Made {
    Whole(Utf8Bytes),
    /// It failed for all who share it: each is to have its own.
    Failed(Alone),
    /// It will never be there.
    Never,
}

/// Makes a payload for one caller alone: whole, or what ends the operation. `None` when it cannot be made now.
pub type Alone = Arc<dyn Fn(Caller) -> MadeAlone + Send + Sync>;

pub type MadeAlone = BoxFuture<'static, Option<Result<Utf8Bytes, Vec<ServerError>>>>;

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Failed(_) => "Failed",
            Self::Never => "Never",
        })
    }
}
