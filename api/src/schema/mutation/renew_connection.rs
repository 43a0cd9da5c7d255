//! A socket outlives the token it was opened with.

use async_graphql::{Context, InputObject, SimpleObject};
use domain::{ServiceError, ServiceResult};

use crate::{
    connection::ConnectionRenewal,
    schema::{
        error::{Result, bad_request, settle},
        request::RequestContext,
        types::user_error::UserError,
    },
};

/// The newer access token.
#[derive(InputObject)]
pub struct RenewConnectionInput {
    /// An access token of the session that opened the socket, not yet expired.
    access_token: String,
}

/// The answer to `renewConnection`.
#[derive(SimpleObject)]
pub struct RenewConnectionPayload {
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

#[expect(clippy::unused_async, reason = "one shape for every mutation")]
pub async fn renew_connection(
    ctx: &Context<'_>,
    input: RenewConnectionInput,
) -> Result<RenewConnectionPayload> {
    let (_, user_errors) = settle(run(ctx, &input))?;
    Ok(RenewConnectionPayload { user_errors })
}

fn run(ctx: &Context<'_>, input: &RenewConnectionInput) -> ServiceResult<()> {
    let caller = ctx.caller()?;
    let renewal = ctx.data_opt::<ConnectionRenewal>();
    let renewal = renewal.ok_or_else(|| bad_request("this renews a WebSocket: send it on one"))?;
    let renewed = ctx.chat().authenticate(&input.access_token)?;
    if renewed.session != caller.session {
        return Err(ServiceError::unauthenticated("the token is of another session"));
    }
    renewal.renew(renewed);
    Ok(())
}
