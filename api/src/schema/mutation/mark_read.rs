//! A read position moves forward.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::{ServiceResult, service::mark_read::MarkRead};

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::{conversation::Conversation, user_error::UserError},
};

/// How far the viewer has read in which conversation.
#[derive(InputObject)]
pub struct MarkReadInput {
    /// The conversation.
    conversation_id: ID,
    /// The `seq` of the last message read, at most the conversation's `lastSeq`.
    seq: i32,
}

/// The answer to `markRead`.
#[derive(SimpleObject)]
pub struct MarkReadPayload {
    /// The conversation as it is now; null when there are user errors.
    conversation: Option<Conversation>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn mark_read(ctx: &Context<'_>, input: MarkReadInput) -> Result<MarkReadPayload> {
    let (conversation, user_errors) = settle(run(ctx, input).await)?;
    Ok(MarkReadPayload { conversation, user_errors })
}

async fn run(ctx: &Context<'_>, input: MarkReadInput) -> ServiceResult<Conversation> {
    let caller = ctx.caller()?;
    let conversation = id::input(&["conversationId"], &input.conversation_id)?;
    Ok(ctx.chat().mark_read(caller, MarkRead { conversation, seq: input.seq }).await?.into())
}
