//! A group's title.

#[allow(unused_imports)]
use crate::{
    Caller, Chat, ClientKey, ConversationId, ConversationView, Member, MemberRole, Message, MessageText,
    ServiceError, ServiceResult, Title, UserId,
};

#[derive(Clone, Debug)]
pub struct UpdateGroup {
    pub conversation: ConversationId,
    pub title: Option<Title>,
}

impl Chat {
    pub async fn update_group(
        &self,
        caller: &Caller,
        command: UpdateGroup,
    ) -> ServiceResult<ConversationView> {
        let _ = (caller, command);
        Err(ServiceError::unavailable("stub"))
    }
}
