//! The hub's end of a socket's queue.

use std::sync::{Arc, atomic::Ordering};

use async_graphql::{Response, ServerError};
use axum::extract::ws::Utf8Bytes;

use super::{
    close::Close,
    message,
    payload::{Payload, PendingPayload},
    queue::{Closed, Queue, Slot},
    sight::About,
};

/// Puts messages into one socket's queue. Cheap to clone; keeps no socket open.
#[derive(Clone)]
pub struct Outbound {
    pub(super) queue: Arc<Queue>,
}

impl Outbound {
    /// Takes the next place in the queue for what is still being made, and never waits. Its maker calls [`Self::wake`], also
    /// when it could not be made. When the queue is full the socket is cut off as a slow reader. A payload for an operation
    /// that has ended is dropped on its way out, and so is one about what the viewer may not see any more.
    pub fn place(
        &self,
        operation_id: &Arc<str>,
        payload: PendingPayload,
        about: Option<About>,
    ) -> Result<(), Closed> {
        let payload = Payload::Pending(payload);
        self.queue.place(Slot::Next { id: Arc::clone(operation_id), payload, about })
    }

    /// Has the writer look at the queue.
    pub fn wake(&self) {
        self.queue.changed.notify_one();
    }

    /// Whether it does not stand in line to be woken yet; from now on it does.
    pub fn joins_line(&self) -> bool {
        !self.queue.in_line.swap(true, Ordering::AcqRel)
    }

    pub fn leaves_line(&self) {
        self.queue.in_line.store(false, Ordering::Release);
    }

    /// Takes a place once half of the queue is free, so that what happens live still finds room. For what the reader
    /// may pace, such as a replay.
    pub async fn next_paced(
        &self,
        operation_id: &Arc<str>,
        payload: Utf8Bytes,
        about: Option<About>,
    ) -> Result<(), Closed> {
        self.place_paced(operation_id, payload, about).await?;
        self.wake();
        Ok(())
    }

    /// The same, and leaves it to the caller to [`Self::wake`] the writer: what comes right behind may go in the same flush.
    pub async fn place_paced(
        &self,
        operation_id: &Arc<str>,
        payload: Utf8Bytes,
        about: Option<About>,
    ) -> Result<(), Closed> {
        let payload = Payload::Ready(payload);
        let slot = Slot::Next { id: Arc::clone(operation_id), payload, about };
        self.queue.place_paced([slot], self.queue.messages_max / 2, self.queue.bytes_max / 2).await
    }

    /// Ends an operation that could not be run: request errors, each with its code.
    pub fn error(&self, operation_id: &Arc<str>, errors: &[ServerError]) {
        let errors = message::serialise(&errors);
        let _ = self.queue.push(Slot::Error { id: Arc::clone(operation_id), errors });
    }

    /// Closes the socket now; what waits is dropped. Codes are those of the module `close`.
    pub fn close(&self, code: u16, reason: &'static str) {
        self.queue.close_now(Close { code, reason });
    }

    pub fn is_closed(&self) -> bool {
        self.queue.closing().is_some()
    }

    /// Says what is wrong with an operation that was never opened.
    pub(super) fn refuse(&self, id: &str, errors: &[ServerError]) {
        let errors = message::serialise(&errors);
        self.queue.control(message::error(&message::quote(id), &errors));
    }

    /// The answer to a query or mutation, and its end. The permit is given back once the answer is in the queue.
    pub(super) async fn answer<P>(&self, operation_id: &Arc<str>, payload: Utf8Bytes, permit: P) {
        let (payload, id) = (Payload::Ready(payload), Arc::clone(operation_id));
        // Together: where the answer has taken the last of the room, its end would be one too many.
        let both = [Slot::Next { id: id.clone(), payload, about: None }, Slot::Complete { id }];
        let _ = self.queue.place_paced(both, self.queue.messages_max, self.queue.bytes_max).await;
        drop(permit);
        self.wake();
    }
}

#[cfg(test)]
impl Outbound {
    /// Of a socket that nobody writes to.
    pub(crate) fn unwritten() -> Self {
        Self { queue: Arc::new(Queue::new(16, 4096)) }
    }

    /// What a writer waits for.
    pub(crate) fn woken(&self) -> impl Future<Output = ()> {
        self.queue.changed.notified()
    }
}

/// An execution result as sockets share it.
pub fn serialise_response(response: &Response) -> Utf8Bytes {
    message::serialise(response)
}
