//! A new user, signed in at once.

use std::{fmt, net::IpAddr};

use super::{
    Services,
    credentials::{RefreshToken, new_session},
};
use crate::{
    Credentials, DisplayName, Domain, ErrorCode, Password, ServiceError, ServiceResult, SessionId, User,
    UserId, Username, attempts::place_of, model::text::check_device_name, port::StoreError,
};

#[derive(Clone)]
pub struct Register {
    pub username: String,
    pub password: String,
    pub display_name: String,
    pub device_name: Option<String>,
    pub address: Option<IpAddr>,
}

/// Without the password.
impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Register").field("username", &self.username).finish_non_exhaustive()
    }
}

/// A user with what their device needs from now on.
#[derive(Clone)]
pub struct SignedIn {
    pub user: User,
    pub credentials: Credentials,
}

impl Domain {
    /// `USERNAME_TAKEN` when somebody has the name, or one that differs only in case or width.
    pub async fn register(&self, command: Register) -> ServiceResult<SignedIn> {
        let username = Username::new(&command.username)?;
        let display_name = DisplayName::new(command.display_name)?;
        let password = Password::new(&["password"], command.password)?;
        check_device_name(command.device_name.as_deref())?;
        self.services.attempts.register(command.address)?;
        let place = place_of(username.key(), command.address);
        let draft = Draft { username, display_name, password, device_name: command.device_name };
        let domain = self.clone();
        let work = async move {
            let signed_in = domain.write_user(draft).await?;
            domain.note_familiar(signed_in.user.id, place.as_deref()).await;
            Ok(signed_in)
        };
        self.to_the_end(work).await
    }

    async fn write_user(&self, draft: Draft) -> ServiceResult<SignedIn> {
        let Services { accounts, clock, ids, passwords, random, .. } = &*self.services;
        // Before the name is looked up: a taken one and a free one take the same time.
        let hash = passwords.hash(&draft.password).await?;
        let (user_id, session_id) = (UserId(ids.one().await?), SessionId(ids.one().await?));
        let now = clock.now();
        let user = User {
            id: user_id,
            username: draft.username.shown().into(),
            display_name: draft.display_name.as_str().into(),
            created_at: now,
        };
        let token = RefreshToken::new(&**random);
        let session = new_session(session_id, user_id, draft.device_name, &token, now);
        let insert = || accounts.insert_user(&user, draft.username.key(), &hash, &session);
        match self.retried(insert).await {
            Ok(()) => {}
            Err(StoreError::Duplicate(_)) => {
                return Err(
                    ServiceError::new(ErrorCode::UsernameTaken, "this username is taken").at(&["username"])
                );
            }
            Err(error) => return Err(error.into()),
        }
        let credentials = self.credentials(user_id, session_id, &token)?;
        Ok(SignedIn { user, credentials })
    }
}

/// A user to be, checked.
struct Draft {
    username: Username,
    display_name: DisplayName,
    password: Password,
    device_name: Option<String>,
}
