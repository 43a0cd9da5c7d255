//! What one socket has open.

use std::sync::Arc;

use domain::Caller;
use tokio::sync::OwnedSemaphorePermit;

use super::super::{message, sight::Watched};

/// An operation that the client has open.
pub(in super::super) struct Active {
    id: Arc<str>,
    /// The id as JSON.
    pub quoted_id: Box<str>,
    /// Of a subscription, for as long as it is open.
    _permit: Option<OwnedSemaphorePermit>,
    /// For whom a subscription was opened.
    pub caller: Option<Caller>,
    pub subscription: Option<Box<dyn Watched>>,
}

impl Active {
    pub fn new(id: &Arc<str>, permit: Option<OwnedSemaphorePermit>, caller: Option<Caller>) -> Self {
        let quoted_id = message::quote(id).into();
        Self { id: Arc::clone(id), quoted_id, _permit: permit, caller, subscription: None }
    }
}

/// Most often one or two: looking through them costs less than a hash.
#[derive(Default)]
pub(super) struct Operations(Vec<Active>);

impl Operations {
    /// The same id may have been opened anew; only the same `Arc` is the same operation.
    pub fn get(&self, id: &Arc<str>) -> Option<&Active> {
        self.0.iter().find(|active| Arc::ptr_eq(&active.id, id))
    }

    pub fn get_mut(&mut self, id: &Arc<str>) -> Option<&mut Active> {
        self.0.iter_mut().find(|active| Arc::ptr_eq(&active.id, id))
    }

    pub fn push(&mut self, active: Active) {
        // Room for four, as a vector likes to have, is room for three too many.
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        self.0.push(active);
    }

    pub fn is_open(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    pub fn remove(&mut self, id: &str) -> Option<Active> {
        self.find(id).map(|place| self.0.swap_remove(place))
    }

    pub fn take_all(&mut self) -> Vec<Active> {
        std::mem::take(&mut self.0)
    }

    pub fn take_subscriptions(&mut self) -> Vec<Active> {
        self.0.extract_if(.., |active| active.subscription.is_some()).collect()
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.0.iter().position(|active| &*active.id == id)
    }
}
