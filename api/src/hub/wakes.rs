//! Wakes the writers of sockets, a few at a time: a message to thousands must not keep everything else from running.
//!
//! Those who cannot be woken at once stand in one line for all events, each socket once, and the line is served in rounds: everybody who
//! stands there when a round begins. Where events come faster than that, each round writes all that came since the last one, with one
//! flush a socket.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::websocket::Outbound;

/// Sockets that are woken at once. A node of one core writes so many in about half a millisecond, and what else it has to do, such as
/// the answer to who sent the message, waits no longer than that (`bench b4`).
const WOKEN_AT_ONCE: usize = 32;
/// From the beginning of a round until the next may begin, for each socket of it. A flush costs about 10 µs beside the events that it
/// carries (`bench b1`), so that the flushes of 500 take about a fifth of a core, however fast events come.
const PACE: Duration = Duration::from_micros(50);
/// But no longer than this, whatever the flushes of more sockets take. Only events that come sooner than so after others wait for it: in
/// a group of 500, more than 40 a second.
const PAUSE_MAX: Duration = Duration::from_millis(25);

#[derive(Default)]
pub(super) struct Wakes {
    line: Mutex<Line>,
    joined: Notify,
}

#[derive(Default)]
struct Line {
    /// As many at most as there are sockets.
    sockets: Vec<Outbound>,
    /// Whether a round goes on, or has just been.
    is_served: bool,
}

impl Wakes {
    /// Wakes a few at once, and all of a few: a small group does not stand behind a large one.
    pub fn wake(&self, mut sockets: Vec<Outbound>) {
        if sockets.len() > WOKEN_AT_ONCE {
            let mut line = self.line();
            let at_once = if line.is_served { 0 } else { WOKEN_AT_ONCE };
            line.sockets.extend(sockets.drain(at_once..).filter(Outbound::joins_line));
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
            while let Some(round) = self.next_round() {
                let next = Instant::now() + pause_after(round.len());
                for few in round.chunks(WOKEN_AT_ONCE) {
                    for socket in few {
                        // In this order: what comes from now on has it woken again.
                        socket.leaves_line();
                        socket.wake();
                    }
                    yield_now().await;
                }
                sleep_until(next).await;
            }
        }
    }

    fn next_round(&self) -> Option<Vec<Outbound>> {
        let mut line = self.line();
        line.is_served = !line.sockets.is_empty();
        line.is_served.then(|| std::mem::take(&mut line.sockets))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pause_after(sockets: usize) -> Duration {
    PACE.saturating_mul(u32::try_from(sockets).unwrap_or(u32::MAX)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::join_all};

    use super::*;

    #[tokio::test]
    async fn events_that_come_soon_after_another_wake_a_large_group_together_and_once() {
        let sockets: Vec<Outbound> = (0..1000).map(|_| Outbound::unwritten()).collect();
        let wakes = Wakes::default();
        let all_woken = || join_all(sockets.iter().map(Outbound::woken));
        let events = async {
            let begun = Instant::now();
            wakes.wake(sockets.clone());
            all_woken().await;
            for _ in 0..3 {
                wakes.wake(sockets.clone());
            }
            all_woken().await;
            assert!(
                begun.elapsed() >= PAUSE_MAX,
                "the second round came {:?} after the first",
                begun.elapsed()
            );
            while wakes.line().is_served {
                yield_now().await;
            }
        };
        tokio::select! {
            () = wakes.run() => {}
            ended = tokio::time::timeout(Duration::from_secs(5), events) => ended.expect("the line is empty"),
        }
        assert!(sockets.iter().all(|socket| socket.woken().now_or_never().is_none()), "once for three");
    }

    #[tokio::test]
    async fn a_small_group_is_woken_at_once_whatever_the_line_does() {
        let (large, small): (Vec<_>, Vec<_>) = (
            (0..1000).map(|_| Outbound::unwritten()).collect(),
            (0..8).map(|_| Outbound::unwritten()).collect(),
        );
        let wakes = Wakes::default();
        wakes.wake(large.clone());
        wakes.wake(small.clone());
        assert!(small.iter().all(|socket: &Outbound| socket.woken().now_or_never().is_some()));
        let woken = large.iter().filter(|socket: &&Outbound| socket.woken().now_or_never().is_some()).count();
        assert_eq!(woken, WOKEN_AT_ONCE, "nobody serves the line yet");
    }
}
