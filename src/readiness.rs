//! Whether this process can do its work, for those who send it some.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{Chat, adapter::sql::SqlStore};
use tokio::{sync::watch, time::timeout};

/// How long back ends are asked: below what probes wait, so that they hear what is missing.
const ASK_TIMEOUT: Duration = Duration::from_millis(800);

/// What is known of the back ends. At first: that the process has not begun.
#[derive(Default)]
pub struct Readiness {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the start waits for.
    waiting_for: Option<&'static str>,
    /// The domain, and its database when it runs in this process.
    chat: Option<(Chat, Option<SqlStore>)>,
    /// Back ends without which the work goes on, more slowly.
    hints: Vec<(&'static str, watch::Receiver<bool>)>,
}

/// The answer to a probe.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Ready(String),
    NotReady(String),
}

impl Readiness {
    pub fn waiting_for(&self, backend: &'static str) {
        self.lock().waiting_for = Some(backend);
    }

    pub fn running(&self, chat: Chat, store: Option<SqlStore>) {
        let mut state = self.lock();
        state.waiting_for = None;
        state.chat = Some((chat, store));
    }

    /// From now on nothing is ready, and nothing of the domain is held.
    pub fn stopping(&self) {
        let mut state = self.lock();
        state.chat = None;
        state.waiting_for = Some("nothing, it is stopping");
    }

    /// Notes a back end whose absence only slows things down.
    pub fn without(&self, backend: &'static str, connected: watch::Receiver<bool>) {
        self.lock().hints.push((backend, connected));
    }

    pub async fn verdict(&self) -> Verdict {
        let (chat, away) = {
            let state = self.lock();
            if let Some(backend) = state.waiting_for {
                return Verdict::NotReady(format!("missing: {backend}"));
            }
            let away = state.hints.iter().filter(|(_, connected)| !*connected.borrow());
            (state.chat.clone(), away.map(|(backend, _)| *backend).collect::<Vec<_>>())
        };
        let Some((chat, store)) = chat else { return Verdict::NotReady("starting".to_owned()) };
        if !matches!(timeout(ASK_TIMEOUT, chat.heads()).await, Ok(Ok(_))) {
            let missing = if store.is_some() { "database" } else { "domain or its database" };
            return Verdict::NotReady(format!("missing: {missing}"));
        }
        // One that cannot say so in time may be busy.
        if let Some(store) = store
            && matches!(timeout(ASK_TIMEOUT, store.takes_writes()).await, Ok(Ok(false)))
        {
            return Verdict::NotReady("missing: a database that takes writes".to_owned());
        }
        if away.is_empty() {
            return Verdict::Ready("ready".to_owned());
        }
        Verdict::Ready(format!("ready, without {}", away.join(", ")))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
