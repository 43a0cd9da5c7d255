//! A known user on a new device.

use std::{fmt, net::IpAddr};

use super::{
    Services,
    credentials::{RefreshToken, new_session, wrong_password},
    register::SignedIn,
};
use crate::{
    Domain, ErrorCode, Password, ServiceError, ServiceResult, SessionId, Username,
    model::text::check_device_name, passwords::Verdict, port::accounts::UserSecret,
};

/// Checks of the password, when it changes meanwhile.
const CHECKS_MAX: usize = 3;

#[derive(Clone)]
pub struct SignIn {
    pub username: String,
    pub password: String,
    pub device_name: Option<String>,
    pub address: Option<IpAddr>,
}

/// Without the password.
impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Domain {
    /// `INVALID_CREDENTIALS` for an unknown name and for a wrong password alike, after the same work.
    pub async fn sign_in(&self, command: SignIn) -> ServiceResult<SignedIn> {
        check_device_name(command.device_name.as_deref())?;
        // What can be no username belongs to nobody; all such count as one account.
        let key = Username::new(&command.username).map(|name| name.key().to_owned()).unwrap_or_default();
        let (attempt, refusal) = self.services.attempts.sign_in(&key, command.address)?;
        let place = attempt.place();
        if let Some(refusal) = refusal
            && !self.is_familiar(place.as_deref()).await?
        {
            return Err(refusal);
        }
        let domain = self.clone();
        let work = async move {
            let signed_in = domain.check_and_sign_in(&key, command).await?;
            domain.note_familiar(signed_in.user.id, place.as_deref()).await;
            Ok(signed_in)
        };
        let outcome = self.to_the_end(work).await;
        match &outcome {
            Ok(_) => self.services.attempts.signed_in(attempt),
            Err(error) if error.code() == ErrorCode::Unavailable => {
                self.services.attempts.give_back(&attempt);
            }
            Err(_) => {}
        }
        outcome
    }

    async fn check_and_sign_in(&self, key: &str, command: SignIn) -> ServiceResult<SignedIn> {
        for _ in 0..CHECKS_MAX {
            if let Some(signed_in) = self.check_once(key, &command).await? {
                return Ok(signed_in);
            }
        }
        Err(ServiceError::unavailable("the password changes all the time; try again"))
    }

    /// `None` when the password was changed, or hashed anew, between the check and the session.
    async fn check_once(&self, key: &str, command: &SignIn) -> ServiceResult<Option<SignedIn>> {
        let Services { accounts, clock, ids, passwords, random, .. } = &*self.services;
        let place = passwords.place()?;
        let known = accounts.secret_by_username_key(key).await?;
        let hash = known.as_ref().map(|known| known.password_hash.clone());
        let verdict = passwords.verify(place, command.password.clone(), hash).await?;
        let (Some(known), Verdict::Right { needs_rehash }) = (known, verdict) else {
            return Err(wrong_password());
        };
        let session_id = SessionId(ids.one().await?);
        let token = RefreshToken::new(&**random);
        let session =
            new_session(session_id, known.user.id, command.device_name.clone(), &token, clock.now());
        if !self.retried(|| accounts.insert_session(&session, &known.password_hash)).await? {
            return Ok(None);
        }
        if needs_rehash {
            self.rehash(&known, command.password.clone()).await;
        }
        let credentials = self.credentials(known.user.id, session_id, &token)?;
        Ok(Some(SignedIn { user: known.user, credentials }))
    }

    /// Keeps the password with today's parameters. The sign-in does not depend on it.
    async fn rehash(&self, known: &UserSecret, password: String) {
        let replaced = async {
            let password = Password::new(&["password"], password)?;
            let hash = self.services.passwords.hash(&password).await?;
            let accounts = &self.services.accounts;
            accounts.replace_password_hash(known.user.id, &known.password_hash, &hash).await?;
            Ok::<_, ServiceError>(())
        };
        if let Err(error) = replaced.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a password hash was not renewed");
        }
    }
}
