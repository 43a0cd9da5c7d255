//! Who may know whether the viewer is there.

use async_graphql::{Context, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::schema::{
    error::{Result, settle},
    request::RequestContext,
    types::{presence::PresenceVisibility, user_error::UserError},
};

/// Who may know.
#[derive(InputObject)]
pub struct SetPresenceVisibilityInput {
    /// Who may know from now on.
    presence_visibility: PresenceVisibility,
}

/// The answer to `setPresenceVisibility`.
#[derive(SimpleObject)]
pub struct SetPresenceVisibilityPayload {
    /// As it is now; null when there are user errors.
    presence_visibility: Option<PresenceVisibility>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn set_presence_visibility(
    ctx: &Context<'_>,
    input: SetPresenceVisibilityInput,
) -> Result<SetPresenceVisibilityPayload> {
    let (presence_visibility, user_errors) = settle(run(ctx, input.presence_visibility).await)?;
    Ok(SetPresenceVisibilityPayload { presence_visibility, user_errors })
}

async fn run(ctx: &Context<'_>, visibility: PresenceVisibility) -> ServiceResult<PresenceVisibility> {
    ctx.chat().set_presence_visibility(ctx.caller()?, visibility.into()).await?;
    Ok(visibility)
}
