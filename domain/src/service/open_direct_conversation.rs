//! The one conversation of two people.

#[allow(unused_imports)]
use crate::{Caller, Chat, ConversationView, ServiceError, ServiceResult};

impl Chat {
    pub async fn open_direct_conversation(
        &self,
        caller: &Caller,
        other: crate::UserId,
    ) -> ServiceResult<ConversationView> {
        let _ = caller;
        Err(ServiceError::unavailable("stub"))
    }
}
