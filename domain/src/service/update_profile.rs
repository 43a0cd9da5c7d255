//! What others read about the caller.

use crate::{Caller, DisplayName, Domain, ServiceError, ServiceResult, User};

impl Domain {
    /// `None` leaves the name as it is.
    pub async fn update_profile(&self, caller: &Caller, display_name: Option<String>) -> ServiceResult<User> {
        let display_name = display_name.map(DisplayName::new).transpose()?;
        let (accounts, copies, user) =
            (self.services.accounts.clone(), self.services.copies.clone(), caller.user);
        self.to_the_end(async move {
            if let Some(name) = display_name {
                copies.user_changes(user).await;
                let outcome = accounts.set_display_name(user, name.as_str()).await;
                // Also when it is unknown.
                copies.user_changes(user).await;
                outcome?;
            }
            let known = accounts.secret_by_id(user).await?.ok_or_else(|| ServiceError::not_found("user"))?;
            Ok(known.user)
        })
        .await
    }
}
