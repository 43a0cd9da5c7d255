//! How many connections there are, in all and of one address.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use domain::Network;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections {
    free: Arc<Semaphore>,
    /// `None` where every connection comes from a proxy.
    per_address: Option<Arc<PerAddress>>,
}

struct PerAddress {
    max: usize,
    open: Mutex<HashMap<Network, usize>>,
}

/// The place of a connection; given back when the last of its owners drops it.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    of_address: Option<(Arc<PerAddress>, Network)>,
    says_last_words: AtomicBool,
}

impl Connections {
    pub fn new(total_max: usize, per_address_max: Option<usize>) -> Self {
        let per_address = per_address_max.map(|max| Arc::new(PerAddress { max, open: Mutex::default() }));
        Self { free: Arc::new(Semaphore::new(total_max)), per_address }
    }

    /// Waits until there is room for one more, whosever it is.
    pub async fn room(&self) -> io::Result<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.map_err(io::Error::other)
    }

    /// `None` when the address has as many as it may.
    pub fn place(&self, room: OwnedSemaphorePermit, peer: IpAddr) -> Option<Place> {
        let of_address = match &self.per_address {
            None => None,
            Some(counted) => {
                let network = Network::of(Some(peer));
                let mut open = counted.open.lock().unwrap_or_else(PoisonError::into_inner);
                let count = open.entry(network).or_default();
                if *count >= counted.max {
                    return None;
                }
                *count += 1;
                Some((Arc::clone(counted), network))
            }
        };
        Some(Place { _permit: room, of_address, says_last_words: AtomicBool::new(false) })
    }
}

impl Place {
    /// What is written from now on ends the connection, and need not wait until the peer reads.
    pub fn say_last_words(&self) {
        self.says_last_words.store(true, Ordering::Relaxed);
    }

    pub(super) fn says_last_words(&self) -> bool {
        self.says_last_words.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((counted, network)) = &self.of_address else { return };
        let mut open = counted.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(network) {
            *count -= 1;
            if *count == 0 {
                open.remove(network);
            }
        }
    }
}
