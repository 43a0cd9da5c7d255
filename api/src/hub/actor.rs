//! The one task that routes: it takes every event in one order, knows who is in which conversation at that point, and
//! takes a place in the queue of each socket concerned.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use domain::{
    ConversationId, CursorPosition, Event, Fact, FilterHash, LoggedBatch, MemberRole, Positions, SessionId,
    UserId, measure, port::log::Heads,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Open, Shared,
    audience::{concerns, first_role, shown},
    feed::{Feed, FeedItem},
    group::{Execution, GroupKey, Plan},
    recent::Recent,
    start,
};
use crate::{
    schema::types::event::{AsSeen, EventBody, EventItem},
    websocket::{Payload, PendingPayload},
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

struct Subscription {
    open: Arc<Open>,
    user: UserId,
    session: SessionId,
    /// To start it anew.
    plan: Arc<Plan>,
    conversations: Option<Arc<[ConversationId]>>,
    group: GroupKey,
}

impl Subscription {
    fn wants(&self, conversation: ConversationId) -> bool {
        self.conversations.as_ref().is_none_or(|wanted| wanted.binary_search(&conversation).is_ok())
    }
}

struct Group {
    execution: Execution,
    members: usize,
}

#[derive(Default)]
struct User {
    subscriptions: Vec<SubscriptionId>,
    conversations: HashSet<ConversationId>,
}

/// The address of what is open, which is unique while the hub holds it.
type SubscriptionId = usize;

fn id_of(open: &Arc<Open>) -> SubscriptionId {
    Arc::as_ptr(open) as usize
}

pub(super) struct Actor {
    shared: Arc<Shared>,
    epoch: i64,
    positions: Positions,
    subscriptions: HashMap<SubscriptionId, Subscription>,
    groups: HashMap<GroupKey, Group>,
    users: HashMap<UserId, User>,
    /// Who of this node's users is in a conversation.
    routes: HashMap<ConversationId, HashMap<UserId, MemberRole>>,
    recent: Recent,
    waiting: Vec<GoLive>,
    on_session_ended: Arc<dyn Fn(SessionId) + Send + Sync>,
}

impl Actor {
    pub fn new(
        shared: &Arc<Shared>,
        heads: Heads,
        on_session_ended: Arc<dyn Fn(SessionId) + Send + Sync>,
    ) -> Self {
        Self {
            shared: shared.clone(),
            epoch: heads.epoch,
            recent: Recent::new(heads.positions.clone()),
            positions: heads.positions,
            subscriptions: HashMap::new(),
            groups: HashMap::new(),
            users: HashMap::new(),
            routes: HashMap::new(),
            waiting: Vec::new(),
            on_session_ended,
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
            let fresh_until = verified + self.shared.limits.view_age_max;
            let fresh = Instant::now() < fresh_until;
            // While the view of SQL is old nothing is delivered: somebody may have been removed meanwhile.
            let wake = if fresh { fresh_until } else { verified + self.shared.limits.view_lost_after };
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
                    Some(Command::Leave(open)) => self.leave(id_of(&open)),
                    None => return,
                },
                // With nobody to deliver to they pass all the same: what is held up here holds up the reading of SQL.
                item = items.recv(), if fresh || self.subscriptions.is_empty() => match item {
                    Some(FeedItem::Batch(batch, _on_its_way)) => self.deliver(&batch),
                    Some(FeedItem::Reset(heads)) => self.reset(heads),
                    None => return,
                },
                () = sleep_until(wake), if fresh || !self.subscriptions.is_empty() => {
                    if !fresh && Instant::now() >= wake {
                        self.close_all();
                    }
                }
            }
        }
    }

    /// A few times a second, not at each delivery.
    fn show_metrics(&self) {
        let known = &self.shared.metrics;
        measure::total(measure::EXECUTIONS, known.executions_total());
        measure::total(measure::DELIVERIES, known.deliveries_total());
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let (open, now) =
            (self.subscriptions.len() as f64, self.shared.chat.clock().now().millis() as f64 / 1000.0);
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
        let group = self
            .groups
            .entry(key)
            .or_insert_with(|| Group { execution: Execution::start(&shared, plan.clone()), members: 0 });
        group.members += 1;
        let execution = group.execution.clone();
        let subscription = Subscription { open, user, session, plan, conversations, group: key };
        for batch in self.recent.iter() {
            if batch.pos <= seen.get(batch.lane) {
                continue;
            }
            let before = self.seal(key.filter, &seen);
            seen.set(batch.lane, batch.pos);
            let after = self.seal(key.filter, &seen);
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
                let cursor = if index + 1 == missed.len() { &after } else { &before };
                let item = durable(cursor, event, *as_seen);
                self.put(&subscription, Payload::Pending(execution.submit(item)));
            }
        }
        let live = EventItem { cursor: self.seal(key.filter, &seen), body: EventBody::StreamLive };
        self.put(&subscription, Payload::Pending(execution.submit(live)));
        self.register(subscription, memberships);
        let _ = reply.send(WentLive::Yes);
    }

    fn register(&mut self, subscription: Subscription, memberships: HashMap<ConversationId, MemberRole>) {
        let id = id_of(&subscription.open);
        let user = self.users.entry(subscription.user).or_default();
        if user.subscriptions.is_empty() {
            for (conversation, role) in memberships {
                user.conversations.insert(conversation);
                self.routes.entry(conversation).or_default().insert(subscription.user, role);
            }
        }
        user.subscriptions.push(id);
        self.shared.chat.announce(subscription.user, subscription.session, true);
        self.subscriptions.insert(id, subscription);
    }

    fn leave(&mut self, id: SubscriptionId) {
        // One that still waits to go live is dropped by its own task, which sees that the operation ended.
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        if let Some(group) = self.groups.get_mut(&subscription.group) {
            group.members -= 1;
            if group.members == 0 {
                self.groups.remove(&subscription.group);
            }
        }
        let Some(user) = self.users.get_mut(&subscription.user) else { return };
        user.subscriptions.retain(|other| *other != id);
        let session = |id| self.subscriptions.get(id).map(|other| other.session);
        if !user.subscriptions.iter().any(|other| session(other) == Some(subscription.session)) {
            self.shared.chat.announce(subscription.user, subscription.session, false);
        }
        if user.subscriptions.is_empty()
            && let Some(gone) = self.users.remove(&subscription.user)
        {
            for conversation in gone.conversations {
                self.unroute(conversation, subscription.user);
            }
        }
    }

    fn route(&mut self, conversation: ConversationId, user: UserId, role: MemberRole) {
        if let Some(online) = self.users.get_mut(&user) {
            online.conversations.insert(conversation);
            self.routes.entry(conversation).or_default().insert(user, role);
        }
    }

    fn unroute(&mut self, conversation: ConversationId, user: UserId) {
        if let Some(members) = self.routes.get_mut(&conversation) {
            members.remove(&user);
            if members.is_empty() {
                self.routes.remove(&conversation);
            }
        }
        if let Some(online) = self.users.get_mut(&user) {
            online.conversations.remove(&conversation);
        }
    }

    fn deliver(&mut self, batch: &Arc<LoggedBatch>) {
        let before = self.positions.clone();
        self.positions.set(batch.lane, batch.pos);
        let mut routed: Vec<(usize, Vec<(UserId, AsSeen)>)> = Vec::new();
        for (index, event) in batch.events.iter().enumerate() {
            let recipients = self.recipients(event);
            if !recipients.is_empty() {
                routed.push((index, recipients));
            }
        }
        self.dispatch(batch, &before, &routed);
        self.recent.remember(batch, &self.shared);
        self.retry_waiting();
    }

    /// Who sees the event as what; moves the routes to after it.
    fn recipients(&mut self, event: &Event) -> Vec<(UserId, AsSeen)> {
        if let Fact::SessionEnded { session, .. } = event.fact {
            self.shared.chat.note_session_ended(session);
            (self.on_session_ended)(session);
            return Vec::new();
        }
        let (Some(conversation), Some(head)) = (event.fact.conversation(), event.conversation.as_ref())
        else {
            return Vec::new();
        };
        match &event.fact {
            Fact::ConversationCreated { members, .. } => {
                for (index, user) in members.iter().enumerate() {
                    self.route(conversation, *user, first_role(head, index));
                }
            }
            Fact::MemberJoined { user, .. } => self.route(conversation, *user, MemberRole::Member),
            Fact::RoleChanged { user, role, .. }
                if self.routes.get(&conversation).is_some_and(|members| members.contains_key(user)) =>
            {
                self.route(conversation, *user, *role);
            }
            _ => {}
        }
        let limits = self.shared.chat.limits();
        let Some(members) = self.routes.get(&conversation) else { return Vec::new() };
        let recipients = members
            .iter()
            .filter_map(|(user, role)| Some((*user, shown(&event.fact, head, *user, *role, limits)?)))
            .collect();
        if let Fact::MemberLeft { user, .. } = event.fact {
            self.unroute(conversation, user);
        }
        recipients
    }

    /// Takes the places. A cursor says that the whole batch was seen only on a user's last event of it.
    fn dispatch(
        &mut self,
        batch: &LoggedBatch,
        before: &Positions,
        routed: &[(usize, Vec<(UserId, AsSeen)>)],
    ) {
        let mut last_of: HashMap<UserId, usize> = HashMap::new();
        for (index, recipients) in routed {
            for (user, _) in recipients {
                last_of.insert(*user, *index);
            }
        }
        let mut cursors: HashMap<(FilterHash, bool), Arc<str>> = HashMap::new();
        for (index, recipients) in routed {
            let Some(event) = batch.events.get(*index) else { continue };
            let Some(conversation) = event.fact.conversation() else { continue };
            let mut results: HashMap<(GroupKey, AsSeen, bool), Option<PendingPayload>> = HashMap::new();
            for (user, as_seen) in recipients {
                let complete = last_of.get(user) == Some(index);
                for id in self.users.get(user).map_or(&[][..], |user| &user.subscriptions) {
                    let Some(subscription) = self.subscriptions.get(id).filter(|one| one.wants(conversation))
                    else {
                        continue;
                    };
                    let key = subscription.group;
                    let result = results.entry((key, *as_seen, complete)).or_insert_with(|| {
                        let positions = if complete { &self.positions } else { before };
                        let cursor = cursors
                            .entry((key.filter, complete))
                            .or_insert_with(|| self.seal(key.filter, positions));
                        let item = durable(cursor, event, *as_seen);
                        self.groups.get(&key).map(|group| group.execution.submit(item))
                    });
                    if let Some(result) = result {
                        self.put(subscription, Payload::Pending(result.clone()));
                    }
                }
            }
        }
    }

    fn put(&self, subscription: &Subscription, payload: Payload) {
        // A closed socket ends its operations itself.
        if subscription.open.outbound.next(&subscription.open.id, payload).is_ok() {
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
        self.groups.clear();
        self.users.clear();
        self.routes.clear();
        let subscriptions: Vec<_> =
            self.subscriptions.drain().map(|(_, subscription)| subscription).collect();
        for subscription in &subscriptions {
            self.shared.chat.announce(subscription.user, subscription.session, false);
        }
        subscriptions
    }
}

fn durable(cursor: &Arc<str>, event: &Arc<Event>, as_seen: AsSeen) -> EventItem {
    EventItem { cursor: cursor.clone(), body: EventBody::Durable { event: event.clone(), as_seen } }
}
