//! The viewer types, or has stopped.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::{scalars::DateTime, user_error::UserError},
};

/// Where, and whether.
#[derive(InputObject)]
pub struct SetTypingInput {
    /// One of the viewer's conversations.
    conversation_id: ID,
    /// True when the viewer begins to type and again every few seconds while they do; false when they stop.
    typing: bool,
}

/// The answer to `setTyping`.
#[derive(SimpleObject)]
pub struct SetTypingPayload {
    /// Until when it holds unless it is said again: 6 seconds. Null when nobody is told: the viewer has stopped, typing is switched off
    /// here, or the group is large (more than 500 members, unless the operator says otherwise); and when there are user errors.
    expires_at: Option<DateTime>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn set_typing(ctx: &Context<'_>, input: SetTypingInput) -> Result<SetTypingPayload> {
    let (expires_at, user_errors) = settle(run(ctx, input).await)?;
    Ok(SetTypingPayload { expires_at: expires_at.flatten(), user_errors })
}

async fn run(ctx: &Context<'_>, input: SetTypingInput) -> ServiceResult<Option<DateTime>> {
    let caller = ctx.caller()?;
    let conversation = id::input(&["conversationId"], &input.conversation_id)?;
    let until = ctx.chat().set_typing(caller, conversation, input.typing).await?;
    Ok(until.map(DateTime::from))
}
