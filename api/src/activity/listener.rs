//! One subscription to `activity`: what it may hear, what waits to be told, and the last look before it is written.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use domain::{ConversationId, UserId};
use futures_util::FutureExt as _;
use tokio::sync::Notify;

use crate::{
    executor::Subscription,
    hub::Hub,
    websocket::{About, Outbound, Sight, Watched},
};

/// Numbers the listeners of this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

pub(super) struct Listener {
    pub number: u64,
    /// Nobody when anonymous, who is refused.
    pub viewer: UserId,
    pub id: Arc<str>,
    pub outbound: Outbound,
    ended: AtomicBool,
    inbox: Mutex<Inbox>,
    /// Something waits to be told.
    pub changed: Notify,
    /// It is known again what may be heard.
    pub settled: Notify,
}

/// What waits, bounded by what is watched.
#[derive(Default)]
pub(super) struct Inbox {
    pub users: BTreeSet<UserId>,
    pub typing: BTreeSet<(ConversationId, UserId)>,
    pub scope: Scope,
    /// Whether the scope is true.
    pub trust: Trust,
    /// Something could be heard once that cannot any more.
    pub has_shrunk: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trust {
    /// It is to be asked for.
    #[default]
    Lost,
    /// It is being asked for.
    Asked,
    Known,
    /// Nothing may be heard any more.
    Over,
}

/// What may be heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Who is watched: also those who hide it, who may show it again.
    pub users: HashSet<UserId>,
    /// Those of them who are told of.
    pub shown: HashSet<UserId>,
    pub rooms: HashSet<ConversationId>,
}

impl Scope {
    pub fn watches(&self) -> usize {
        self.users.len() + self.rooms.len()
    }
}

/// What an event is about, as the last look knows it.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Presence = 0,
    Typing = 1,
    /// All that could be heard at the opening.
    Opened = 2,
}

/// Ends a subscription when dropped.
pub(super) struct Ending {
    listener: Arc<Listener>,
    hub: Hub,
}

impl Watched for Ending {
    fn sight(&self, about: About) -> Sight {
        // In this order: a fresh view knows the removals, and the listener knows of them at once.
        if !self.hub.is_fresh() {
            let hub = self.hub.clone();
            return Sight::Unknown(async move { hub.fresh().await }.boxed());
        }
        let inbox = self.listener.inbox();
        match inbox.trust {
            Trust::Known => {}
            Trust::Over => return Sight::Hidden,
            Trust::Lost | Trust::Asked => {
                let listener = self.listener.clone();
                return Sight::Unknown(async move { listener.settled().await }.boxed());
            }
        }
        let is_allowed = if about.rev == Kind::Opened as i32 {
            !inbox.has_shrunk
        } else if about.rev == Kind::Typing as i32 {
            inbox.scope.rooms.contains(&about.conversation)
        } else {
            // A user stands for the direct conversation with them, whether there is one or not.
            let users = about.conversation.direct_users();
            users.is_some_and(|(a, b)| {
                inbox.scope.shown.contains(if a == self.listener.viewer { &b } else { &a })
            })
        };
        if is_allowed { Sight::Shown } else { Sight::Hidden }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.listener.ended.store(true, Ordering::Release);
        self.listener.changed.notify_one();
    }
}

impl Listener {
    pub fn new(subscription: &Subscription, hub: Hub) -> (Arc<Self>, Ending) {
        let listener = Arc::new(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            viewer: subscription.caller.map_or(UserId(0), |caller| caller.user),
            id: subscription.operation_id.clone(),
            outbound: subscription.outbound.clone(),
            ended: AtomicBool::new(false),
            inbox: Mutex::default(),
            changed: Notify::new(),
            settled: Notify::new(),
        });
        (listener.clone(), Ending { listener, hub })
    }

    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user is there in another way than before.
    pub fn hear_of(&self, user: UserId) {
        self.inbox().users.insert(user);
        self.changed.notify_one();
    }

    pub fn hear_typing(&self, conversation: ConversationId, user: UserId) {
        self.inbox().typing.insert((conversation, user));
        self.changed.notify_one();
    }

    /// Nothing is told before it is known what may be.
    pub fn check(&self) {
        let mut inbox = self.inbox();
        if inbox.trust != Trust::Over {
            inbox.trust = Trust::Lost;
            self.changed.notify_one();
        }
    }

    async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if matches!(self.inbox().trust, Trust::Known | Trust::Over) {
                return;
            }
            settled.await;
        }
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) || self.outbound.is_closed()
    }
}
