//! What others read about the viewer.

use async_graphql::{Context, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::schema::{
    error::{Result, settle},
    request::RequestContext,
    types::{user::User, user_error::UserError},
};

/// What to change.
#[derive(InputObject)]
pub struct UpdateProfileInput {
    /// The name to show to people: 1 to 64 characters, without control and bidirectional formatting characters. Null
    /// leaves it as it is.
    display_name: Option<String>,
}

/// The answer to `updateProfile`.
#[derive(SimpleObject)]
pub struct UpdateProfilePayload {
    /// The viewer as others see them now; null when there are user errors.
    user: Option<User>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn update_profile(ctx: &Context<'_>, input: UpdateProfileInput) -> Result<UpdateProfilePayload> {
    let (user, user_errors) = settle(run(ctx, input).await)?;
    Ok(UpdateProfilePayload { user, user_errors })
}

async fn run(ctx: &Context<'_>, input: UpdateProfileInput) -> ServiceResult<User> {
    let caller = ctx.caller()?;
    Ok(ctx.chat().update_profile(caller, input.display_name).await?.into())
}
