//! The end of a session.

use async_graphql::{Context, ID, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::schema::{
    error::{Result, settle},
    id,
    request::RequestContext,
    types::user_error::UserError,
};

/// Which session to end.
#[derive(InputObject)]
pub struct SignOutInput {
    /// One of the viewer's sessions. Null ends the one that asks.
    session_id: Option<ID>,
}

/// The answer to `signOut`.
#[derive(SimpleObject)]
pub struct SignOutPayload {
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn sign_out(ctx: &Context<'_>, input: SignOutInput) -> Result<SignOutPayload> {
    let (_, user_errors) = settle(run(ctx, input).await)?;
    Ok(SignOutPayload { user_errors })
}

async fn run(ctx: &Context<'_>, input: SignOutInput) -> ServiceResult<()> {
    let caller = ctx.caller()?;
    let session = input.session_id.map(|id| id::input(&["sessionId"], &id)).transpose()?;
    ctx.chat().sign_out(caller, session).await
}
