//! The one task that keeps the board true.

use std::{collections::HashMap, sync::Arc, time::Duration};

use domain::{Heard, NodeId, Switches, Topic, Whisper};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::Shared;

/// Users who change at about the same time, or may be told of again, are looked at together.
const GATHER: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_secs(1);
/// A node whose heartbeat is missing for so long is dead. One beat is every 5 s: a Redis that lost everything has all of them back by then.
const MISSING_MAX: Duration = Duration::from_secs(6);
/// Ticks until every watched user was looked at, whatever was whispered.
const USERS_SWEPT_IN: u64 = 60;
/// Ticks until every subscription has asked again what it may hear, whatever was whispered.
const LISTENERS_SWEPT_IN: u64 = 300;

pub(super) fn start(shared: &Arc<Shared>) {
    let lifeline = shared.chat.lifeline().clone();
    let watching = shared.clone();
    let watch = async move { Watch::new(watching).run().await };
    shared.tasks.spawn(lifeline.hold_until(
        &shared.stop,
        "watch of presence",
        stopped(shared.stop.clone(), watch),
    ));
    let keeping = shared.clone();
    let upkeep = async move {
        let mut ticks = ticks();
        loop {
            ticks.tick().await;
            keeping.chat.upkeep_of_presence().await;
        }
    };
    shared.tasks.spawn(lifeline.hold_until(
        &shared.stop,
        "upkeep of presence",
        stopped(shared.stop.clone(), upkeep),
    ));
}

async fn stopped(stop: CancellationToken, work: impl Future) {
    drop(stop.run_until_cancelled(work).await);
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

struct Watch {
    shared: Arc<Shared>,
    tick: u64,
    /// Since when a node's heartbeat was missing.
    missing: HashMap<NodeId, Instant>,
}

impl Watch {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, tick: 0, missing: HashMap::new() }
    }

    async fn run(mut self) {
        let chat = self.shared.chat.clone();
        let (mut heard, mut switches) = (chat.whispers(), chat.switches());
        let mut now = *switches.borrow_and_update();
        let (mut ticks, mut next) = (ticks(), None);
        // Nobody is left to switch anything in a process without live settings.
        let mut is_switched = true;
        loop {
            let wake = next.unwrap_or_else(|| Instant::now() + TICK);
            tokio::select! {
                whisper = heard.recv() => match whisper {
                    Ok(whisper) => {
                        self.hear(whisper, now);
                        next = Some(Instant::now() + GATHER).min(next.or(Some(wake)));
                    }
                    Err(RecvError::Lagged(_)) => self.shared.board.look_at_those(|_, _| true),
                    Err(RecvError::Closed) => return,
                },
                changed = switches.changed(), if is_switched => {
                    is_switched = changed.is_ok();
                    let before = std::mem::replace(&mut now, *switches.borrow_and_update());
                    self.switch(before, now);
                    next = Some(Instant::now());
                }
                () = sleep_until(wake) => next = self.look(now).await,
                _ = ticks.tick() => {
                    self.tick(now).await;
                    next = Some(Instant::now());
                }
            }
        }
    }

    fn hear(&self, heard: Heard, switched: Switches) {
        let board = &self.shared.board;
        match heard {
            Heard::Whisper(Whisper::PresenceChanged(user)) => board.look_at(user),
            Heard::Whisper(Whisper::VisibilityChanged(user)) => board.check_those_who_watch(user),
            Heard::Whisper(Whisper::Typing { conversation, user, typing }) => {
                board.types(conversation, user, typing && switched.typing);
            }
            Heard::Anew(topics) => {
                for topic in topics {
                    if let Topic::User(user) = topic {
                        board.look_at(user);
                    }
                }
            }
        }
    }

    fn switch(&self, before: Switches, now: Switches) {
        if before.presence != now.presence {
            self.shared.board.forget_presences();
        }
        if !now.typing {
            self.shared.board.forget_typing();
        }
    }

    /// Looks at all that is due; when to look again.
    async fn look(&self, switched: Switches) -> Option<Instant> {
        if !switched.presence {
            return None;
        }
        let now = Instant::now();
        let (due, next) = self.shared.board.due(now);
        if !due.is_empty() {
            let standings = self.shared.chat.standings(&due).await;
            self.shared.board.found(&due, &standings, self.shared.chat.clock().now());
        }
        next.map(|next| next.max(now + GATHER))
    }

    async fn tick(&mut self, switched: Switches) {
        self.tick += 1;
        let board = &self.shared.board;
        board.expire_typing(Instant::now());
        if switched.presence {
            let turn = self.tick % USERS_SWEPT_IN;
            board.look_at_those(|user, _| user.0.unsigned_abs() % USERS_SWEPT_IN == turn);
            self.look_for_the_dead().await;
        }
        let turn = self.tick % LISTENERS_SWEPT_IN;
        self.shared.board.check_those(|number| number % LISTENERS_SWEPT_IN == turn);
    }

    /// What a dead node said of its users holds no more, and nobody tells.
    async fn look_for_the_dead(&mut self) {
        let nodes: Vec<NodeId> = self.shared.board.nodes().into_iter().collect();
        let Some(fallen) = self.shared.chat.fallen(&nodes).await else { return };
        let now = Instant::now();
        self.missing.retain(|node, _| fallen.contains(node));
        for node in fallen {
            let since = *self.missing.entry(node).or_insert(now);
            if now - since >= MISSING_MAX {
                self.shared.board.look_at_those(|_, nodes| nodes.contains(&node));
            }
        }
    }
}
