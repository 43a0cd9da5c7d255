//! What others read about the caller.

use crate::{Caller, Chat, DisplayName, ServiceError, ServiceResult, User};

impl Chat {
    /// `None` leaves the name as it is.
    pub async fn update_profile(&self, caller: &Caller, display_name: Option<String>) -> ServiceResult<User> {
        if let Some(name) = display_name {
            let name = DisplayName::new(name)?;
            self.services.accounts.set_display_name(caller.user, name.as_str()).await?;
        }
        let user = self.users(caller, &[caller.user]).await?.remove(&caller.user);
        user.ok_or_else(|| ServiceError::unauthenticated("the user is gone"))
    }
}
