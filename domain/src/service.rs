//! The use cases, one file each, as methods of [`Chat`].
//!
//! A service checks, then reads or changes; it takes the caller and a command. Durable changes run as a
//! [`crate::commit::Change`] in the lane of what they change.

pub mod add_members;
pub mod authenticate;
pub mod change_password;
pub mod conversations;
pub mod create_group;
mod credentials;
pub mod cursors;
mod group;
pub mod leave_group;
pub mod live;
pub mod mark_read;
pub mod members;
pub mod messages;
pub mod open_direct_conversation;
pub mod refresh_session;
pub mod register;
pub mod remove_member;
pub mod send_message;
mod session_end;
pub mod sessions;
pub mod set_member_role;
pub mod sign_in;
pub mod sign_out;
pub mod update_group;
pub mod update_profile;
pub mod upkeep;
pub mod users;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::{
    attempts::Attempts,
    commit::{Committers, IdSource},
    ended_sessions::EndedSessions,
    keys::KeyRing,
    model::Limits,
    passwords::Passwords,
    port::{Accounts, Bus, Clock, Conversations, Log, Random},
    tokens::AccessTokens,
};

/// Everything Confab does. Cheap to clone.
#[derive(Clone)]
pub struct Chat {
    pub(crate) services: Arc<Services>,
}

/// What the use cases share.
pub(crate) struct Services {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub ids: Arc<IdSource>,
    pub log: Arc<dyn Log>,
    pub accounts: Arc<dyn Accounts>,
    pub conversations: Arc<dyn Conversations>,
    pub bus: Arc<dyn Bus>,
    pub committers: Committers,
    pub keys: KeyRing,
    pub tokens: AccessTokens,
    pub passwords: Passwords,
    pub attempts: Attempts,
    pub ended_sessions: EndedSessions,
    pub limits: Limits,
    /// Work that must not be cancelled half way; waited for at shutdown.
    pub tasks: TaskTracker,
}

impl Chat {
    pub fn limits(&self) -> &Limits {
        &self.services.limits
    }

    /// The keys that sign tokens and cursors; whoever runs the process reloads them now and then.
    pub fn keys(&self) -> &KeyRing {
        &self.services.keys
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.services.clock
    }

    pub fn random(&self) -> &Arc<dyn Random> {
        &self.services.random
    }
}
