//! What is told in passing: who is there, and who is typing. Nothing here is kept, and nothing has a cursor.
//!
//! `listener` is one subscription to `activity` and what it may hear, `teller` the task that tells it at its reader's pace. `board` is what this node
//! watches for all of them, each user and conversation once; `watch` is the one task that keeps it true: it hears the whispers of other
//! nodes, looks at changed users together, and no more often than once a second at each.
//!
//! What a viewer may hear is decided by SQL when a subscription opens, and again when the hub sees a membership end that concerns it.
//! From that moment on nothing of it is written until the answer is there.

mod arguments;
mod board;
mod listener;
mod teller;
mod watch;

use std::{sync::Arc, time::Duration};

use domain::{Chat, Event, trace};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{executor::Subscription, hub::Hub, schema::ChatSchema, websocket::Watched};
use board::Board;
use listener::Listener;

/// The root field that is served here.
pub const ROOT_FIELD: &str = "activity";

/// Subscriptions that ask SQL anew at once what they may hear; the rest wait their turn.
const CHECKS_AT_ONCE: usize = 8;

/// Bounds of what is told in passing, each a setting.
#[derive(Clone, Debug)]
pub struct ActivityLimits {
    /// Users and conversations that all subscriptions of this node together may watch.
    pub watches_max: usize,
    /// Those of one viewer.
    pub watches_per_user_max: usize,
    /// Users whom one subscription may watch, members of its conversations included.
    pub users_max: u32,
    /// How long the execution of one event may take.
    pub execution_timeout: Duration,
}

impl Default for ActivityLimits {
    fn default() -> Self {
        Self {
            watches_max: 200_000,
            watches_per_user_max: 5000,
            users_max: 1000,
            execution_timeout: Duration::from_secs(5),
        }
    }
}

/// What is told in passing on this node. Cheap to clone.
#[derive(Clone)]
pub struct Activity {
    shared: Arc<Shared>,
}

struct Shared {
    chat: Chat,
    schema: ChatSchema,
    limits: ActivityLimits,
    tasks: TaskTracker,
    stop: CancellationToken,
    board: Board,
    checks: Semaphore,
}

impl Activity {
    /// Begins to listen.
    pub fn start(
        chat: Chat,
        schema: ChatSchema,
        limits: ActivityLimits,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let board = Board::new(chat.clone(), &limits);
        let checks = Semaphore::new(CHECKS_AT_ONCE);
        let shared = Arc::new(Shared { chat, schema, limits, tasks, stop, board, checks });
        watch::start(&shared);
        Self { shared }
    }

    /// What the hub sees happen, as soon as it sees it; `None` when the log is another one.
    pub fn sees(&self, event: Option<&Event>) {
        match event {
            Some(event) => self.shared.board.sees(event),
            None => self.shared.board.check_all(),
        }
    }

    /// Opens a subscription; what it says goes to the socket's queue. It ends when what this returns is dropped.
    pub fn subscribe(&self, subscription: Subscription, hub: &Hub) -> Box<dyn Watched> {
        let (listener, ending) = Listener::new(&subscription, hub.clone());
        let (shared, trace) = (self.shared.clone(), subscription.trace);
        let stop = self.shared.stop.clone();
        let listening = async move {
            stop.run_until_cancelled(teller::run(&shared, listener, subscription)).await;
        };
        self.shared.tasks.spawn(trace::scope(trace, listening));
        Box::new(ending)
    }
}
