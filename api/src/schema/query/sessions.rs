//! The viewer's signed-in devices.

use async_graphql::Context;

use crate::schema::{error::Result, request::RequestContext, types::session::Session};

pub async fn sessions(ctx: &Context<'_>) -> Result<Option<Vec<Session>>> {
    let Some(caller) = &ctx.viewer().0 else { return Ok(None) };
    let sessions = ctx.chat().sessions(caller).await?;
    Ok(Some(sessions.into_iter().map(|session| Session::new(session, caller.session)).collect()))
}
