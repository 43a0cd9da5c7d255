//! Signing in, tokens that are renewed before they end, and operations over HTTP.

use std::time::Duration;

use cynic::{GraphQlResponse, MutationBuilder, Operation};
use jiff::Timestamp;
use reqwest::Url;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::{Mutex, watch};

use crate::operations::{
    Credentials, RefreshSession, RefreshSessionVariables, Register, RegisterInput, RegisterVariables, SignIn,
    SignInInput, SignInVariables, User, UserError, UserErrorCode,
};

/// How long before its end an access token, which lives for 15 minutes, is renewed.
const MARGIN: Duration = Duration::from_secs(60);
/// After this an answer is taken for lost.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the user did wrong.
    #[error("{message}")]
    Refused { code: UserErrorCode, message: String },
    /// The server could not do it, or not now.
    #[error("{code}: {message}")]
    Failed { code: String, message: String, retryable: bool },
    /// No answer came; what was asked may have been done.
    #[error("no answer: {0}")]
    Lost(String),
}

impl Error {
    pub fn worth_retrying(&self) -> bool {
        matches!(self, Error::Lost(_) | Error::Failed { retryable: true, .. })
    }
}

/// The payload of a mutation, unless it was refused.
pub fn accepted(errors: Vec<UserError>) -> Result<(), Error> {
    match errors.into_iter().next() {
        Some(UserError { code, message }) => Err(Error::Refused { code, message }),
        None => Ok(()),
    }
}

/// What is not null unless something was refused or failed, which was told before.
pub fn present<T>(value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::Lost("null where a value was due".to_owned()))
}

#[derive(Deserialize)]
struct Extensions {
    code: String,
    #[serde(default)]
    retryable: bool,
}

async fn post<Data: DeserializeOwned, Variables: Serialize>(
    http: &reqwest::Client,
    url: &Url,
    operation: &Operation<Data, Variables>,
    token: Option<&str>,
) -> Result<Data, Error> {
    let lost = |error: reqwest::Error| Error::Lost(error.to_string());
    let mut request = http.post(url.clone()).timeout(REQUEST_TIMEOUT).json(operation);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.map_err(lost)?;
    let answer: GraphQlResponse<Data, Extensions> = response.json().await.map_err(lost)?;
    if let Some(error) = answer.errors.unwrap_or_default().pop() {
        let (code, retryable) = error.extensions.map_or((String::new(), false), |it| (it.code, it.retryable));
        return Err(Error::Failed { code, message: error.message, retryable });
    }
    present(answer.data)
}

/// A signed-in device.
pub struct Session {
    pub url: Url,
    pub user: User,
    http: reqwest::Client,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    credentials: watch::Sender<Credentials>,
    /// Held while a refresh token is exchanged, as each works once.
    renewal: Mutex<()>,
}

impl Session {
    pub async fn register(url: Url, input: RegisterInput) -> Result<Session, Error> {
        let http = reqwest::Client::new();
        let operation = Register::build(RegisterVariables { input });
        let payload = present(post(&http, &url, &operation, None).await?.register)?;
        accepted(payload.user_errors)?;
        Ok(Session::new(url, present(payload.user)?, present(payload.credentials)?))
    }

    pub async fn sign_in(url: Url, input: SignInInput) -> Result<Session, Error> {
        let http = reqwest::Client::new();
        let operation = SignIn::build(SignInVariables { input });
        let payload = present(post(&http, &url, &operation, None).await?.sign_in)?;
        accepted(payload.user_errors)?;
        Ok(Session::new(url, present(payload.user)?, present(payload.credentials)?))
    }

    /// Goes on with credentials that were kept.
    pub fn new(url: Url, user: User, credentials: Credentials) -> Session {
        let http = reqwest::Client::new();
        let (credentials, _) = watch::channel(credentials);
        Session { url, user, http, clock: Box::new(Timestamp::now), credentials, renewal: Mutex::new(()) }
    }

    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Session {
        Session { clock: Box::new(clock), ..self }
    }

    /// As they are, and each time that they are renewed.
    pub fn credentials(&self) -> watch::Receiver<Credentials> {
        self.credentials.subscribe()
    }

    pub fn until_renewal(&self) -> Duration {
        let now = (self.clock)();
        let left = self.credentials.borrow().access_token_expires_at.duration_since(now);
        Duration::try_from(left).unwrap_or_default().saturating_sub(MARGIN)
    }

    /// An access token that is good for a while, with the refresh token beside it.
    pub async fn fresh(&self) -> Result<Credentials, Error> {
        let credentials = self.credentials.borrow().clone();
        if !self.until_renewal().is_zero() {
            return Ok(credentials);
        }
        self.renew(&credentials).await?;
        Ok(self.credentials.borrow().clone())
    }

    /// Exchanges the refresh token for new credentials, unless somebody has done so meanwhile.
    pub async fn renew(&self, ended: &Credentials) -> Result<(), Error> {
        let _turn = self.renewal.lock().await;
        let refresh_token = self.credentials.borrow().refresh_token.clone();
        // Only refresh tokens are all different: access tokens of the same second are not.
        if refresh_token != ended.refresh_token {
            return Ok(());
        }
        let operation = RefreshSession::build(RefreshSessionVariables { refresh_token });
        let payload = present(post(&self.http, &self.url, &operation, None).await?.refresh_session)?;
        accepted(payload.user_errors)?;
        self.credentials.send_replace(present(payload.credentials)?);
        Ok(())
    }

    /// One operation; a token that the server no longer takes is renewed, once, and the operation sent again.
    pub async fn ask<Data: DeserializeOwned, Variables: Serialize>(
        &self,
        operation: &Operation<Data, Variables>,
    ) -> Result<Data, Error> {
        let used = self.fresh().await?;
        match post(&self.http, &self.url, operation, Some(&used.access_token)).await {
            Err(Error::Failed { code, .. }) if code == "UNAUTHENTICATED" => {
                self.renew(&used).await?;
                let used = self.fresh().await?;
                post(&self.http, &self.url, operation, Some(&used.access_token)).await
            }
            answer => answer,
        }
    }
}
