//! A known user on a new device.

use std::net::IpAddr;

use crate::{
    Chat, ErrorCode, Password, ServiceError, ServiceResult, Username, model::text::check_device_name,
    passwords::Verified, service::register::SignedIn,
};

#[derive(Clone)]
pub struct SignIn {
    pub username: String,
    pub password: String,
    pub device_name: Option<String>,
    /// Limits count against it.
    pub address: Option<IpAddr>,
}

impl Chat {
    /// Known and unknown users get the same answer after the same time.
    pub async fn sign_in(&self, command: SignIn) -> ServiceResult<SignedIn> {
        check_device_name(command.device_name.as_deref())?;
        let username = Username::new(&command.username).ok();
        // What can be nobody's name is counted and answered like an unknown one.
        let key = username.as_ref().map_or("", Username::key).to_owned();
        self.services.attempts.sign_in(&key, command.address)?;
        let known = self.services.accounts.secret_by_username_key(&key).await?;
        let hash = known.as_ref().map(|secret| secret.password_hash.clone());
        let verified = self.services.passwords.verify(&command.password, hash).await?;
        let secret = known.filter(|_| verified != Verified::No);
        let refused =
            || ServiceError::new(ErrorCode::InvalidCredentials, "username and password do not match");
        let secret = secret.ok_or_else(refused)?;
        self.services.attempts.signed_in(&key, command.address);
        if verified == Verified::YesButOld
            && let Ok(password) = Password::new(&["password"], command.password)
        {
            let hash = self.services.passwords.hash(&password).await?;
            self.services
                .accounts
                .replace_password_hash(secret.user.id, &secret.password_hash, &hash)
                .await?;
        }
        let (session, refresh_token) = self.new_session(secret.user.id, command.device_name).await?;
        let (chat, written) = (self.clone(), session.clone());
        self.run_to_end(async move { chat.services.accounts.insert_session(&written).await }).await??;
        let credentials = self.credentials(secret.user.id, session.session.id, refresh_token)?;
        Ok(SignedIn { user: secret.user, credentials })
    }
}
