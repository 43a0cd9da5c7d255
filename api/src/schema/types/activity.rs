//! What is told in passing, as clients see it.

use std::sync::Arc;

use async_graphql::{Context, Object, Union};
use domain::{ServiceError, ServiceResult, Timestamp, UserId};

use super::{conversation::Conversation, presence::Presence, user::User};
use crate::schema::{error::Result, request::RequestContext};

/// Something on its way to a subscription.
#[derive(Clone, Debug)]
pub enum ActivityItem {
    Opened { presences: Vec<(UserId, domain::Presence)> },
    Presence { user: UserId, presence: Option<domain::Presence> },
    Typing { conversation: Arc<domain::Conversation>, user: UserId, typing: bool },
}

/// Something that `activity` tells. None of it is kept: after a reconnect a new subscription begins with what is so then.
#[derive(Union)]
pub enum ActivityEvent {
    Opened(ActivityOpened),
    Presence(PresenceChanged),
    Typing(TypingChanged),
}

impl From<ActivityItem> for ActivityEvent {
    fn from(item: ActivityItem) -> Self {
        match item {
            ActivityItem::Opened { presences } => Self::Opened(ActivityOpened { presences }),
            ActivityItem::Presence { user, presence } => Self::Presence(PresenceChanged { user, presence }),
            ActivityItem::Typing { conversation, user, typing } => {
                Self::Typing(TypingChanged { conversation, user, typing })
            }
        }
    }
}

/// The first event of every subscription to `activity`: changes follow.
pub struct ActivityOpened {
    presences: Vec<(UserId, domain::Presence)>,
}

/// The first event of every subscription to `activity`: changes follow.
#[Object]
impl ActivityOpened {
    /// Those asked for, and members of the conversations asked for, whose presence the viewer may know: each as it is now, at most 1,000
    /// unless the operator says otherwise. Who is not in it hides it, or it is not known.
    async fn presences(&self) -> Vec<UserPresence> {
        self.presences
            .iter()
            .map(|(user, presence)| UserPresence { user: *user, presence: *presence })
            .collect()
    }
}

/// A user, and whether they are there.
pub struct UserPresence {
    user: UserId,
    presence: domain::Presence,
}

/// A user, and whether they are there.
#[Object]
impl UserPresence {
    /// Who it is.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        Ok(user(ctx, self.user).await?)
    }

    /// Whether they are there.
    async fn presence(&self) -> Presence {
        self.presence.into()
    }
}

/// A user who is watched came, went or fell silent. Told at most once a second of each user, and only when the state is another than the
/// one told before.
pub struct PresenceChanged {
    user: UserId,
    presence: Option<domain::Presence>,
}

/// A user who is watched came, went or fell silent. Told at most once a second of each user, and only when the state is another than the
/// one told before.
#[Object]
impl PresenceChanged {
    /// Who it is.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        Ok(user(ctx, self.user).await?)
    }

    /// Whether they are there now; null when that is not told any more: the user hides it, nothing is shared with them any more, or presence
    /// was switched off.
    async fn presence(&self) -> Option<Presence> {
        self.presence.map(Presence::from)
    }
}

/// Somebody began to type in a conversation that is watched, or stopped. Nobody is told of their own typing.
pub struct TypingChanged {
    conversation: Arc<domain::Conversation>,
    user: UserId,
    typing: bool,
}

/// Somebody began to type in a conversation that is watched, or stopped. Nobody is told of their own typing.
#[Object]
impl TypingChanged {
    /// In which conversation.
    async fn conversation(&self) -> Conversation {
        Conversation::in_event(self.conversation.clone())
    }

    /// Who types.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        Ok(user(ctx, self.user).await?)
    }

    /// Whether they type. It ends by itself 6 seconds after they last said so, by a message of theirs, and by their removal: that is
    /// told, too.
    async fn typing(&self) -> bool {
        self.typing
    }
}

/// For whom nobody asks for a name.
fn nameless(id: UserId) -> domain::User {
    domain::User { id, username: "".into(), display_name: "".into(), created_at: Timestamp(0) }
}

/// Their names are read only where somebody asks for more than the id.
async fn user(ctx: &Context<'_>, id: UserId) -> ServiceResult<User> {
    let only_id = ctx.field().selection_set().all(|field| matches!(field.name(), "id" | "__typename"));
    if only_id {
        return Ok(nameless(id).into());
    }
    let user = ctx.loaders().user(id).await?;
    Ok(user.ok_or_else(|| ServiceError::internal("a user who does not exist is watched"))?.into())
}
