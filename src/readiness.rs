//! Whether this process can do its work, for those who send it some.

use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::Chat;
use tokio::sync::watch;

/// What is known of the back ends. At first: that the process has not begun.
#[derive(Default)]
pub struct Readiness {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the start waits for.
    waiting_for: Option<&'static str>,
    /// The domain, and whether it runs in this process.
    chat: Option<(Chat, bool)>,
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

    pub fn running(&self, chat: Chat, in_process: bool) {
        let mut state = self.lock();
        state.waiting_for = None;
        state.chat = Some((chat, in_process));
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
        match chat {
            None => Verdict::NotReady("starting".to_owned()),
            Some((chat, in_process)) => match chat.heads().await {
                Ok(_) if away.is_empty() => Verdict::Ready("ready".to_owned()),
                Ok(_) => Verdict::Ready(format!("ready, without {}", away.join(", "))),
                Err(_) if in_process => Verdict::NotReady("missing: database".to_owned()),
                Err(_) => Verdict::NotReady("missing: domain or its database".to_owned()),
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
