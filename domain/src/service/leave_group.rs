//! The caller leaves a group.

#[allow(unused_imports)]
use crate::{Caller, Chat, ConversationView, ServiceError, ServiceResult};

impl Chat {
    pub async fn leave_group(
        &self,
        caller: &Caller,
        conversation: crate::ConversationId,
    ) -> ServiceResult<()> {
        let _ = caller;
        Err(ServiceError::unavailable("stub"))
    }
}
