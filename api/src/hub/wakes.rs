//! Wakes the writers of sockets, a few at a time: a message to thousands must not keep everything else from running.
//!
//! The line is one for all events, and a socket stands in it once. Where events come faster than they can be written, each round of the
//! line writes all that came since the last one, with one flush a socket.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::yield_now};

use crate::websocket::Outbound;

/// Sockets that are woken at once. A node of one core writes so many in about half a millisecond, and what else it has to do, such as
/// the answer to who sent the message, waits no longer than that (`bench b4`).
const WOKEN_AT_ONCE: usize = 32;

#[derive(Default)]
pub(super) struct Wakes {
    /// As many at most as there are sockets.
    line: Mutex<VecDeque<Outbound>>,
    joined: Notify,
}

impl Wakes {
    /// Wakes a few at once, and all of a few: a small group does not stand behind a large one.
    pub fn wake(&self, mut sockets: Vec<Outbound>) {
        if sockets.len() > WOKEN_AT_ONCE {
            let mut line = self.line();
            let at_once = if line.is_empty() { WOKEN_AT_ONCE } else { 0 };
            line.extend(sockets.drain(at_once..).filter(Outbound::joins_line));
            drop(line);
            self.joined.notify_one();
        }
        for socket in sockets {
            socket.wake();
        }
    }

    /// Wakes those who stand in line.
    pub async fn run(&self) {
        loop {
            self.joined.notified().await;
            loop {
                let few: Vec<Outbound> = {
                    let mut line = self.line();
                    let few = line.len().min(WOKEN_AT_ONCE);
                    line.drain(..few).collect()
                };
                if few.is_empty() {
                    break;
                }
                for socket in few {
                    // In this order: what comes from now on has it woken again.
                    socket.leaves_line();
                    socket.wake();
                }
                yield_now().await;
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<Outbound>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
