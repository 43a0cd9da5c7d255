//! Signed-in devices, and what they sign in with.

use async_graphql::{Context, ID, Object, SimpleObject};
use domain::SessionId;

use super::{push::PushProvider, scalars::DateTime};
use crate::schema::{
    error::{Failure, Nullable},
    request::RequestContext,
};

/// A signed-in device, as its user sees it from one of them.
pub struct Session {
    session: domain::Session,
    current: bool,
}

impl Session {
    pub fn new(session: domain::Session, calling: SessionId) -> Self {
        Self { current: session.id == calling, session }
    }
}

/// One signed-in device of the viewer. Only the viewer sees it.
#[Object]
impl Session {
    /// Identifies the session; `signOut` takes it.
    pub async fn id(&self) -> ID {
        self.session.id.into()
    }

    /// What the device called itself when it signed in, 1 to 64 characters; null when it gave no name.
    async fn device_name(&self) -> Option<&str> {
        self.session.device_name.as_deref()
    }

    /// When the device signed in.
    async fn created_at(&self) -> DateTime {
        self.session.created_at.into()
    }

    /// When the device last signed in or refreshed its credentials, or closed its last subscription to `events`.
    async fn last_used_at(&self) -> DateTime {
        self.session.last_used_at.into()
    }

    /// Who delivers pushes to the device; null when it has asked for none.
    async fn push_provider(&self, ctx: &Context<'_>) -> Nullable<PushProvider> {
        let provider = ctx.loaders().push_provider(self.session.id).await.transpose()?;
        Some(provider.map(PushProvider::from).map_err(Failure::from))
    }

    /// Whether this is the session that asks.
    async fn current(&self) -> bool {
        self.current
    }
}

/// What a device needs to act for its user. Keep both tokens secret.
#[derive(SimpleObject)]
pub struct Credentials {
    /// Proves who calls, for at most 15 minutes: `Authorization: Bearer …` over HTTP, `{"authorization": "Bearer …"}` as
    /// payload of `connection_init` over WebSocket.
    access_token: String,
    /// When the access token ends. Refresh the session before.
    access_token_expires_at: DateTime,
    /// Buys the next credentials with `refreshSession`, once.
    refresh_token: String,
}

impl From<domain::Credentials> for Credentials {
    fn from(credentials: domain::Credentials) -> Self {
        Self {
            access_token: credentials.access_token,
            access_token_expires_at: credentials.access_token_expires_at.into(),
            refresh_token: credentials.refresh_token,
        }
    }
}
