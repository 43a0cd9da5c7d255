//! Who may know whether the viewer is there.

use async_graphql::Context;

use crate::schema::{error::Result, request::RequestContext, types::presence::PresenceVisibility};

pub async fn presence_visibility(ctx: &Context<'_>) -> Result<Option<PresenceVisibility>> {
    let Some(caller) = &ctx.viewer().0 else { return Ok(None) };
    Ok(Some(ctx.chat().presence_visibility(caller).await?.into()))
}
