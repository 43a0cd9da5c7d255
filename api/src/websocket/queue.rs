//! What waits to be written to one socket: bounded by count and bytes, in the order it was put in.
//!
//! The hub pushes and never waits; who cannot keep up is cut off. The writer ([`super::writer`]) takes from the front.
//! Events of a subscription that has ended are dropped on the way out.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use domain::measure;
use futures_util::future::Shared;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    close::{Close, SLOW_READER},
    message,
};

/// An execution result, serialised once and shared between sockets.
#[derive(Clone, Debug)]
pub enum Payload {
    Ready(Bytes),
    /// Its place in the queue is taken; it is still being made. Counts no bytes.
    Pending(PendingPayload),
}

pub type PendingPayload = Shared<oneshot::Receiver<Bytes>>;

/// The socket is gone, or was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the socket is closed")]
pub struct Closed;

/// An operation that the client has open.
pub(super) struct Active {
    pub id: Arc<str>,
    /// The id as JSON.
    quoted_id: Box<str>,
    /// Of a subscription, for as long as it is open.
    _permit: Option<OwnedSemaphorePermit>,
    /// Ends the subscription when dropped.
    subscription: Option<Box<dyn Send>>,
}

pub(super) struct Queue {
    state: Mutex<State>,
    pub(super) messages_max: usize,
    pub(super) bytes_max: usize,
    /// Something was put in, or the state changed.
    pub(super) changed: Notify,
    room: Notify,
    /// Closed at once, whatever waits.
    pub(super) cut: CancellationToken,
}

#[derive(Default)]
struct State {
    slots: VecDeque<Slot>,
    bytes: usize,
    operations: HashMap<Arc<str>, Active>,
    /// What to close with once the queue is empty, or at once when the queue was cut.
    closing: Option<Close>,
}

pub(super) enum Slot {
    /// A whole message.
    Control(Utf8Bytes),
    Next {
        id: Arc<str>,
        payload: Payload,
    },
    Error {
        id: Arc<str>,
        errors: Bytes,
    },
    Complete {
        id: Arc<str>,
    },
}

impl Slot {
    fn bytes(&self) -> usize {
        match self {
            Self::Control(text) => text.len(),
            Self::Next { payload: Payload::Ready(payload), .. } => payload.len(),
            Self::Error { errors, .. } => errors.len(),
            Self::Next { .. } | Self::Complete { .. } => 0,
        }
    }
}

/// What the writer finds at the front.
pub(super) enum Front {
    Message(Utf8Bytes),
    Pending(PendingPayload),
    /// What was promised for this place will never come.
    Lost,
    Empty,
    Closing(Close),
}

impl Queue {
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            messages_max,
            bytes_max,
            changed: Notify::new(),
            room: Notify::new(),
            cut: CancellationToken::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an operation whose id is free.
    pub(super) fn open(&self, id: &Arc<str>, permit: Option<OwnedSemaphorePermit>) {
        let quoted_id = message::quote(id).into();
        let active = Active { id: Arc::clone(id), quoted_id, _permit: permit, subscription: None };
        let before = self.state().operations.insert(Arc::clone(id), active);
        drop(before);
    }

    pub(super) fn is_open(&self, id: &str) -> bool {
        self.state().operations.contains_key(id)
    }

    /// Keeps what ends a subscription, unless the subscription has ended already.
    pub(super) fn attach(&self, id: &Arc<str>, subscription: Box<dyn Send>) {
        let ended = match self.state().operations.get_mut(id) {
            Some(active) if Arc::ptr_eq(&active.id, id) => active.subscription.replace(subscription),
            _ => Some(subscription),
        };
        drop(ended);
    }

    /// Forgets an operation. What it returns must be dropped without a lock held: the hub has locks of its own.
    #[must_use]
    pub(super) fn end(&self, id: &str) -> Option<Active> {
        self.state().operations.remove(id)
    }

    /// Forgets all operations.
    #[must_use]
    pub(super) fn end_all(&self) -> HashMap<Arc<str>, Active> {
        std::mem::take(&mut self.state().operations)
    }

    /// Ends the subscriptions and leaves queries and mutations to be answered.
    #[must_use]
    pub(super) fn end_subscriptions(&self) -> Vec<Active> {
        let mut state = self.state();
        state
            .operations
            .extract_if(|_, active| active.subscription.is_some())
            .map(|(_, active)| active)
            .collect()
    }

    pub(super) fn control(&self, message: Utf8Bytes) {
        let _ = self.push(Slot::Control(message));
    }

    pub(super) fn push(&self, slot: Slot) -> Result<(), Closed> {
        let mut state = self.state();
        if state.closing.is_some() {
            return Err(Closed);
        }
        if !state.has_room(&slot, self.messages_max, self.bytes_max) {
            let dropped = state.cut(SLOW_READER);
            measure::count(measure::SLOW_READERS, &[], 1);
            drop(state);
            drop(dropped);
            self.cut.cancel();
            return Err(Closed);
        }
        state.put(slot);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) async fn push_paced(
        &self,
        slot: Slot,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<(), Closed> {
        loop {
            let room = self.room.notified();
            {
                let mut state = self.state();
                if state.closing.is_some() {
                    return Err(Closed);
                }
                if state.has_room(&slot, messages_max, bytes_max) {
                    state.put(slot);
                    break;
                }
            }
            tokio::select! {
                () = room => {}
                () = self.cut.cancelled() => return Err(Closed),
            }
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Closes when what waits is written.
    pub(super) fn close_when_empty(&self, close: Close) {
        self.state().closing.get_or_insert(close);
        self.changed.notify_one();
        self.room.notify_waiters();
    }

    /// Closes now; what waits is dropped.
    pub(super) fn close_now(&self, close: Close) {
        let dropped = self.state().cut(close);
        drop(dropped);
        self.cut.cancel();
        self.room.notify_waiters();
    }

    pub(super) fn closing(&self) -> Option<Close> {
        self.state().closing
    }

    /// Takes the next message, unless it is still being made.
    pub(super) fn front(&self) -> Front {
        let mut ended = Vec::new();
        let mut state = self.state();
        let front = state.front(&mut ended);
        drop(state);
        drop(ended);
        if matches!(front, Front::Message(_)) {
            self.room.notify_waiters();
        }
        front
    }
}

impl State {
    /// A single message beyond the bound in bytes may go alone.
    fn has_room(&self, slot: &Slot, messages_max: usize, bytes_max: usize) -> bool {
        self.slots.is_empty()
            || (self.slots.len() < messages_max && self.bytes.saturating_add(slot.bytes()) <= bytes_max)
    }

    fn put(&mut self, slot: Slot) {
        self.bytes += slot.bytes();
        self.slots.push_back(slot);
    }

    #[must_use]
    fn cut(&mut self, close: Close) -> VecDeque<Slot> {
        self.closing.get_or_insert(close);
        self.bytes = 0;
        std::mem::take(&mut self.slots)
    }

    fn front(&mut self, ended: &mut Vec<Active>) -> Front {
        loop {
            let Some(slot) = self.slots.front() else {
                return self.closing.map_or(Front::Empty, Front::Closing);
            };
            if let Slot::Next { id, payload: Payload::Pending(payload) } = slot
                && self.active(id).is_some()
            {
                match payload.peek() {
                    None => return Front::Pending(payload.clone()),
                    Some(Err(_)) => return Front::Lost,
                    Some(Ok(_)) => {}
                }
            }
            self.bytes -= slot.bytes();
            let Some(slot) = self.slots.pop_front() else { return Front::Empty };
            if let Some(message) = self.message(slot, ended) {
                return Front::Message(message);
            }
        }
    }

    /// `None` when its operation has ended.
    fn message(&mut self, slot: Slot, ended: &mut Vec<Active>) -> Option<Utf8Bytes> {
        match slot {
            Slot::Control(text) => Some(text),
            Slot::Next { id, payload } => {
                let payload = match payload {
                    Payload::Ready(payload) => payload,
                    Payload::Pending(pending) => pending.peek()?.as_ref().ok()?.clone(),
                };
                message::next(&self.active(&id)?.quoted_id, &payload)
            }
            Slot::Error { id, errors } => {
                let message = message::error(&self.active(&id)?.quoted_id, &errors);
                ended.extend(self.operations.remove(&id));
                message
            }
            Slot::Complete { id } => {
                let message = message::complete(&self.active(&id)?.quoted_id);
                ended.extend(self.operations.remove(&id));
                Some(message)
            }
        }
    }

    /// The same id may have been opened anew; only the same `Arc` is the same operation.
    fn active(&self, id: &Arc<str>) -> Option<&Active> {
        self.operations.get(id).filter(|active| Arc::ptr_eq(&active.id, id))
    }
}
