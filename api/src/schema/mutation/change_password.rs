//! A new password, which ends all other sessions.

use async_graphql::{Context, InputObject, SimpleObject};
use domain::{ServiceResult, service::change_password::ChangePassword};

use crate::schema::{
    error::{Result, settle},
    request::RequestContext,
    types::user_error::UserError,
};

/// The password as it is and as it shall be.
#[derive(InputObject)]
pub struct ChangePasswordInput {
    /// The password as it is, to prove who asks.
    current_password: String,
    /// The password as it shall be: 8 to 128 characters, any Unicode, kept as typed.
    new_password: String,
}

/// The answer to `changePassword`.
#[derive(SimpleObject)]
pub struct ChangePasswordPayload {
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn change_password(ctx: &Context<'_>, input: ChangePasswordInput) -> Result<ChangePasswordPayload> {
    let (_, user_errors) = settle(run(ctx, input).await)?;
    Ok(ChangePasswordPayload { user_errors })
}

async fn run(ctx: &Context<'_>, input: ChangePasswordInput) -> ServiceResult<()> {
    let caller = ctx.caller()?;
    let ChangePasswordInput { current_password, new_password } = input;
    ctx.chat().change_password(caller, ChangePassword { current_password, new_password }).await
}
