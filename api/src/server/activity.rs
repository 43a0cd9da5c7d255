//! Whether a connection is used: one that asks nothing for too long is given up, whatever it sends meanwhile.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// What is being answered on a connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

struct State {
    answering: usize,
    /// When the last answer was made; when the connection came, before the first.
    since: Instant,
    asked: bool,
}

/// A request, from its whole header to its answer.
pub(super) struct Answering(Activity);

impl Activity {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { answering: 0, since: Instant::now(), asked: false })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self) -> Answering {
        let mut state = self.state();
        state.answering += 1;
        state.asked = true;
        Answering(self.clone())
    }

    /// Returns when nothing was asked within `first` of the beginning, or nothing for `idle` afterwards. That an answer is not taken
    /// counts as idle, too.
    pub async fn ends(&self, first: Duration, idle: Duration) {
        loop {
            let wake = {
                let state = self.state();
                let now = Instant::now();
                let end = state.since + if state.asked { idle } else { first };
                match (state.answering, end <= now) {
                    (0, true) => return,
                    (0, false) => end,
                    // Its end counts anew.
                    _ => now + idle,
                }
            };
            sleep_until(wake).await;
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        state.since = Instant::now();
    }
}
