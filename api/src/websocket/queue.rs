//! What waits to be written to one socket: bounded by count and bytes, in the order it was put in.
//!
//! The hub pushes and never waits; who cannot keep up is cut off. The writer ([`super::writer`]) takes from the front.
//! Events of a subscription that has ended are dropped on the way out.

mod operations;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use async_graphql::ServerError;
use axum::extract::ws::Utf8Bytes;
use domain::{Caller, measure};
use futures_util::future::{BoxFuture, pending};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::{
    close::{Close, SLOW_READER},
    message,
    payload::{Made, MadeAlone, Payload},
    sight::{About, Sight, Watched},
};
use operations::{Active, Operations};

/// What a writer takes at once, under one lock: it is out of the queue's bounds while it is written, and no longer held back when its
/// reader turns out to have been removed. The bytes are as many as the first message that goes beyond them makes.
const TAKEN_AT_ONCE: usize = 16;
const BYTES_TAKEN_AT_ONCE: usize = 32 * 1024;

/// The socket is gone, or was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the socket is closed")]
pub struct Closed;

pub(super) struct Queue {
    state: Mutex<State>,
    pub(super) messages_max: usize,
    pub(super) bytes_max: usize,
    /// Something was put in, or the state changed.
    pub(super) changed: Notify,
    /// There is room again, or never will be.
    room: Notify,
    /// Whether it waits to be told that something was put in.
    pub(super) in_line: AtomicBool,
}

/// Room that a queue begins with: an event, and one that comes while it is written.
const SLOTS_MIN: usize = 2;

#[derive(Default)]
struct State {
    slots: VecDeque<Waiting>,
    /// Of all that waits and is there.
    bytes: usize,
    /// So many from the front have been weighed for good.
    weighed: usize,
    operations: Operations,
    /// What to close with once the queue is empty, or at once when the queue was cut.
    closing: Option<Close>,
    /// Closed at once, whatever waits.
    is_cut: bool,
}

/// A place in the queue, and its part of the bytes.
struct Waiting {
    slot: Slot,
    bytes: usize,
}

pub(super) enum Slot {
    /// A whole message.
    Control(Utf8Bytes),
    Next {
        id: Arc<str>,
        payload: Payload,
        /// Of an event that only members may see.
        about: Option<About>,
    },
    Error {
        id: Arc<str>,
        errors: Utf8Bytes,
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
            Self::Next { payload: Payload::Pending(payload), .. } => match payload.get() {
                Some(Made::Whole(payload)) => payload.len(),
                _ => 0,
            },
            Self::Error { errors, .. } => errors.len(),
            Self::Complete { .. } => 0,
        }
    }

    fn is_being_made(&self) -> bool {
        matches!(self, Self::Next { payload: Payload::Pending(payload), .. } if payload.get().is_none())
    }
}

/// What the writer finds behind the messages that it takes.
pub(super) enum Front {
    /// As much was taken as goes at once, and there may be more.
    More,
    /// It is still being made.
    Pending,
    /// It failed for all who share it; what this operation gets instead, for [`Queue::settle`].
    Failed(MadeAlone),
    /// Whether it may be shown cannot be told until this resolves.
    Unsure(BoxFuture<'static, ()>),
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
            in_line: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an operation whose id is free.
    pub(super) fn open(&self, id: &Arc<str>, permit: Option<OwnedSemaphorePermit>, caller: Option<Caller>) {
        self.state().operations.push(Active::new(id, permit, caller));
    }

    pub(super) fn is_open(&self, id: &str) -> bool {
        self.state().operations.is_open(id)
    }

    /// Keeps what ends a subscription, unless the subscription has ended already.
    pub(super) fn attach(&self, id: &Arc<str>, subscription: Box<dyn Watched>) {
        let mut state = self.state();
        let ended = match state.operations.get_mut(id) {
            Some(active) => active.subscription.replace(subscription),
            None => Some(subscription),
        };
        let waits = !state.slots.is_empty();
        drop(state);
        drop(ended);
        // Events that came sooner wait for it.
        if waits {
            self.changed.notify_one();
        }
    }

    /// Forgets an operation. What it returns must be dropped without a lock held: the hub has locks of its own.
    #[must_use]
    pub(super) fn end(&self, id: &str) -> Option<Active> {
        self.state().operations.remove(id)
    }

    /// Forgets all operations.
    #[must_use]
    pub(super) fn end_all(&self) -> Vec<Active> {
        self.state().operations.take_all()
    }

    /// Ends the subscriptions and leaves queries and mutations to be answered.
    #[must_use]
    pub(super) fn end_subscriptions(&self) -> Vec<Active> {
        self.state().operations.take_subscriptions()
    }

    pub(super) fn control(&self, message: Utf8Bytes) {
        let _ = self.push(Slot::Control(message));
    }

    pub(super) fn push(&self, slot: Slot) -> Result<(), Closed> {
        self.place(slot)?;
        self.changed.notify_one();
        Ok(())
    }

    /// Takes a place without waking the writer, which whoever makes the payload does when it is there.
    pub(super) fn place(&self, slot: Slot) -> Result<(), Closed> {
        let mut state = self.state();
        if state.closing.is_some() {
            return Err(Closed);
        }
        if !state.has_room(&slot, self.messages_max, self.bytes_max) {
            let dropped = state.cut(SLOW_READER);
            measure::count(measure::SLOW_READERS, &[], 1);
            drop(state);
            drop(dropped);
            self.cut_off();
            return Err(Closed);
        }
        state.put(slot);
        Ok(())
    }

    /// Waits for room for the first, and takes their places together, without waking the writer unless room has to be made.
    pub(super) async fn place_paced<const N: usize>(
        &self,
        slots: [Slot; N],
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
                if slots.first().is_none_or(|first| state.has_room(first, messages_max, bytes_max)) {
                    for slot in slots {
                        state.put(slot);
                    }
                    return Ok(());
                }
            }
            self.changed.notify_one();
            room.await;
        }
    }

    /// Puts what an operation gets instead into the place at the front.
    pub(super) fn settle(&self, made: Result<Utf8Bytes, Vec<ServerError>>) {
        let mut state = self.state();
        let State { slots, bytes, .. } = &mut *state;
        // An operation that has ended meanwhile is found out by whoever takes the slot.
        let Some(Waiting { slot, bytes: counted }) = slots.front_mut() else { return };
        let Slot::Next { id, about, .. } = slot else { return };
        let (id, about) = (Arc::clone(id), *about);
        *slot = match made {
            Ok(payload) => Slot::Next { id, payload: Payload::Ready(payload), about },
            Err(errors) => Slot::Error { id, errors: message::serialise(&errors) },
        };
        *bytes -= std::mem::replace(counted, slot.bytes());
        *bytes += *counted;
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
        self.cut_off();
    }

    /// Whoever writes hears of it, whether it waits for something to write or for the network, and so does who waits for room.
    fn cut_off(&self) {
        self.room.notify_waiters();
        self.changed.notify_one();
    }

    /// Returns once it is closed, whatever waits.
    pub(super) async fn cut(&self) {
        loop {
            let cut = self.room.notified();
            if self.state().is_cut {
                return;
            }
            cut.await;
        }
    }

    /// Gives back the room that bursts have taken, when nothing waits. Now and then: whenever the queue is empty would be at each event.
    pub(super) fn give_back(&self) {
        let mut state = self.state();
        if state.slots.is_empty() {
            state.slots = VecDeque::new();
        }
    }

    pub(super) fn closing(&self) -> Option<Close> {
        self.state().closing
    }

    /// Takes the messages that are there, as many as go at once, and tells what comes after them.
    pub(super) fn take(&self, messages: &mut Vec<Utf8Bytes>) -> Front {
        let mut ended = Vec::new();
        let mut state = self.state();
        let before = state.slots.len();
        let front = state.take_ready(messages, &mut ended);
        let taken = state.slots.len() < before;
        drop(state);
        drop(ended);
        if taken {
            self.room.notify_waiters();
        }
        front
    }
}

impl State {
    /// Counts what has been made since. Places are filled about in their order, so that each is looked at about once.
    fn weigh(&mut self) {
        while let Some(waiting) = self.slots.get_mut(self.weighed)
            && !waiting.slot.is_being_made()
        {
            self.bytes -= std::mem::replace(&mut waiting.bytes, waiting.slot.bytes());
            self.bytes += waiting.bytes;
            self.weighed += 1;
        }
    }

    /// A single message beyond the bound in bytes may go alone.
    fn has_room(&mut self, slot: &Slot, messages_max: usize, bytes_max: usize) -> bool {
        self.weigh();
        self.slots.is_empty()
            || (self.slots.len() < messages_max && self.bytes.saturating_add(slot.bytes()) <= bytes_max)
    }

    fn put(&mut self, slot: Slot) {
        let bytes = slot.bytes();
        self.bytes += bytes;
        if self.slots.capacity() == 0 {
            self.slots.reserve_exact(SLOTS_MIN);
        }
        self.slots.push_back(Waiting { slot, bytes });
    }

    #[must_use]
    fn cut(&mut self, close: Close) -> VecDeque<Waiting> {
        self.closing.get_or_insert(close);
        (self.bytes, self.weighed, self.is_cut) = (0, 0, true);
        std::mem::take(&mut self.slots)
    }

    fn take_ready(&mut self, messages: &mut Vec<Utf8Bytes>, ended: &mut Vec<Active>) -> Front {
        let mut bytes = 0;
        while messages.len() < TAKEN_AT_ONCE && bytes < BYTES_TAKEN_AT_ONCE {
            match self.next(ended) {
                Ok(message) => {
                    bytes += message.len();
                    messages.push(message);
                }
                Err(front) => return front,
            }
        }
        Front::More
    }

    /// The next message, or why there is none.
    fn next(&mut self, ended: &mut Vec<Active>) -> Result<Utf8Bytes, Front> {
        loop {
            let Some(Waiting { slot, .. }) = self.slots.front() else {
                return Err(self.closing.map_or(Front::Empty, Front::Closing));
            };
            match self.sight(slot) {
                Sight::Shown => {}
                Sight::Hidden => {
                    self.take();
                    continue;
                }
                Sight::Unknown(known) => {
                    return Err(self.closing.map_or(Front::Unsure(known), Front::Closing));
                }
            }
            if let Slot::Next { id, payload: Payload::Pending(payload), .. } = slot
                && let Some(active) = self.operations.get(id)
            {
                match (payload.get(), active.caller) {
                    (None, _) => return Err(Front::Pending),
                    (Some(Made::Whole(_)), _) => {}
                    (Some(Made::Failed(alone)), Some(caller)) => {
                        return Err(Front::Failed(alone(caller)));
                    }
                    (Some(Made::Failed(_) | Made::Never), _) => return Err(Front::Lost),
                }
            }
            if let Some(slot) = self.take()
                && let Some(message) = self.message(slot, ended)
            {
                return Ok(message);
            }
        }
    }

    fn take(&mut self) -> Option<Slot> {
        let Waiting { slot, bytes } = self.slots.pop_front()?;
        self.bytes -= bytes;
        self.weighed = self.weighed.saturating_sub(1);
        Some(slot)
    }

    fn sight(&self, slot: &Slot) -> Sight {
        let Slot::Next { id, about: Some(about), .. } = slot else { return Sight::Shown };
        match self.operations.get(id) {
            // Whoever takes it finds out that its operation has ended.
            None => Sight::Shown,
            Some(Active { subscription: Some(subscription), .. }) => subscription.sight(*about),
            // Until it is attached.
            Some(_) => Sight::Unknown(Box::pin(pending())),
        }
    }

    /// `None` when its operation has ended.
    fn message(&mut self, slot: Slot, ended: &mut Vec<Active>) -> Option<Utf8Bytes> {
        match slot {
            Slot::Control(text) => Some(text),
            Slot::Next { id, payload, .. } => {
                let payload = match payload {
                    Payload::Ready(payload) => payload,
                    Payload::Pending(pending) => match pending.get()? {
                        Made::Whole(payload) => payload.clone(),
                        Made::Failed(_) | Made::Never => return None,
                    },
                };
                Some(message::next(&self.operations.get(&id)?.quoted_id, &payload))
            }
            Slot::Error { id, errors } => {
                let message = message::error(&self.operations.get(&id)?.quoted_id, &errors);
                ended.extend(self.operations.remove(&id));
                Some(message)
            }
            Slot::Complete { id } => {
                let message = message::complete(&self.operations.get(&id)?.quoted_id);
                ended.extend(self.operations.remove(&id));
                Some(message)
            }
        }
    }
}

#[cfg(test)]
mod tests;
