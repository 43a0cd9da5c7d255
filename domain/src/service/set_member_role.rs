//! A member's role.

#[allow(unused_imports)]
use crate::{
    Caller, Chat, ClientKey, ConversationId, ConversationView, Member, MemberRole, Message, MessageText,
    ServiceError, ServiceResult, Title, UserId,
};

#[derive(Clone, Debug)]
pub struct SetMemberRole {
    pub conversation: ConversationId,
    pub user: UserId,
    pub role: MemberRole,
}

impl Chat {
    pub async fn set_member_role(&self, caller: &Caller, command: SetMemberRole) -> ServiceResult<Member> {
        let _ = (caller, command);
        Err(ServiceError::unavailable("stub"))
    }
}
