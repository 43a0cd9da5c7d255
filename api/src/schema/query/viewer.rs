//! Who is signed in.

use async_graphql::Context;

use crate::schema::{error::Result, request::RequestContext, types::user::User};

pub async fn viewer(ctx: &Context<'_>) -> Result<Option<User>> {
    let Some(caller) = &ctx.viewer().0 else { return Ok(None) };
    Ok(ctx.loaders().user(caller.user).await?.map(User::from))
}
