//! People, as others may see them.

use std::collections::HashMap;

use super::Chat;
use crate::{
    Caller, ServiceResult, User, UserId,
    cache::{near_copy, near_users},
};

impl Chat {
    /// Names may be a moment late, but never the caller's own.
    pub async fn users(&self, caller: &Caller, ids: &[UserId]) -> ServiceResult<HashMap<UserId, User>> {
        let Some(near) = &self.local.users else { return self.read_users(caller, ids).await };
        let copies = near_users(&**near, ids).await;
        let is_own = |id: &UserId| *id == caller.user;
        let (mut found, mut wanted) = (HashMap::with_capacity(ids.len()), Vec::new());
        for (id, copy) in ids.iter().zip(copies) {
            match copy {
                Some(user) if !is_own(id) => drop(found.insert(*id, user)),
                _ => wanted.push(*id),
            }
        }
        if !wanted.is_empty() {
            let read = self.read_users(caller, &wanted).await?;
            near.put(read.values().map(near_copy).collect()).await;
            found.extend(read);
        }
        Ok(found)
    }
}
