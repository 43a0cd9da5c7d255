//! A member is removed from a group.

#[allow(unused_imports)]
use crate::{
    Caller, Chat, ClientKey, ConversationId, ConversationView, Member, MemberRole, Message, MessageText,
    ServiceError, ServiceResult, Title, UserId,
};

#[derive(Clone, Debug)]
pub struct RemoveMember {
    pub conversation: ConversationId,
    pub user: UserId,
}

impl Chat {
    pub async fn remove_member(
        &self,
        caller: &Caller,
        command: RemoveMember,
    ) -> ServiceResult<ConversationView> {
        let _ = (caller, command);
        Err(ServiceError::unavailable("stub"))
    }
}
