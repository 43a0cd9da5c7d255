//! What a WebSocket gives to the requests that come over it.

use std::sync::{Mutex, PoisonError};

use domain::Caller;
use tokio::sync::{oneshot, watch};

/// A send's place among those of its socket: it waits for the one before and lets the next go once it is enqueued.
#[derive(Debug)]
pub struct SendTurn {
    before: Mutex<Option<oneshot::Receiver<()>>>,
    after: Mutex<Option<oneshot::Sender<()>>>,
}

impl SendTurn {
    pub fn new(before: Option<oneshot::Receiver<()>>, after: oneshot::Sender<()>) -> Self {
        Self { before: Mutex::new(before), after: Mutex::new(Some(after)) }
    }

    /// Returns when the send before is enqueued, or gone.
    pub async fn wait(&self) {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(before) = before {
            // An error says that the sender was dropped, which is how a turn ends.
            let _ = before.await;
        }
    }

    /// Lets the next send go. Dropping the turn does the same.
    pub fn done(&self) {
        drop(self.after.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Lets `renewConnection` tell its socket for whom, and until when, it now speaks.
#[derive(Clone, Debug)]
pub struct ConnectionRenewal(pub watch::Sender<Caller>);

impl ConnectionRenewal {
    pub fn renew(&self, caller: Caller) {
        self.0.send_replace(caller);
    }
}
