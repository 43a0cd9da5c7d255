//! The last look at an event before it is written: the one it is for may have been removed while it waited (P7).

use domain::ConversationId;
use futures_util::future::BoxFuture;

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    pub conversation: ConversationId,
    /// The conversation's `rev` of the change.
    pub rev: i32,
}

/// An open subscription, as its socket holds it. It ends when dropped.
pub trait Watched: Send {
    fn sight(&self, about: About) -> Sight;
}

/// Whether an event may still be shown.
pub enum Sight {
    Shown,
    /// The viewer was removed after it.
    Hidden,
    /// It cannot be told now. Worth asking again when this resolves.
    Unknown(BoxFuture<'static, ()>),
}
