//! No pushes at some hours of the day.

use async_graphql::{Context, InputObject, SimpleObject};
use domain::ServiceResult;

use crate::schema::{
    error::{Result, settle},
    request::RequestContext,
    types::{
        push::{QuietHours, minute},
        user_error::UserError,
    },
};

/// Which hours.
#[derive(InputObject)]
pub struct SetQuietHoursInput {
    /// Null: none.
    quiet_hours: Option<QuietHoursInput>,
}

/// Hours of every day. They go past midnight when they end before they start.
#[derive(InputObject)]
pub struct QuietHoursInput {
    /// The first minute, `00:00` to `23:59`.
    starts: String,
    /// The first minute after them, `00:00` to `23:59`; another than `starts`.
    ends: String,
    /// Whose clock it is: a name of the IANA database, such as `Europe/Berlin`.
    time_zone: String,
}

/// The answer to `setQuietHours`.
#[derive(SimpleObject)]
pub struct SetQuietHoursPayload {
    /// As they are now; null when there are none, or when there are user errors.
    quiet_hours: Option<QuietHours>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn set_quiet_hours(ctx: &Context<'_>, input: SetQuietHoursInput) -> Result<SetQuietHoursPayload> {
    let (quiet_hours, user_errors) = settle(run(ctx, input).await)?;
    Ok(SetQuietHoursPayload { quiet_hours: quiet_hours.flatten(), user_errors })
}

async fn run(ctx: &Context<'_>, input: SetQuietHoursInput) -> ServiceResult<Option<QuietHours>> {
    let caller = ctx.caller()?;
    let hours = input.quiet_hours.map(|hours| {
        let (starts, ends) = (minute(&hours.starts), minute(&hours.ends));
        // -1 is refused with the field's name.
        domain::QuietHours::new(starts.unwrap_or(-1), ends.unwrap_or(-1), hours.time_zone)
    });
    let hours = hours.transpose()?;
    ctx.chat().set_quiet_hours(caller, hours.clone()).await?;
    Ok(hours.map(QuietHours::from))
}
