//! What this node watches for its subscriptions: each user and conversation once, however many listen.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::{
    Chat, Contact, Conversation, ConversationId, ErrorCode, Event, Fact, NodeId, PRESENCE_INTERVAL, Presence,
    PresenceState, ServiceError, ServiceResult, Standings, TYPING_LIFE, Timestamp, Topic, UserId, measure,
};
use tokio::time::Instant;

use super::{
    ActivityLimits,
    listener::{Listener, Scope},
};

/// People who type in one conversation at a time and are told of, at most.
const TYPISTS_MAX: usize = 100;

pub(super) struct Board {
    chat: Chat,
    state: Mutex<State>,
    /// Listeners, to be looked at without a lock.
    listening: AtomicUsize,
    watches_max: usize,
    watches_per_user_max: usize,
}

#[derive(Default)]
struct State {
    listeners: HashMap<u64, Arc<Listener>>,
    users: HashMap<UserId, Watched>,
    rooms: HashMap<ConversationId, Room>,
    viewers: HashMap<UserId, Viewer>,
    /// Those of the watched users who are to be looked at.
    due: HashSet<UserId>,
    watches: usize,
}

/// A user who is watched.
struct Watched {
    listeners: HashSet<u64>,
    /// `None` while it is not known.
    presence: Option<Presence>,
    /// As SQL had it when somebody began to watch.
    last_used_at: Option<Timestamp>,
    /// Who says that they are there.
    nodes: Vec<NodeId>,
    changed_at: Option<Instant>,
}

struct Room {
    listeners: HashSet<u64>,
    head: Arc<Conversation>,
    /// Until when.
    typing: HashMap<UserId, Instant>,
}

#[derive(Default)]
struct Viewer {
    listeners: BTreeSet<u64>,
    watches: usize,
}

impl Board {
    pub fn new(chat: Chat, limits: &ActivityLimits) -> Self {
        Self {
            chat,
            state: Mutex::default(),
            listening: AtomicUsize::new(0),
            watches_max: limits.watches_max,
            watches_per_user_max: limits.watches_per_user_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the listener is told when something ends what it may hear.
    pub fn admit(&self, listener: &Arc<Listener>) {
        let mut state = self.lock();
        state.listeners.insert(listener.number, listener.clone());
        state.viewers.entry(listener.viewer).or_default().listeners.insert(listener.number);
        self.listening.store(state.listeners.len(), Ordering::Release);
    }

    /// Watches what is in the new scope and not in the old one, and no more what is in the old one alone. Listens to what is said of it, in
    /// the same order.
    pub fn watch(
        &self,
        listener: &Listener,
        before: &Scope,
        scope: &Scope,
        contacts: &[Contact],
        heads: &[Arc<Conversation>],
    ) -> ServiceResult<()> {
        let mut state = self.lock();
        let state = &mut *state;
        let of_viewer = state.viewers.get(&listener.viewer).map_or(0, |viewer| viewer.watches);
        let more = scope.watches().saturating_sub(before.watches());
        if of_viewer + more > self.watches_per_user_max {
            return Err(ServiceError::new(
                ErrorCode::LimitExceeded,
                "the viewer watches too many users and conversations",
            ));
        }
        if state.watches + more > self.watches_max {
            return Err(ServiceError::unavailable("this node watches as much as it may; try again"));
        }
        let (mut begun, ended) = (Vec::new(), state.unwatch(listener.number, before, scope));
        for Contact { user, last_used_at, .. } in
            contacts.iter().filter(|contact| scope.users.contains(&contact.user))
        {
            let watched = state.users.entry(*user).or_insert_with(|| {
                begun.push(Topic::User(*user));
                state.due.insert(*user);
                Watched {
                    listeners: HashSet::new(),
                    presence: None,
                    last_used_at: *last_used_at,
                    nodes: Vec::new(),
                    changed_at: None,
                }
            });
            watched.listeners.insert(listener.number);
        }
        for head in heads.iter().filter(|head| scope.rooms.contains(&head.id)) {
            let room = state.rooms.entry(head.id).or_insert_with(|| {
                begun.push(Topic::Conversation(head.id));
                Room { listeners: HashSet::new(), head: head.clone(), typing: HashMap::new() }
            });
            room.listeners.insert(listener.number);
        }
        let viewer = state.viewers.entry(listener.viewer).or_default();
        viewer.watches = viewer.watches + scope.watches() - before.watches();
        state.watches = state.watches + scope.watches() - before.watches();
        show(state);
        self.chat.ignore(&ended);
        self.chat.listen(&begun);
        Ok(())
    }

    /// Forgets a listener.
    pub fn leave(&self, listener: &Listener, scope: &Scope) {
        let mut state = self.lock();
        let ended = state.unwatch(listener.number, scope, &Scope::default());
        state.listeners.remove(&listener.number);
        if let Some(viewer) = state.viewers.get_mut(&listener.viewer) {
            viewer.listeners.remove(&listener.number);
            viewer.watches -= scope.watches();
            if viewer.listeners.is_empty() {
                state.viewers.remove(&listener.viewer);
            }
        }
        state.watches -= scope.watches();
        self.listening.store(state.listeners.len(), Ordering::Release);
        show(&state);
        self.chat.ignore(&ended);
    }

    pub fn presence(&self, user: UserId) -> Option<Presence> {
        self.lock().users.get(&user)?.presence
    }

    /// The conversation, and whether somebody types in it.
    pub fn typing(&self, conversation: ConversationId, user: UserId) -> Option<(Arc<Conversation>, bool)> {
        let state = self.lock();
        let room = state.rooms.get(&conversation)?;
        Some((room.head.clone(), room.typing.contains_key(&user)))
    }

    /// Users to look at now, and when the next one is due.
    pub fn due(&self, now: Instant) -> (Vec<UserId>, Option<Instant>) {
        let (mut now_due, mut next) = (Vec::new(), None::<Instant>);
        let State { users, due, .. } = &mut *self.lock();
        due.retain(|user| {
            let changed_at = users.get(user).and_then(|watched| watched.changed_at);
            let later = changed_at.map(|at| at + PRESENCE_INTERVAL).filter(|at| *at > now);
            match later {
                Some(later) => next = Some(next.map_or(later, |next| next.min(later))),
                None => now_due.push(*user),
            }
            later.is_some()
        });
        (now_due, next)
    }

    /// What was found of users; who hears of a change is told.
    pub fn found(&self, users: &[UserId], standings: &Standings, now: Timestamp) {
        let mut state = self.lock();
        let state = &mut *state;
        let mut changes = 0;
        for user in users {
            let Some(watched) = state.users.get_mut(user) else { continue };
            let presence = match standings.there.get(user) {
                Some(standing) => {
                    watched.nodes.clone_from(&standing.nodes);
                    Presence { state: standing.state, last_seen_at: None }
                }
                None if standings.complete => {
                    watched.nodes.clear();
                    let last_seen_at = match watched.presence {
                        None => watched.last_used_at,
                        Some(Presence { state: PresenceState::Offline, last_seen_at }) => last_seen_at,
                        Some(_) => Some(now),
                    };
                    Presence { state: PresenceState::Offline, last_seen_at }
                }
                // Nothing is known: what was told stays.
                None => continue,
            };
            let before = watched.presence.replace(presence);
            if before.map(|before| before.state) != Some(presence.state) {
                watched.changed_at = before.map(|_| Instant::now());
                changes += u64::from(before.is_some());
                for listener in watched.listeners.iter().filter_map(|number| state.listeners.get(number)) {
                    listener.hear_of(*user);
                }
            }
        }
        measure::count(measure::PRESENCE_CHANGES, &[], changes);
    }

    /// Presence is not told any more, or is again.
    pub fn forget_presences(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        for (user, watched) in &mut state.users {
            (watched.presence, watched.changed_at) = (None, None);
            state.due.insert(*user);
            for listener in watched.listeners.iter().filter_map(|number| state.listeners.get(number)) {
                listener.hear_of(*user);
            }
        }
    }

    pub fn look_at(&self, user: UserId) {
        let mut state = self.lock();
        if state.users.contains_key(&user) {
            state.due.insert(user);
        }
    }

    /// Those of the watched users for whom this holds are looked at.
    pub fn look_at_those(&self, holds: impl Fn(UserId, &[NodeId]) -> bool) {
        let State { users, due, .. } = &mut *self.lock();
        let those = users.iter().filter(|(user, watched)| holds(**user, &watched.nodes));
        due.extend(those.map(|(user, _)| *user));
    }

    /// Nodes on whose word somebody watched is there.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.lock().users.values().flat_map(|watched| &watched.nodes).copied().collect()
    }

    /// Who may know whether this user is there has changed.
    pub fn check_those_who_watch(&self, user: UserId) {
        let state = self.lock();
        state.check(state.users.get(&user).map(|watched| &watched.listeners));
    }

    pub fn check_all(&self) {
        self.check_those(|_| true);
    }

    /// Listeners for whom this holds are to ask anew what they may hear.
    pub fn check_those(&self, holds: impl Fn(u64) -> bool) {
        let state = self.lock();
        for (_, listener) in state.listeners.iter().filter(|(number, _)| holds(**number)) {
            listener.check();
        }
    }

    pub fn types(&self, conversation: ConversationId, user: UserId, typing: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(room) = state.rooms.get_mut(&conversation) else { return };
        let changed = if typing {
            let known = room.typing.contains_key(&user);
            if !known && room.typing.len() >= TYPISTS_MAX {
                return;
            }
            room.typing.insert(user, Instant::now() + TYPING_LIFE);
            !known
        } else {
            room.typing.remove(&user).is_some()
        };
        if changed {
            room.tell(&state.listeners, conversation, user);
        }
    }

    /// Who has not gone on has stopped.
    pub fn expire_typing(&self, now: Instant) {
        let mut state = self.lock();
        let state = &mut *state;
        for (conversation, room) in &mut state.rooms {
            let stopped: Vec<UserId> =
                room.typing.extract_if(|_, until| *until <= now).map(|(user, _)| user).collect();
            for user in stopped {
                room.tell(&state.listeners, *conversation, user);
            }
        }
    }

    /// Nobody types any more.
    pub fn forget_typing(&self) {
        self.expire_typing(Instant::now() + TYPING_LIFE);
    }

    /// What the hub sees, in the order of the log. Called for each event of the node: quick where nobody listens.
    pub fn sees(&self, event: &Event) {
        if self.listening.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut state = self.lock();
        let state = &mut *state;
        let Some(conversation) = event.fact.conversation() else { return };
        if let Some(room) = state.rooms.get_mut(&conversation) {
            if let Some(head) = &event.conversation {
                room.head = head.clone();
            }
            let stopped = match &event.fact {
                Fact::MessageSent { .. } => event.message.as_ref().and_then(|message| message.sender),
                Fact::MemberLeft { user, .. } => Some(*user),
                _ => None,
            };
            if let Some(user) = stopped.filter(|user| room.typing.remove(user).is_some()) {
                room.tell(&state.listeners, conversation, user);
            }
        }
        match event.fact {
            Fact::MemberLeft { user, .. } => {
                if let Some(viewer) = state.viewers.get(&user) {
                    state.check(Some(&viewer.listeners));
                }
                state.check(state.users.get(&user).map(|watched| &watched.listeners));
            }
            Fact::MemberJoined { .. } => {
                state.check(state.rooms.get(&conversation).map(|room| &room.listeners));
            }
            _ => {}
        }
    }
}

impl State {
    fn check<'a>(&self, listeners: Option<impl IntoIterator<Item = &'a u64>>) {
        let numbers = listeners.into_iter().flatten();
        for listener in numbers.filter_map(|number| self.listeners.get(number)) {
            listener.check();
        }
    }

    fn unwatch(&mut self, number: u64, before: &Scope, kept: &Scope) -> Vec<Topic> {
        let mut ended = Vec::new();
        for user in before.users.difference(&kept.users) {
            if let Some(watched) = self.users.get_mut(user) {
                watched.listeners.remove(&number);
                if watched.listeners.is_empty() {
                    self.users.remove(user);
                    self.due.remove(user);
                    ended.push(Topic::User(*user));
                }
            }
        }
        for conversation in before.rooms.difference(&kept.rooms) {
            if let Some(room) = self.rooms.get_mut(conversation) {
                room.listeners.remove(&number);
                if room.listeners.is_empty() {
                    self.rooms.remove(conversation);
                    ended.push(Topic::Conversation(*conversation));
                }
            }
        }
        ended
    }
}

impl Room {
    fn tell(&self, listeners: &HashMap<u64, Arc<Listener>>, conversation: ConversationId, user: UserId) {
        for listener in self.listeners.iter().filter_map(|number| listeners.get(number)) {
            listener.hear_typing(conversation, user);
        }
    }
}

fn show(state: &State) {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let (users, listeners) = (state.users.len() as f64, state.listeners.len() as f64);
    measure::set(measure::PRESENCE_WATCHED, users);
    measure::set(measure::ACTIVITY_SUBSCRIPTIONS, listeners);
}
