//! Members of conversations.

use async_graphql::{Context, Enum, ID, Object};
use domain::{ServiceError, UserId};

use super::{connection::connection, scalars::DateTime, user::User};
use crate::schema::{error::Result, request::RequestContext};

/// What a member may do in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::MemberRole")]
pub enum MemberRole {
    /// May do everything, and is safe from removal. A group always has at least one owner.
    Owner,
    /// May change the title, and add and remove members.
    Admin,
    /// May read, write and leave. Both sides of a direct conversation are plain members.
    Member,
}

/// A user's membership in a conversation.
#[derive(Clone)]
pub struct Member(pub domain::Member);

impl Member {
    pub fn position(&self) -> UserId {
        self.0.user
    }
}

/// A user in one conversation.
#[Object]
impl Member {
    /// Identifies the membership.
    pub async fn id(&self) -> ID {
        self.0.id().into()
    }

    /// Who is the member.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        let user = ctx.loaders().user(self.0.user).await?;
        Ok(user.ok_or_else(|| ServiceError::internal("a member without a user"))?.into())
    }

    /// What the member may do here.
    async fn role(&self) -> MemberRole {
        self.0.role.into()
    }

    /// The `seq` of the last message that the member has read; 0 before the first. It never moves back.
    async fn read_seq(&self) -> i32 {
        self.0.read_seq
    }

    /// When the membership began.
    async fn joined_at(&self) -> DateTime {
        self.0.joined_at.into()
    }
}

impl From<domain::Member> for Member {
    fn from(member: domain::Member) -> Self {
        Self(member)
    }
}

connection! {
    /// A page of a conversation's members, in a fixed order.
    MemberConnection,
    /// A member at its place in the list.
    MemberEdge,
    Member
}
