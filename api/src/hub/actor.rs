//! The one task that routes: it takes every event in one order, knows who is in which conversation at that point (`roster`), and
//! takes a place in the queue of each socket concerned.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use domain::{
    ConversationId, CursorPosition, Event, Fact, FilterHash, LoggedBatch, MemberRole, Positions, SessionId,
    UserId, measure, port::log::Heads,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::coop::consume_budget,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    IdMap, OnEvent, Open, Shared,
    audience::concerns,
    feed::{Feed, FeedItem},
    group::{Execution, GroupKey, Job, Plan},
    recent::Recent,
    roster::{Roster, Subscription},
    start,
    view::about,
};
use crate::{
    schema::types::event::{AsSeen, EventBody, EventItem},
    websocket::About,
};

pub(super) enum Command {
    GoLive(Box<GoLive>),
    Leave(Arc<Open>),
}

/// A subscription whose replay has reached `seen`.
pub(super) struct GoLive {
    pub open: Arc<Open>,
    pub plan: Arc<Plan>,
    /// Sorted; `None` for all.
    pub conversations: Option<Arc<[ConversationId]>>,
    pub epoch: i64,
    pub seen: Positions,
    pub memberships: HashMap<ConversationId, MemberRole>,
    pub reply: oneshot::Sender<WentLive>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum WentLive {
    Yes,
    /// The recent batches do not reach back to what was replayed: replay the rest first.
    ReplayMore,
    /// The log changed under the replay; start over with `ResyncRequired`.
    Resync,
}

pub(super) struct Actor {
    shared: Arc<Shared>,
    epoch: i64,
    positions: Positions,
    roster: Roster,
    /// What was looked at and waits for its turn; bounded by the feed's bytes.
    ahead: VecDeque<FeedItem>,
    recent: Recent,
    waiting: Vec<GoLive>,
    on_session_ended: Arc<dyn Fn(SessionId) + Send + Sync>,
    on_event: OnEvent,
}

impl Actor {
    pub fn new(
        shared: &Arc<Shared>,
        heads: Heads,
        on_session_ended: Arc<dyn Fn(SessionId) + Send + Sync>,
        on_event: OnEvent,
    ) -> Self {
        Self {
            shared: shared.clone(),
            epoch: heads.epoch,
            recent: Recent::new(heads.positions.clone()),
            positions: heads.positions,
            roster: Roster::default(),
            ahead: VecDeque::new(),
            waiting: Vec::new(),
            on_session_ended,
            on_event,
        }
    }

    pub async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Command>,
        feed: Feed,
        stop: CancellationToken,
    ) {
        let Feed { mut items, mut verified_at } = feed;
        loop {
            let verified = *verified_at.borrow_and_update();
            // All that was committed until then is here.
            while let Ok(item) = items.try_recv() {
                self.look_at(item);
            }
            self.shared.view.renew(verified);
            let fresh = self.shared.view.is_fresh();
            // While the view of SQL is old nothing is delivered: somebody may have been removed meanwhile. With nobody to
            // deliver to all passes: what is held up here holds up the reading of SQL.
            let delivering = (fresh || self.roster.is_empty()) && !self.ahead.is_empty();
            let limits = &self.shared.limits;
            let wake = verified + if fresh { limits.view_age_max } else { limits.view_lost_after };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = verified_at.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.show_metrics();
                }
                command = inbox.recv() => match command {
                    Some(Command::GoLive(request)) => self.go_live(*request),
                    Some(Command::Leave(open)) => self.leave(&open),
                    None => return,
                },
                () = consume_budget(), if delivering => match self.ahead.pop_front() {
                    Some(FeedItem::Batch(batch, _on_its_way)) => self.deliver(&batch),
                    Some(FeedItem::Reset(heads)) => self.reset(heads),
                    None => {}
                },
                item = items.recv(), if !delivering => match item {
                    Some(item) => self.look_at(item),
                    None => return,
                },
                () = sleep_until(wake), if fresh || !self.roster.is_empty() => {
                    if !fresh && Instant::now() >= wake {
                        self.close_all();
                    }
                }
            }
        }
    }

    /// What cannot wait for its turn: the ends of memberships and sessions.
    fn look_at(&mut self, item: FeedItem) {
        match &item {
            FeedItem::Batch(batch, _) => {
                for event in &batch.events {
                    (self.on_event)(Some(event));
                    match event.fact {
                        Fact::MemberLeft { conversation, rev, user } => {
                            self.note_removal(user, About { conversation, rev });
                        }
                        Fact::SessionEnded { session, .. } => {
                            self.shared.chat.note_session_ended(session);
                            (self.on_session_ended)(session);
                        }
                        _ => {}
                    }
                }
            }
            FeedItem::Reset(_) => {
                self.ahead.clear();
                (self.on_event)(None);
                self.shared.openings.forget_removals();
                for subscription in self.roster.subscriptions() {
                    subscription.open.removals.forget();
                }
            }
        }
        self.ahead.push_back(item);
    }

    fn note_removal(&self, user: UserId, removal: About) {
        self.shared.openings.note(user, removal);
        for subscription in self.roster.of(user, removal.conversation) {
            subscription.open.removals.note(removal);
        }
    }

    /// A few times a second, not at each delivery.
    fn show_metrics(&self) {
        let known = &self.shared.metrics;
        measure::total(measure::EXECUTIONS, known.executions_total());
        measure::total(measure::DELIVERIES, known.deliveries_total());
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let (open, now) = (self.roster.len() as f64, self.shared.chat.clock().now().millis() as f64 / 1000.0);
        measure::set(measure::SUBSCRIPTIONS, open);
        measure::set(measure::HUB_VERIFIED_AT, now);
    }

    fn go_live(&mut self, request: GoLive) {
        if request.open.has_ended() {
            return;
        }
        if request.epoch < self.epoch {
            let _ = request.reply.send(WentLive::Resync);
        } else if request.epoch > self.epoch || !self.positions.covers(&request.seen) {
            // The snapshot was ahead of this task, which will be there in a moment.
            request.open.outbound.wake();
            self.waiting.push(request);
        } else if !request.seen.covers(&self.recent.after) {
            let _ = request.reply.send(WentLive::ReplayMore);
        } else {
            self.join(request);
        }
    }

    /// Rolls forward from what the subscription has replayed to where this task stands, and makes it live.
    fn join(&mut self, request: GoLive) {
        let GoLive { open, plan, conversations, mut seen, mut memberships, reply, .. } = request;
        let key = plan.key();
        let (user, session) = (plan.caller.user, plan.caller.session);
        let shared = self.shared.clone();
        let limits = shared.chat.limits();
        let execution = self.roster.enter_group(key, || Execution::start(&shared, plan.clone()));
        let subscription = Subscription { open, user, session, plan, conversations, group: key };
        let snapshot = seen.clone();
        for batch in self.recent.since(&snapshot, &self.positions) {
            let before = seen.clone();
            seen.set(batch.lane, batch.pos);
            let missed: Vec<_> = batch
                .events
                .iter()
                .filter_map(|event| {
                    let conversation = event.fact.conversation()?;
                    let as_seen = concerns(event, user, &mut memberships, limits)?;
                    subscription.wants(conversation).then_some((event, as_seen))
                })
                .collect();
            for (index, (event, as_seen)) in missed.iter().enumerate() {
                let positions = if index + 1 == missed.len() { &seen } else { &before };
                let item = durable(&self.seal(key.filter, positions), event, *as_seen);
                let about = about(&item);
                execution.submit(self.placed(item, &subscription, about));
            }
        }
        let live = EventItem { cursor: self.seal(key.filter, &seen), body: EventBody::StreamLive };
        execution.submit(self.placed(live, &subscription, None));
        self.announce(&subscription, true);
        self.roster.register(subscription, memberships);
        let _ = reply.send(WentLive::Yes);
    }

    fn leave(&mut self, open: &Arc<Open>) {
        // One that still waits to go live is dropped by its own task, which sees that the operation ended.
        if let Some(subscription) = self.roster.leave(open)
            && !self.roster.has_session(subscription.user, subscription.session)
        {
            self.announce(&subscription, false);
        }
    }

    fn deliver(&mut self, batch: &Arc<LoggedBatch>) {
        let before = self.positions.clone();
        self.positions.set(batch.lane, batch.pos);
        let mut routed: Vec<(usize, Vec<(UserId, AsSeen)>)> = Vec::new();
        for (index, event) in batch.events.iter().enumerate() {
            let recipients = self.roster.recipients(event, self.shared.chat.limits());
            if !recipients.is_empty() {
                routed.push((index, recipients));
            }
        }
        self.dispatch(batch, &before, &routed);
        self.recent.remember(batch, &self.shared);
        self.retry_waiting();
    }

    /// Takes the places. A cursor says that the whole batch was seen only on a user's last event of it.
    fn dispatch(
        &mut self,
        batch: &LoggedBatch,
        before: &Positions,
        routed: &[(usize, Vec<(UserId, AsSeen)>)],
    ) {
        let mut last_of: IdMap<UserId, usize> = IdMap::default();
        // A single event is everybody's last.
        for (index, recipients) in routed.iter().skip(usize::from(routed.len() == 1)) {
            for (user, _) in recipients {
                last_of.insert(*user, *index);
            }
        }
        let mut cursors: HashMap<(FilterHash, bool), Arc<str>> = HashMap::new();
        for (index, recipients) in routed {
            let Some(event) = batch.events.get(*index) else { continue };
            let Some(conversation) = event.fact.conversation() else { continue };
            let about = About { conversation, rev: event.fact.rev() };
            let mut jobs: IdMap<(GroupKey, AsSeen, bool), Job> = IdMap::default();
            for (user, as_seen) in recipients {
                let complete = last_of.get(user).is_none_or(|last| last == index);
                for subscription in self.roster.of(*user, conversation) {
                    let key = subscription.group;
                    let job = jobs.entry((key, *as_seen, complete)).or_insert_with(|| {
                        let positions = if complete { &self.positions } else { before };
                        let cursor = cursors
                            .entry((key.filter, complete))
                            .or_insert_with(|| self.seal(key.filter, positions));
                        Job::new(durable(cursor, event, *as_seen), &self.shared.wakes)
                    });
                    self.place(job, subscription, Some(about));
                }
            }
            for ((key, ..), job) in jobs {
                if let Some(execution) = self.roster.execution(key) {
                    execution.submit(job);
                }
            }
        }
    }

    fn placed(&self, item: EventItem, subscription: &Subscription, about: Option<About>) -> Job {
        let mut job = Job::new(item, &self.shared.wakes);
        self.place(&mut job, subscription, about);
        job
    }

    fn place(&self, job: &mut Job, subscription: &Subscription, about: Option<About>) {
        // A closed socket ends its operations itself.
        if job.place(&subscription.open, about).is_ok() {
            self.shared.metrics.deliveries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn retry_waiting(&mut self) {
        for request in std::mem::take(&mut self.waiting) {
            self.go_live(request);
        }
    }

    fn seal(&self, filter: FilterHash, seen: &Positions) -> Arc<str> {
        let position = CursorPosition { epoch: self.epoch, filter, seen: seen.clone(), replay: None };
        self.shared.chat.seal_cursor(&position).into()
    }

    /// The log is another one: every subscription is told to fetch anew and goes on from there, as the same operation.
    fn reset(&mut self, heads: Heads) {
        self.epoch = heads.epoch;
        self.recent = Recent::new(heads.positions.clone());
        self.positions = heads.positions;
        // What is known of memberships came from the old log; starting anew finds what the new one says.
        for subscription in self.forget_all() {
            let Subscription { open, plan, conversations, .. } = subscription;
            let shared = self.shared.clone();
            self.shared.tasks.spawn(async move { start::restart(&shared, open, plan, conversations).await });
        }
        self.retry_waiting();
    }

    fn close_all(&mut self) {
        for subscription in self.forget_all() {
            subscription.open.outbound.close(1013, "try again later");
        }
    }

    fn forget_all(&mut self) -> Vec<Subscription> {
        let subscriptions = self.roster.forget_all();
        for subscription in &subscriptions {
            self.announce(subscription, false);
        }
        subscriptions
    }

    fn announce(&self, subscription: &Subscription, is_live: bool) {
        self.shared.chat.announce(subscription.user, subscription.session, is_live);
    }
}

fn durable(cursor: &Arc<str>, event: &Arc<Event>, as_seen: AsSeen) -> EventItem {
    EventItem { cursor: cursor.clone(), body: EventBody::Durable { event: event.clone(), as_seen } }
}
