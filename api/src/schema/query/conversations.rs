//! The viewer's conversations.

use async_graphql::Context;
use domain::Direction;

use crate::schema::{
    error::Result,
    paging::PageArguments,
    request::RequestContext,
    types::conversation::{Conversation, ConversationConnection},
};

pub async fn conversations(
    ctx: &Context<'_>,
    arguments: PageArguments,
) -> Result<Option<ConversationConnection>> {
    let caller = ctx.caller()?;
    let request = arguments.request(Direction::Forward)?;
    let page = ctx.chat().list_conversations(caller, &request).await?;
    Ok(Some(page.map(Conversation::from).into()))
}
