//! The use cases, one file each, as methods of `Domain`; [`crate::Chat`] is how others reach them.
//!
//! A service checks, then reads or changes; it takes the caller and a command. Durable changes run as a
//! [`crate::commit::Change`] in the lane of what they change.

pub mod add_members;
pub mod change_password;
pub mod conversations;
pub mod create_group;
mod credentials;
pub(crate) mod group;
pub mod leave_group;
pub mod live;
pub mod mark_read;
pub mod members;
pub mod messages;
pub mod mute_conversation;
pub mod open_direct_conversation;
pub mod presence;
pub mod push;
pub mod refresh_session;
pub mod register;
pub mod register_device;
pub mod relay;
pub mod remove_member;
pub mod send_message;
mod session_end;
pub mod sessions;
pub mod set_member_role;
pub mod set_quiet_hours;
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
    cache::Copies,
    commit::{Committers, IdSource},
    ended_sessions::EndedSessions,
    keys::KeyRing,
    model::Limits,
    passwords::Passwords,
    port::{Accounts, Bus, Clock, Contacts, Conversations, Devices, Log, Presence, Pushes, Random, Relays},
    tokens::AccessTokens,
};

/// Everything Confab does, in this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Domain {
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
    pub contacts: Arc<dyn Contacts>,
    /// For reads that may be a moment late.
    pub copies: Copies,
    pub bus: Arc<dyn Bus>,
    pub devices: Arc<dyn Devices>,
    pub pushes: Arc<dyn Pushes>,
    pub presence: Arc<dyn Presence>,
    pub relays: Arc<dyn Relays>,
    pub committers: Committers,
    pub keys: KeyRing,
    pub tokens: Arc<AccessTokens>,
    pub passwords: Passwords,
    pub attempts: Attempts,
    pub ended_sessions: Arc<EndedSessions>,
    pub limits: Limits,
    /// Work that must not be cancelled half way; waited for at shutdown.
    pub tasks: TaskTracker,
}
