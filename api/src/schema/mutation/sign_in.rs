//! A known user on a new device.

use async_graphql::{Context, InputObject, SimpleObject};
use domain::{
    ServiceResult,
    service::{register::SignedIn, sign_in::SignIn},
};

use crate::schema::{
    error::{Result, settle},
    request::RequestContext,
    types::{session::Credentials, user::User, user_error::UserError},
};

/// Who signs in, and on which device.
#[derive(InputObject)]
pub struct SignInInput {
    /// The name the user registered with, without regard to case and width.
    username: String,
    /// The user's password.
    password: String,
    /// What to call this device in `sessions`: 1 to 64 characters. Null leaves it without a name.
    device_name: Option<String>,
}

/// The answer to `signIn`.
#[derive(SimpleObject)]
pub struct SignInPayload {
    /// Who is signed in; null when there are user errors.
    user: Option<User>,
    /// What this device needs from now on; null when there are user errors.
    credentials: Option<Credentials>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn sign_in(ctx: &Context<'_>, input: SignInInput) -> Result<SignInPayload> {
    let (signed_in, user_errors) = settle(run(ctx, input).await)?;
    let (user, credentials) = signed_in.map(|it| (it.user.into(), it.credentials.into())).unzip();
    Ok(SignInPayload { user, credentials, user_errors })
}

async fn run(ctx: &Context<'_>, input: SignInInput) -> ServiceResult<SignedIn> {
    let SignInInput { username, password, device_name } = input;
    let command = SignIn { username, password, device_name, address: ctx.address() };
    ctx.chat().sign_in(command).await
}
