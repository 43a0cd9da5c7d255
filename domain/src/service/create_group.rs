//! A new group.

#[allow(unused_imports)]
use crate::{
    Caller, Chat, ClientKey, ConversationId, ConversationView, Member, MemberRole, Message, MessageText,
    ServiceError, ServiceResult, Title, UserId,
};

#[derive(Clone, Debug)]
pub struct CreateGroup {
    pub title: Title,
    pub members: Vec<UserId>,
    pub client_key: Option<ClientKey>,
}

impl Chat {
    pub async fn create_group(
        &self,
        caller: &Caller,
        command: CreateGroup,
    ) -> ServiceResult<ConversationView> {
        let _ = (caller, command);
        Err(ServiceError::unavailable("stub"))
    }
}
