//! A device asks for no more pushes.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::user_error::UserError,
};

/// Which device.
#[derive(InputObject)]
pub struct UnregisterDeviceInput {
    /// One of the viewer's sessions. Null: the one that asks.
    session_id: Option<ID>,
}

/// The answer to `unregisterDevice`.
#[derive(SimpleObject)]
pub struct UnregisterDevicePayload {
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn unregister_device(
    ctx: &Context<'_>,
    input: UnregisterDeviceInput,
) -> Result<UnregisterDevicePayload> {
    let (_, user_errors) = settle(run(ctx, input).await)?;
    Ok(UnregisterDevicePayload { user_errors })
}

async fn run(ctx: &Context<'_>, input: UnregisterDeviceInput) -> ServiceResult<()> {
    let caller = ctx.caller()?;
    let session = input.session_id.map(|id| id::input(&["sessionId"], &id)).transpose()?;
    ctx.chat().unregister_device(caller, session.unwrap_or(caller.session)).await
}
