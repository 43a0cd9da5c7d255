//! The one conversation of two people.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::{conversation::Conversation, user_error::UserError},
};

/// With whom to open a conversation.
#[derive(InputObject)]
pub struct OpenDirectConversationInput {
    /// The other person; not the viewer.
    user_id: ID,
}

/// The answer to `openDirectConversation`.
#[derive(SimpleObject)]
pub struct OpenDirectConversationPayload {
    /// The conversation of the two; null when there are user errors.
    conversation: Option<Conversation>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn open_direct_conversation(
    ctx: &Context<'_>,
    input: OpenDirectConversationInput,
) -> Result<OpenDirectConversationPayload> {
    let (conversation, user_errors) = settle(run(ctx, input).await)?;
    Ok(OpenDirectConversationPayload { conversation, user_errors })
}

async fn run(ctx: &Context<'_>, input: OpenDirectConversationInput) -> ServiceResult<Conversation> {
    let caller = ctx.caller()?;
    let other = id::input(&["userId"], &input.user_id)?;
    Ok(ctx.chat().open_direct_conversation(caller, other).await?.into())
}
