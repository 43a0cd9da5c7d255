//! What others read about the caller.

use crate::{Caller, DisplayName, Domain, ServiceError, ServiceResult, User};

impl Domain {
    /// `None` leaves the name as it is.
    pub async fn update_profile(&self, caller: &Caller, display_name: Option<String>) -> ServiceResult<User> {
        let display_name = display_name.map(DisplayName::new).transpose()?;
        let (accounts, user) = (self.services.accounts.clone(), caller.user);
        self.to_the_end(async move {
            if let Some(name) = display_name {
                accounts.set_display_name(user, name.as_str()).await?;
            }
            let known = accounts.secret_by_id(user).await?.ok_or_else(|| ServiceError::not_found("user"))?;
            Ok(known.user)
        })
        .await
    }
}
