//! What a WebSocket gives to the requests that come over it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use domain::Caller;
use tokio::sync::{Notify, futures::Notified, oneshot};

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

/// What a socket is told while it waits for its client. Small, as each socket has one for as long as it is open.
#[derive(Debug, Default)]
pub struct Told {
    draining: AtomicBool,
    renewed: Mutex<Option<Caller>>,
    changed: Notify,
}

impl Told {
    /// The node stops: finish what runs, then close.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Resolves when there is something new. For one that waits.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// For whom the socket speaks from now on; once for each renewal.
    pub fn take_renewed(&self) -> Option<Caller> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Lets `renewConnection` tell its socket for whom, and until when, it now speaks.
#[derive(Clone, Debug)]
pub struct ConnectionRenewal(pub Arc<Told>);

impl ConnectionRenewal {
    pub fn renew(&self, caller: Caller) {
        *self.0.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(caller);
        self.0.changed.notify_one();
    }
}
