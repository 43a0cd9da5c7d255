//! New credentials for a spent refresh token.

use async_graphql::{Context, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::schema::{
    error::{Result, settle},
    request::RequestContext,
    types::{session::Credentials, user_error::UserError},
};

/// The refresh token to exchange.
#[derive(InputObject)]
pub struct RefreshSessionInput {
    /// The `refreshToken` of the session's latest credentials.
    refresh_token: String,
}

/// The answer to `refreshSession`.
#[derive(SimpleObject)]
pub struct RefreshSessionPayload {
    /// The session's new credentials; null when there are user errors.
    credentials: Option<Credentials>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn refresh_session(ctx: &Context<'_>, input: RefreshSessionInput) -> Result<RefreshSessionPayload> {
    let (credentials, user_errors) = settle(run(ctx, input).await)?;
    Ok(RefreshSessionPayload { credentials, user_errors })
}

async fn run(ctx: &Context<'_>, input: RefreshSessionInput) -> ServiceResult<Credentials> {
    Ok(ctx.chat().refresh_session(&input.refresh_token).await?.into())
}
