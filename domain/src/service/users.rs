//! People, as others may see them.

use std::collections::HashMap;

use crate::{Caller, Domain, ServiceResult, User, UserId, Username};

impl Domain {
    /// Names may be a moment late, but never the caller's own.
    pub async fn read_users(&self, caller: &Caller, ids: &[UserId]) -> ServiceResult<HashMap<UserId, User>> {
        self.services.copies.users(Some(caller.user), ids).await
    }

    /// `None` also for what can be nobody's username.
    pub async fn user_by_username(&self, _caller: &Caller, username: &str) -> ServiceResult<Option<User>> {
        let Ok(username) = Username::new(username) else { return Ok(None) };
        Ok(self.services.conversations.user_by_username_key(username.key()).await?)
    }
}
