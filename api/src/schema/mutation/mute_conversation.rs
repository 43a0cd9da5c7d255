//! No pushes about a conversation.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::{ServiceResult, Timestamp};

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::{scalars::DateTime, user_error::UserError},
};

/// Which conversation, and for how long.
#[derive(InputObject)]
pub struct MuteConversationInput {
    /// One of the viewer's conversations.
    conversation_id: ID,
    /// Null: until further notice. A time that has passed ends it.
    until: Option<DateTime>,
}

/// The answer to `muteConversation`.
#[derive(SimpleObject)]
pub struct MuteConversationPayload {
    /// Until when the conversation is muted; null when it is not, or when there are user errors.
    muted_until: Option<DateTime>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn mute_conversation(
    ctx: &Context<'_>,
    input: MuteConversationInput,
) -> Result<MuteConversationPayload> {
    let (muted_until, user_errors) = settle(run(ctx, input).await)?;
    Ok(MuteConversationPayload { muted_until: muted_until.flatten(), user_errors })
}

async fn run(ctx: &Context<'_>, input: MuteConversationInput) -> ServiceResult<Option<DateTime>> {
    let caller = ctx.caller()?;
    let conversation = id::input(&["conversationId"], &input.conversation_id)?;
    let until = input.until.map_or(Timestamp::FAR, |until| until.0);
    let chat = ctx.chat();
    chat.mute_conversation(caller, conversation, until).await?;
    Ok((until > chat.clock().now()).then_some(until.into()))
}
