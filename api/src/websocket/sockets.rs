//! Every open socket of this node: bounded in all, by address, by user and in how many come in a second; found by session; drained at the end.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{Caller, SessionId, UserId, measure, port::Random};
use tokio::time::Instant;

use super::{
    close::{Close, RESTARTING, REVOKED, TOO_MANY_AT_ONCE, TOO_MANY_SOCKETS},
    queue::Queue,
    rate::Rate,
};
use crate::{connection::Told, settings::SocketSettings};

/// Pings of many sockets go out together, so often: to wake up for each of them costs more than the ping. Seldom enough for that, and often
/// enough for few at a time, which nothing else waits for.
const PINGS_EVERY: Duration = Duration::from_millis(100);

/// The registry of sockets. Cheap to clone.
#[derive(Clone)]
pub struct Sockets {
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    total_max: usize,
    per_user_max: usize,
    per_address_max: usize,
    open: Mutex<Open>,
}

struct Open {
    last: u64,
    rate: Rate,
    draining: bool,
    sockets: HashMap<u64, Socket>,
    by_address: HashMap<IpAddr, usize>,
    by_user: HashMap<UserId, usize>,
    by_session: BTreeSet<(SessionId, u64)>,
}

struct Socket {
    address: Option<IpAddr>,
    caller: Option<Caller>,
    queue: Arc<Queue>,
    told: Arc<Told>,
}

/// A socket's place in the registry; given back when dropped.
pub(super) struct Place {
    sockets: Sockets,
    id: u64,
    _counted: measure::Open,
    pub(super) told: Arc<Told>,
}

impl Sockets {
    pub fn new(settings: &SocketSettings) -> Self {
        let shared = Shared {
            began: Instant::now(),
            total_max: settings.total_max,
            per_user_max: settings.per_user_max,
            per_address_max: settings.per_address_max,
            open: Mutex::new(Open {
                last: 0,
                rate: Rate::new(settings.opened_per_second_max, Instant::now()),
                draining: false,
                sockets: HashMap::new(),
                by_address: HashMap::new(),
                by_user: HashMap::new(),
                by_session: BTreeSet::new(),
            }),
        };
        Self { shared: Arc::new(shared) }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self) -> usize {
        self.open().sockets.len()
    }

    /// Closes a session's sockets, because it was revoked.
    pub fn close_session(&self, session: SessionId) {
        let queues: Vec<Arc<Queue>> = {
            let open = self.open();
            let ids = open.by_session.range((session, u64::MIN)..=(session, u64::MAX));
            ids.filter_map(|(_, id)| open.sockets.get(id)).map(|socket| Arc::clone(&socket.queue)).collect()
        };
        for queue in queues {
            queue.close_now(REVOKED);
        }
    }

    /// Closes every socket now with a reason clients retry after: this node can no longer tell what is true.
    pub fn close_all(&self, code: u16, reason: &'static str) {
        let queues: Vec<Arc<Queue>> =
            self.open().sockets.values().map(|socket| Arc::clone(&socket.queue)).collect();
        for queue in queues {
            queue.close_now(Close { code, reason });
        }
    }

    /// Takes no more sockets and tells those that are open to end, one by one in random order over `spread`, so that
    /// they do not all knock at another node at once. Returns when all have been told.
    pub async fn drain(&self, spread: Duration, random: &dyn Random) {
        let mut sockets: Vec<(u64, Arc<Told>)> = {
            let mut open = self.open();
            open.draining = true;
            open.sockets.values().map(|socket| (0, Arc::clone(&socket.told))).collect()
        };
        for (order, _) in &mut sockets {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            *order = u64::from_ne_bytes(bytes);
        }
        sockets.sort_unstable_by_key(|(order, _)| *order);
        let pause = spread / u32::try_from(sockets.len().max(1)).unwrap_or(u32::MAX);
        for (_, told) in sockets {
            told.drain();
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) fn admit(&self, address: Option<IpAddr>, queue: &Arc<Queue>) -> Result<Place, Close> {
        let mut open = self.open();
        if open.draining {
            return Err(RESTARTING);
        }
        let of_address = address.and_then(|address| open.by_address.get(&address)).copied().unwrap_or(0);
        if open.sockets.len() >= self.shared.total_max || of_address >= self.shared.per_address_max {
            return Err(TOO_MANY_SOCKETS);
        }
        if !open.rate.take(Instant::now()) {
            return Err(TOO_MANY_AT_ONCE);
        }
        open.last += 1;
        let id = open.last;
        let told = Arc::new(Told::default());
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        let socket = Socket { address, caller: None, queue: Arc::clone(queue), told: Arc::clone(&told) };
        open.sockets.insert(id, socket);
        Ok(Place { sockets: self.clone(), id, _counted: measure::Open::new(measure::SOCKETS), told })
    }
}

impl Place {
    /// When a socket that opens now is to be pinged, if so after `interval`.
    pub(super) fn first_ping(&self, interval: Duration) -> Instant {
        let began = self.sockets.shared.began;
        let rounds = (began.elapsed() + interval).as_millis().div_ceil(PINGS_EVERY.as_millis());
        began + PINGS_EVERY * u32::try_from(rounds).unwrap_or(u32::MAX)
    }

    /// Says whose socket this is, once.
    pub(super) fn identify(&self, caller: Caller) -> Result<(), Close> {
        let mut open = self.sockets.open();
        let open = &mut *open;
        let of_user = open.by_user.entry(caller.user).or_default();
        if *of_user >= self.sockets.shared.per_user_max {
            return Err(TOO_MANY_SOCKETS);
        }
        if let Some(socket) = open.sockets.get_mut(&self.id) {
            *of_user += 1;
            socket.caller = Some(caller);
            open.by_session.insert((caller.session, self.id));
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.sockets.open();
        let Some(socket) = open.sockets.remove(&self.id) else { return };
        if let Some(address) = socket.address {
            decrement(&mut open.by_address, &address);
        }
        if let Some(caller) = socket.caller {
            decrement(&mut open.by_user, &caller.user);
            open.by_session.remove(&(caller.session, self.id));
        }
    }
}

fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
