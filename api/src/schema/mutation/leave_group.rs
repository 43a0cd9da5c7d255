//! The caller leaves a group.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::user_error::UserError,
};

/// Which group to leave.
#[derive(InputObject)]
pub struct LeaveGroupInput {
    /// The group.
    conversation_id: ID,
}

/// The answer to `leaveGroup`.
#[derive(SimpleObject)]
pub struct LeaveGroupPayload {
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn leave_group(ctx: &Context<'_>, input: LeaveGroupInput) -> Result<LeaveGroupPayload> {
    let (_, user_errors) = settle(run(ctx, input).await)?;
    Ok(LeaveGroupPayload { user_errors })
}

async fn run(ctx: &Context<'_>, input: LeaveGroupInput) -> ServiceResult<()> {
    let caller = ctx.caller()?;
    let conversation = id::input(&["conversationId"], &input.conversation_id)?;
    ctx.chat().leave_group(caller, conversation).await
}
