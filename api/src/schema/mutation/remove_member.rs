//! A member is removed from a group.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::{ServiceResult, service::remove_member::RemoveMember};

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::{conversation::Conversation, user_error::UserError},
};

/// Whom to remove from which group.
#[derive(InputObject)]
pub struct RemoveMemberInput {
    /// The group.
    conversation_id: ID,
    /// The member to remove.
    user_id: ID,
}

/// The answer to `removeMember`.
#[derive(SimpleObject)]
pub struct RemoveMemberPayload {
    /// The conversation as it is now; null when there are user errors.
    conversation: Option<Conversation>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn remove_member(ctx: &Context<'_>, input: RemoveMemberInput) -> Result<RemoveMemberPayload> {
    let (conversation, user_errors) = settle(run(ctx, input).await)?;
    Ok(RemoveMemberPayload { conversation, user_errors })
}

async fn run(ctx: &Context<'_>, input: RemoveMemberInput) -> ServiceResult<Conversation> {
    let caller = ctx.caller()?;
    let command = RemoveMember {
        conversation: id::input(&["conversationId"], &input.conversation_id)?,
        user: id::input(&["userId"], &input.user_id)?,
    };
    Ok(ctx.chat().remove_member(caller, command).await?.into())
}
