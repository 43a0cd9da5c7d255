//! A conversation by id.

use async_graphql::{Context, ID};

use crate::schema::{error::Result, id, request::RequestContext, types::conversation::Conversation};

pub async fn conversation(ctx: &Context<'_>, id: &ID) -> Result<Option<Conversation>> {
    ctx.caller()?;
    Ok(ctx.loaders().conversation(id::argument(id)?).await?.map(Conversation::from))
}
