//! The subscriptions that are live here, and which conversations their users are in as of where the actor stands.

use std::{collections::HashMap, sync::Arc};

use domain::{ConversationId, Event, Fact, Limits, MemberRole, SessionId, UserId};

use super::{
    IdMap, Open,
    audience::{first_role, shown},
    group::{Execution, GroupKey, Plan},
};
use crate::schema::types::event::AsSeen;

pub(super) struct Subscription {
    pub open: Arc<Open>,
    pub user: UserId,
    pub session: SessionId,
    /// To start it anew.
    pub plan: Arc<Plan>,
    /// Sorted; `None` for all.
    pub conversations: Option<Arc<[ConversationId]>>,
    pub group: GroupKey,
}

impl Subscription {
    pub fn wants(&self, conversation: ConversationId) -> bool {
        self.conversations.as_ref().is_none_or(|wanted| wanted.binary_search(&conversation).is_ok())
    }
}

struct Group {
    execution: Execution,
    members: usize,
}

#[derive(Default)]
struct User {
    subscriptions: Vec<Subscription>,
    /// Sorted: most users are in a few.
    conversations: Vec<ConversationId>,
}

impl User {
    fn enter(&mut self, conversation: ConversationId) {
        if let Err(place) = self.conversations.binary_search(&conversation) {
            self.conversations.insert(place, conversation);
        }
    }

    fn leave(&mut self, conversation: ConversationId) {
        if let Ok(place) = self.conversations.binary_search(&conversation) {
            self.conversations.remove(place);
        }
    }
}

/// The address of what is open, which is unique while the hub holds it.
type SubscriptionId = usize;

fn id_of(open: &Arc<Open>) -> SubscriptionId {
    Arc::as_ptr(open) as usize
}

#[derive(Default)]
pub(super) struct Roster {
    /// Whose they are.
    subscriptions: IdMap<SubscriptionId, UserId>,
    groups: IdMap<GroupKey, Group>,
    users: IdMap<UserId, User>,
    /// Who of this node's users is in a conversation.
    routes: IdMap<ConversationId, IdMap<UserId, MemberRole>>,
}

impl Roster {
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.users.values().flat_map(|user| &user.subscriptions)
    }

    /// A user's subscriptions that want to hear of a conversation.
    pub fn of(&self, user: UserId, conversation: ConversationId) -> impl Iterator<Item = &Subscription> {
        let all = self.users.get(&user).map_or(&[][..], |user| &user.subscriptions);
        all.iter().filter(move |subscription| subscription.wants(conversation))
    }

    pub fn has_session(&self, user: UserId, session: SessionId) -> bool {
        let user = self.users.get(&user);
        user.is_some_and(|user| user.subscriptions.iter().any(|other| other.session == session))
    }

    /// The execution of a group that is one subscription larger now.
    pub fn enter_group(&mut self, key: GroupKey, start: impl FnOnce() -> Execution) -> Execution {
        let group = self.groups.entry(key).or_insert_with(|| Group { execution: start(), members: 0 });
        group.members += 1;
        group.execution.clone()
    }

    pub fn execution(&self, key: GroupKey) -> Option<&Execution> {
        self.groups.get(&key).map(|group| &group.execution)
    }

    pub fn register(&mut self, subscription: Subscription, memberships: HashMap<ConversationId, MemberRole>) {
        self.subscriptions.insert(id_of(&subscription.open), subscription.user);
        let user = self.users.entry(subscription.user).or_default();
        if user.subscriptions.is_empty() {
            user.conversations = memberships.keys().copied().collect();
            user.conversations.sort_unstable();
            // Most users have one device.
            user.subscriptions.reserve_exact(1);
            for (conversation, role) in memberships {
                self.routes.entry(conversation).or_default().insert(subscription.user, role);
            }
        }
        user.subscriptions.push(subscription);
    }

    pub fn leave(&mut self, open: &Arc<Open>) -> Option<Subscription> {
        let user_id = self.subscriptions.remove(&id_of(open))?;
        let user = self.users.get_mut(&user_id)?;
        let place = user.subscriptions.iter().position(|other| Arc::ptr_eq(&other.open, open))?;
        let subscription = user.subscriptions.remove(place);
        if user.subscriptions.is_empty()
            && let Some(gone) = self.users.remove(&user_id)
        {
            for conversation in gone.conversations {
                self.unroute(conversation, user_id);
            }
        }
        if let Some(group) = self.groups.get_mut(&subscription.group) {
            group.members -= 1;
            if group.members == 0 {
                self.groups.remove(&subscription.group);
            }
        }
        Some(subscription)
    }

    pub fn forget_all(&mut self) -> Vec<Subscription> {
        self.groups.clear();
        self.routes.clear();
        self.subscriptions.clear();
        self.users.drain().flat_map(|(_, user)| user.subscriptions).collect()
    }

    /// Who sees the event as what; moves the routes to after it.
    pub fn recipients(&mut self, event: &Event, limits: &Limits) -> Vec<(UserId, AsSeen)> {
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

    fn route(&mut self, conversation: ConversationId, user: UserId, role: MemberRole) {
        if let Some(online) = self.users.get_mut(&user) {
            online.enter(conversation);
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
            online.leave(conversation);
        }
    }
}
