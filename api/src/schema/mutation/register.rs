//! A new user, signed in at once.

use async_graphql::{Context, InputObject, SimpleObject};
use domain::{
    ServiceResult,
    service::register::{Register, SignedIn},
};

use crate::schema::{
    error::{Result, settle},
    request::RequestContext,
    types::{session::Credentials, user::User, user_error::UserError},
};

/// Who registers, and from which device.
#[derive(InputObject)]
pub struct RegisterInput {
    /// The name to sign in with: 1 to 64 letters, digits or ASCII symbols without spaces (the PRECIS profile
    /// `UsernameCaseMapped`, RFC 8265), unique without regard to case and width. It cannot be changed.
    username: String,
    /// 8 to 128 characters, any Unicode, kept as typed.
    password: String,
    /// The name to show to people: 1 to 64 characters, without control and bidirectional formatting characters.
    display_name: String,
    /// What to call this device in `sessions`: 1 to 64 characters. Null leaves it without a name.
    device_name: Option<String>,
}

/// The answer to `register`.
#[derive(SimpleObject)]
pub struct RegisterPayload {
    /// The new user; null when there are user errors.
    user: Option<User>,
    /// What this device needs from now on; null when there are user errors.
    credentials: Option<Credentials>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn register(ctx: &Context<'_>, input: RegisterInput) -> Result<RegisterPayload> {
    let (signed_in, user_errors) = settle(run(ctx, input).await)?;
    let (user, credentials) = signed_in.map(|it| (it.user.into(), it.credentials.into())).unzip();
    Ok(RegisterPayload { user, credentials, user_errors })
}

async fn run(ctx: &Context<'_>, input: RegisterInput) -> ServiceResult<SignedIn> {
    let RegisterInput { username, password, display_name, device_name } = input;
    let command = Register { username, password, display_name, device_name, address: ctx.address() };
    ctx.chat().register(command).await
}
