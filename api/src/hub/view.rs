//! What the last look at an event needs: how old the view of SQL is, and who was removed since the event (P7).
//!
//! The actor looks at every batch as soon as it is there, before it delivers any: so a view renewed to a moment knows every removal
//! committed until then, even while what came before the removal still waits, here or in a socket's queue.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{ConversationId, UserId};
use tokio::{sync::Notify, time::Instant};

use super::Open;
use crate::{
    schema::types::event::{EventBody, EventItem},
    websocket::About,
};

/// What an event tells of; `None` for the stream's own.
pub(super) fn about(item: &EventItem) -> Option<About> {
    let EventBody::Durable { event, .. } = &item.body else { return None };
    Some(About { conversation: event.fact.conversation()?, rev: event.fact.rev() })
}

/// Until when what is known of memberships may be acted on.
pub(super) struct View {
    began: Instant,
    /// Microseconds after `began`.
    fresh_until: AtomicU64,
    renewed: Notify,
    age_max: Duration,
}

impl View {
    pub fn new(age_max: Duration) -> Self {
        Self { began: Instant::now(), fresh_until: AtomicU64::new(0), renewed: Notify::new(), age_max }
    }

    /// Everything that was committed at `seen` has been looked at.
    pub fn renew(&self, seen: Instant) {
        let until = micros((seen + self.age_max).saturating_duration_since(self.began));
        if self.fresh_until.swap(until, Ordering::AcqRel) != until {
            self.renewed.notify_waiters();
        }
    }

    pub fn is_fresh(&self) -> bool {
        micros(self.began.elapsed()) < self.fresh_until.load(Ordering::Acquire)
    }

    /// Resolves when it is fresh.
    pub async fn fresh(&self) {
        loop {
            let renewed = self.renewed.notified();
            if self.is_fresh() {
                return;
            }
            renewed.await;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The removals of one subscription's viewer that its socket has not been told of yet.
#[derive(Default)]
pub(super) struct Removals {
    any: AtomicBool,
    of: Mutex<HashMap<ConversationId, i32>>,
}

impl Removals {
    pub fn note(&self, removal: About) {
        self.lock().insert(removal.conversation, removal.rev);
        self.any.store(true, Ordering::Release);
    }

    /// Whether the viewer was removed after it. Once the removal itself is told, nothing from before it can be left.
    pub fn hide(&self, about: About) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let mut removals = self.lock();
        let Some(removed) = removals.get(&about.conversation).copied() else { return false };
        if about.rev >= removed {
            removals.remove(&about.conversation);
            self.any.store(!removals.is_empty(), Ordering::Release);
        }
        about.rev < removed
    }

    pub fn forget(&self) {
        let mut removals = self.lock();
        removals.clear();
        self.any.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConversationId, i32>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subscriptions that replay, which the actor does not know yet: removals concern them all the same.
#[derive(Default)]
pub(super) struct Openings {
    of: Mutex<HashMap<UserId, Vec<Arc<Open>>>>,
}

impl Openings {
    /// To be called before the snapshot is read: a removal is in the snapshot, or noted here.
    pub fn enter(&self, user: UserId, open: &Arc<Open>) -> Entered<'_> {
        self.lock().entry(user).or_default().push(open.clone());
        Entered { openings: self, user, open: open.clone() }
    }

    pub fn note(&self, user: UserId, removal: About) {
        for open in self.lock().get(&user).into_iter().flatten() {
            open.removals.note(removal);
        }
    }

    pub fn forget_removals(&self) {
        for open in self.lock().values().flatten() {
            open.removals.forget();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Vec<Arc<Open>>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Known as opening until dropped.
pub(super) struct Entered<'a> {
    openings: &'a Openings,
    user: UserId,
    open: Arc<Open>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut openings = self.openings.lock();
        if let Some(opening) = openings.get_mut(&self.user) {
            opening.retain(|other| !Arc::ptr_eq(other, &self.open));
            if opening.is_empty() {
                openings.remove(&self.user);
            }
        }
    }
}
