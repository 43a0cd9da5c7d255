//! When the viewer is not pushed to.

use async_graphql::Context;

use crate::schema::{error::Result, request::RequestContext, types::push::QuietHours};

pub async fn quiet_hours(ctx: &Context<'_>) -> Result<Option<QuietHours>> {
    let Some(caller) = &ctx.viewer().0 else { return Ok(None) };
    Ok(ctx.chat().quiet_hours(caller).await?.map(QuietHours::from))
}
