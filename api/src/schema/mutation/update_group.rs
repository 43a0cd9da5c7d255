//! A group's title.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::{ServiceResult, Title, service::update_group::UpdateGroup};

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::{conversation::Conversation, user_error::UserError},
};

/// What to change in which group.
#[derive(InputObject)]
pub struct UpdateGroupInput {
    /// The group.
    conversation_id: ID,
    /// Its new title: 1 to 200 characters, without control and bidirectional formatting characters. Null leaves it as it is.
    title: Option<String>,
}

/// The answer to `updateGroup`.
#[derive(SimpleObject)]
pub struct UpdateGroupPayload {
    /// The conversation as it is now; null when there are user errors.
    conversation: Option<Conversation>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn update_group(ctx: &Context<'_>, input: UpdateGroupInput) -> Result<UpdateGroupPayload> {
    let (conversation, user_errors) = settle(run(ctx, input).await)?;
    Ok(UpdateGroupPayload { conversation, user_errors })
}

async fn run(ctx: &Context<'_>, input: UpdateGroupInput) -> ServiceResult<Conversation> {
    let caller = ctx.caller()?;
    let command = UpdateGroup {
        conversation: id::input(&["conversationId"], &input.conversation_id)?,
        title: input.title.map(Title::new).transpose()?,
    };
    Ok(ctx.chat().update_group(caller, command).await?.into())
}
