//! Nobody looks at this device, or somebody does again.

use async_graphql::{Context, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::{
    connection::ConnectionRenewal,
    schema::{
        error::{Result, bad_request, settle},
        request::RequestContext,
        types::user_error::UserError,
    },
};

/// Whether somebody looks at the device.
#[derive(InputObject)]
pub struct SetPresenceInput {
    /// True: nobody looks at it. Holds for this session until it says otherwise or has been gone for 10 seconds.
    away: bool,
}

/// The answer to `setPresence`.
#[derive(SimpleObject)]
pub struct SetPresencePayload {
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

#[expect(clippy::unused_async, reason = "one shape for every mutation")]
pub async fn set_presence(ctx: &Context<'_>, input: SetPresenceInput) -> Result<SetPresencePayload> {
    let (_, user_errors) = settle(run(ctx, &input))?;
    Ok(SetPresencePayload { user_errors })
}

fn run(ctx: &Context<'_>, input: &SetPresenceInput) -> ServiceResult<()> {
    let caller = ctx.caller()?;
    // The node that holds the session's subscription has to hear it.
    let socket = ctx.data_opt::<ConnectionRenewal>();
    socket.ok_or_else(|| bad_request("this is said of a WebSocket's session: send it on that WebSocket"))?;
    ctx.chat().set_away(caller, input.away);
    Ok(())
}
