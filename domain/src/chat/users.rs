//! People, as others may see them.

use std::collections::HashMap;

use tokio::time::Instant;

use super::Chat;
use crate::{
    Caller, ServiceResult, User, UserId,
    cache::{keep_near, near_users},
};

impl Chat {
    /// Names may be a moment late, but never the caller's own.
    pub async fn users(&self, caller: &Caller, ids: &[UserId]) -> ServiceResult<HashMap<UserId, User>> {
        let Some(near) = &self.local.users else { return self.read_users(caller, ids).await };
        let (mut found, wanted) = near_users(&**near, Some(caller.user), ids).await;
        if !wanted.is_empty() {
            let begun = Instant::now();
            let read = self.read_users(caller, &wanted).await?;
            keep_near(&**near, read.values(), begun).await;
            found.extend(read);
        }
        Ok(found)
    }
}
