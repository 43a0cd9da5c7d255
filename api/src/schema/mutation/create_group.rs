//! A new group.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::{ClientKey, ServiceResult, Title, service::create_group::CreateGroup};

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::{conversation::Conversation, user_error::UserError},
};

/// What the group shall be.
#[derive(InputObject)]
pub struct CreateGroupInput {
    /// Its title: 1 to 200 characters, without control and bidirectional formatting characters.
    title: String,
    /// Whom to add at once beside the viewer, at most 100 users; `addMembers` adds more.
    member_ids: Vec<ID>,
    /// A key of the client's own choice, 1 to 64 visible ASCII characters, that makes it safe to send this again: the
    /// viewer gets the group first created with it. With another title or other members it is `IDEMPOTENCY_CONFLICT`.
    client_key: Option<String>,
}

/// The answer to `createGroup`.
#[derive(SimpleObject)]
pub struct CreateGroupPayload {
    /// The new group; null when there are user errors.
    conversation: Option<Conversation>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn create_group(ctx: &Context<'_>, input: CreateGroupInput) -> Result<CreateGroupPayload> {
    let (conversation, user_errors) = settle(run(ctx, input).await)?;
    Ok(CreateGroupPayload { conversation, user_errors })
}

async fn run(ctx: &Context<'_>, input: CreateGroupInput) -> ServiceResult<Conversation> {
    let caller = ctx.caller()?;
    let command = CreateGroup {
        title: Title::new(input.title)?,
        members: id::inputs(&["memberIds"], &input.member_ids, ctx.chat().limits().ids_max)?,
        client_key: input.client_key.map(|key| ClientKey::new(&["clientKey"], key)).transpose()?,
    };
    Ok(ctx.chat().create_group(caller, command).await?.into())
}
