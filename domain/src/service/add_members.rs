//! New members of a group.

#[allow(unused_imports)]
use crate::{
    Caller, Chat, ClientKey, ConversationId, ConversationView, Member, MemberRole, Message, MessageText,
    ServiceError, ServiceResult, Title, UserId,
};

#[derive(Clone, Debug)]
pub struct AddMembers {
    pub conversation: ConversationId,
    pub users: Vec<UserId>,
}

impl Chat {
    pub async fn add_members(&self, caller: &Caller, command: AddMembers) -> ServiceResult<ConversationView> {
        let _ = (caller, command);
        Err(ServiceError::unavailable("stub"))
    }
}
