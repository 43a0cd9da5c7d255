//! A read position moves forward.

#[allow(unused_imports)]
use crate::{
    Caller, Chat, ClientKey, ConversationId, ConversationView, Member, MemberRole, Message, MessageText,
    ServiceError, ServiceResult, Title, UserId,
};

#[derive(Clone, Debug)]
pub struct MarkRead {
    pub conversation: ConversationId,
    pub seq: i32,
}

impl Chat {
    pub async fn mark_read(&self, caller: &Caller, command: MarkRead) -> ServiceResult<ConversationView> {
        let _ = (caller, command);
        Err(ServiceError::unavailable("stub"))
    }
}
