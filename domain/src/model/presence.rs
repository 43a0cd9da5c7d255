//! Whether people are there, and what is said between nodes in passing: short-lived, and never the only copy of anything.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Conversation, ConversationId, Timestamp, UserId};

/// A session that comes back within this time was never away: an app that changes networks, a node that restarts.
pub const PRESENCE_GRACE: Duration = Duration::from_secs(10);
/// Changes of one user are told no faster.
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(1);
/// Who does not go on typing has stopped after this time.
pub const TYPING_LIFE: Duration = Duration::from_secs(6);

/// Whether somebody is there, on the best of their devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PresenceState {
    Offline,
    /// Connected, and every device says that nobody is looking.
    Away,
    Online,
}

/// What somebody who may know is told of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    pub state: PresenceState,
    /// When the last of their devices went; `None` while one is there, and when it is not known.
    pub last_seen_at: Option<Timestamp>,
}

/// Who may know whether a user is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceVisibility {
    /// Those with whom they share a direct conversation or a group that is not large.
    EveryoneITalkTo,
    Nobody,
}

/// Somebody whom the caller talks to, or the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    pub user: UserId,
    /// Whether the caller may know if they are there.
    pub shows: bool,
    /// When a session of theirs was last used, as SQL has it.
    pub last_used_at: Option<Timestamp>,
}

/// What a caller may watch of what they asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityScope {
    /// Those of the conversations that the caller is in.
    pub conversations: Vec<Arc<Conversation>>,
    /// Those of the users whom the caller talks to, and the members of the conversations that are not large.
    pub contacts: Vec<Contact>,
    /// There are more members than were asked for.
    pub too_many: bool,
}

/// A process that holds sockets, as no other is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// Who is there, as far as it can be known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// Those who are there.
    pub there: HashMap<UserId, Standing>,
    /// Whether all others are offline; otherwise nothing is known of them.
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: PresenceState,
    /// Other nodes that say so. When one of them dies nobody tells.
    pub nodes: Vec<NodeId>,
}

/// What nodes listen to, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    User(UserId),
    Conversation(ConversationId),
}

/// Something said in passing, to whoever listens just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whisper {
    /// A device came, went or fell silent: look again.
    PresenceChanged(UserId),
    /// Who may know has changed: ask again.
    VisibilityChanged(UserId),
    Typing {
        conversation: ConversationId,
        user: UserId,
        typing: bool,
    },
}

impl Whisper {
    pub const fn topic(&self) -> Topic {
        match self {
            Self::PresenceChanged(user) | Self::VisibilityChanged(user) => Topic::User(*user),
            Self::Typing { conversation, .. } => Topic::Conversation(*conversation),
        }
    }
}

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Whisper(Whisper),
    /// What was said of these until now may have been missed.
    Anew(Vec<Topic>),
}

/// What can be switched while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    pub presence: bool,
    pub typing: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self { presence: true, typing: true }
    }
}
