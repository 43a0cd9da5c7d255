//! A person by id or username.

use async_graphql::{Context, ID, OneofObject};

use crate::schema::{error::Result, id, request::RequestContext, types::user::User};

/// By what to look a person up: exactly one of the fields.
#[derive(OneofObject)]
pub enum UserBy {
    /// The person's id.
    Id(ID),
    /// The person's username, without regard to case and width.
    Username(String),
}

pub async fn user(ctx: &Context<'_>, by: UserBy) -> Result<Option<User>> {
    let caller = ctx.caller()?;
    let user = match by {
        UserBy::Id(id) => ctx.loaders().user(id::argument(&id)?).await?,
        UserBy::Username(username) => ctx.chat().user_by_username(caller, &username).await?,
    };
    Ok(user.map(User::from))
}
