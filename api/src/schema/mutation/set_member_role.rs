//! A member's role.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::{ServiceResult, service::set_member_role::SetMemberRole};

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::{
        member::{Member, MemberRole},
        user_error::UserError,
    },
};

/// Whose role to change in which group.
#[derive(InputObject)]
pub struct SetMemberRoleInput {
    /// The group.
    conversation_id: ID,
    /// The member.
    user_id: ID,
    /// The role the member shall have.
    role: MemberRole,
}

/// The answer to `setMemberRole`.
#[derive(SimpleObject)]
pub struct SetMemberRolePayload {
    /// The membership as it is now; null when there are user errors.
    member: Option<Member>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn set_member_role(ctx: &Context<'_>, input: SetMemberRoleInput) -> Result<SetMemberRolePayload> {
    let (member, user_errors) = settle(run(ctx, input).await)?;
    Ok(SetMemberRolePayload { member, user_errors })
}

async fn run(ctx: &Context<'_>, input: SetMemberRoleInput) -> ServiceResult<Member> {
    let caller = ctx.caller()?;
    let command = SetMemberRole {
        conversation: id::input(&["conversationId"], &input.conversation_id)?,
        user: id::input(&["userId"], &input.user_id)?,
        role: input.role.into(),
    };
    Ok(ctx.chat().set_member_role(caller, command).await?.into())
}
