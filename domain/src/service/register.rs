//! A new user, signed in at once.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::{
    Chat, Credentials, DisplayName, ErrorCode, Password, ServiceError, ServiceResult, Session, SessionId,
    User, UserId, Username,
    model::text::check_device_name,
    port::{StoreError, accounts::NewSession},
};

#[derive(Clone)]
pub struct Register {
    pub username: String,
    pub password: String,
    pub display_name: String,
    pub device_name: Option<String>,
    /// Limits count against it.
    pub address: Option<IpAddr>,
}

/// A user with what their device needs from now on.
#[derive(Clone)]
pub struct SignedIn {
    pub user: User,
    pub credentials: Credentials,
}

impl Chat {
    pub async fn register(&self, command: Register) -> ServiceResult<SignedIn> {
        let username = Username::new(&command.username)?;
        let password = Password::new(&["password"], command.password)?;
        let display_name = DisplayName::new(command.display_name)?;
        check_device_name(command.device_name.as_deref())?;
        self.services.attempts.register(command.address)?;
        let taken =
            || ServiceError::new(ErrorCode::UsernameTaken, "this username is taken").at(&["username"]);
        // Saves the hash for a name that is taken anyway; the unique key decides.
        if self.services.conversations.user_by_username_key(username.key()).await?.is_some() {
            return Err(taken());
        }
        let hash = self.services.passwords.hash(&password).await?;
        let user = User {
            id: UserId(self.services.ids.one().await?),
            username: username.shown().into(),
            display_name: display_name.as_str().into(),
            created_at: self.services.clock.now(),
        };
        let (session, refresh_token) = self.new_session(user.id, command.device_name).await?;
        let (chat, new) = (self.clone(), user.clone());
        let key = username.key().to_owned();
        let written = session.clone();
        let insert = async move { chat.services.accounts.insert_user(&new, &key, &hash, &written).await };
        match self.run_to_end(insert).await? {
            Err(StoreError::Duplicate(_)) => Err(taken()),
            Err(error) => Err(error.into()),
            Ok(()) => {
                self.services.attempts.signed_in(username.key(), command.address);
                let credentials = self.credentials(user.id, session.session.id, refresh_token)?;
                Ok(SignedIn { user, credentials })
            }
        }
    }

    /// A session that is not written yet, and its first refresh token.
    pub(super) async fn new_session(
        &self,
        user: UserId,
        device_name: Option<String>,
    ) -> ServiceResult<(NewSession, String)> {
        let now = self.services.clock.now();
        let id = SessionId(self.services.ids.one().await?);
        let mut secret = [0; 32];
        self.services.random.fill(&mut secret);
        let token = refresh_token(&secret);
        let session = Session { id, user, device_name, created_at: now, last_used_at: now };
        Ok((NewSession { session, token_hash: token_hash(&token) }, token))
    }

    pub(super) fn credentials(
        &self,
        user: UserId,
        session: SessionId,
        refresh_token: String,
    ) -> ServiceResult<Credentials> {
        let (access_token, access_token_expires_at) = self.services.tokens.issue(user, session)?;
        Ok(Credentials { access_token, access_token_expires_at, refresh_token })
    }

    /// Runs storage work in a task of its own, which a caller that goes away does not cancel (trap 1).
    pub(super) async fn run_to_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> ServiceResult<T> {
        self.services.tasks.spawn(work).await.map_err(ServiceError::internal)
    }
}

/// The prefix tells secret scanners what they found.
pub(super) fn refresh_token(secret: &[u8; 32]) -> String {
    format!("cfr_{}", URL_SAFE_NO_PAD.encode(secret))
}

/// What is stored of a refresh token: it has 256 random bits, so a plain hash is enough.
pub(super) fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}
