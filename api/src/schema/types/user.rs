//! People.

use async_graphql::{Context, ID, Object};

use super::presence::Presence;
use crate::schema::{
    error::{Failure, Nullable},
    request::RequestContext,
};

/// A person who can sign in.
#[derive(Clone)]
pub struct User(pub domain::User);

/// A person who can sign in and be written to.
#[Object]
impl User {
    /// Identifies the user.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The name the user signs in with and is found by: 1 to 64 characters, unique without regard to case and width.
    async fn username(&self) -> &str {
        &self.0.username
    }

    /// The name to show to people: 1 to 64 characters, not unique. The user may change it.
    async fn display_name(&self) -> &str {
        &self.0.display_name
    }

    /// How many messages the viewer has not read in all their conversations together, muted ones included: the sum of
    /// `unreadCount`, and what the badges of pushes say. Exact, as of one moment. Null for anybody but the viewer.
    async fn total_unread_count(&self, ctx: &Context<'_>) -> Nullable<i32> {
        let count = ctx.loaders().total_unread_count(self.0.id).await.transpose()?;
        Some(count.map_err(Failure::from))
    }

    /// Whether they are there; null for whom the viewer does not talk to, for who hides it, when it is not known, and where presence is
    /// switched off. For changes subscribe to `activity`.
    pub async fn presence(&self, ctx: &Context<'_>) -> Nullable<Presence> {
        ctx.viewer().0?;
        let presence = ctx.loaders().presence(self.0.id).await.transpose()?;
        Some(presence.map(Presence::from).map_err(Failure::from))
    }
}

impl From<domain::User> for User {
    fn from(user: domain::User) -> Self {
        Self(user)
    }
}
