//! A new password, which ends all other sessions.

use std::fmt;

use super::Services;
use crate::{
    Caller, Domain, ErrorCode, Password, ServiceError, ServiceResult, SessionId, passwords::Verdict,
    port::log::EndSessions,
};

#[derive(Clone)]
pub struct ChangePassword {
    pub current_password: String,
    pub new_password: String,
}

/// Without the password.
impl fmt::Debug for ChangePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangePassword").finish_non_exhaustive()
    }
}

impl Domain {
    /// Sets the password and ends the caller's other sessions, both or neither.
    pub async fn replace_password(
        &self,
        caller: &Caller,
        command: ChangePassword,
    ) -> ServiceResult<Vec<SessionId>> {
        let new = Password::new(&["newPassword"], command.new_password)?;
        let Services { accounts, attempts, passwords, .. } = &*self.services;
        let place = passwords.place()?;
        attempts.check_password(caller.user)?;
        let known = accounts.secret_by_id(caller.user).await?;
        let hash = known.map(|known| known.password_hash);
        let verdict = passwords.verify(place, command.current_password, hash).await;
        let verdict = verdict.inspect_err(|_| attempts.give_back_check(caller.user))?;
        if verdict == Verdict::Wrong {
            let refusal =
                ServiceError::new(ErrorCode::InvalidCredentials, "this is not the current password");
            return Err(refusal.at(&["currentPassword"]));
        }
        attempts.give_back_check(caller.user);
        let hash = passwords.hash(&new).await?;
        let others = EndSessions::AllBut { user: caller.user, session: caller.session };
        self.end_sessions(caller.user, others, Some(hash)).await
    }
}
