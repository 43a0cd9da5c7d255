//! A new password, which ends all other sessions.

use crate::{
    Caller, Chat, ErrorCode, Password, ServiceError, ServiceResult, passwords::Verified,
    port::log::EndSessions,
};

#[derive(Clone)]
pub struct ChangePassword {
    pub current_password: String,
    pub new_password: String,
}

impl Chat {
    pub async fn change_password(&self, caller: &Caller, command: ChangePassword) -> ServiceResult<()> {
        let new = Password::new(&["newPassword"], command.new_password)?;
        let secret = self.services.accounts.secret_by_id(caller.user).await?;
        let secret = secret.ok_or_else(|| ServiceError::unauthenticated("the user is gone"))?;
        // A stolen session must not become a place to guess the password.
        self.services.attempts.sign_in(&secret.user.username, None)?;
        let verified =
            self.services.passwords.verify(&command.current_password, Some(secret.password_hash)).await?;
        if verified == Verified::No {
            let text = "the current password is another one";
            return Err(ServiceError::new(ErrorCode::InvalidCredentials, text).at(&["currentPassword"]));
        }
        self.services.attempts.signed_in(&secret.user.username, None);
        let hash = self.services.passwords.hash(&new).await?;
        let others = EndSessions::AllBut { user: caller.user, session: caller.session };
        self.end_sessions(others, Some(hash)).await
    }
}
