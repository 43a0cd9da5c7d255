//! New members of a group.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::{ServiceResult, service::add_members::AddMembers};

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::{conversation::Conversation, user_error::UserError},
};

/// Whom to add to which group.
#[derive(InputObject)]
pub struct AddMembersInput {
    /// The group.
    conversation_id: ID,
    /// Whom to add, at most 100 users in one call. A group has at most 100,000 members.
    user_ids: Vec<ID>,
}

/// The answer to `addMembers`.
#[derive(SimpleObject)]
pub struct AddMembersPayload {
    /// The conversation as it is now; null when there are user errors.
    conversation: Option<Conversation>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn add_members(ctx: &Context<'_>, input: AddMembersInput) -> Result<AddMembersPayload> {
    let (conversation, user_errors) = settle(run(ctx, input).await)?;
    Ok(AddMembersPayload { conversation, user_errors })
}

async fn run(ctx: &Context<'_>, input: AddMembersInput) -> ServiceResult<Conversation> {
    let caller = ctx.caller()?;
    let command = AddMembers {
        conversation: id::input(&["conversationId"], &input.conversation_id)?,
        users: id::inputs(&["userIds"], &input.user_ids, ctx.chat().limits().ids_max)?,
    };
    Ok(ctx.chat().add_members(caller, command).await?.into())
}
