//! The write path, seen from outside.

#[allow(unused_imports)]
use crate::{
    Caller, Chat, ClientKey, ConversationId, ConversationView, Member, MemberRole, Message, MessageText,
    ServiceError, ServiceResult, Title, UserId,
};

#[derive(Clone, Debug)]
pub struct SendMessage {
    pub conversation: ConversationId,
    pub client_key: ClientKey,
    pub text: MessageText,
}

impl Chat {
    pub async fn send_message(
        &self,
        caller: &Caller,
        command: SendMessage,
    ) -> ServiceResult<std::sync::Arc<Message>> {
        let _ = (caller, command);
        Err(ServiceError::unavailable("stub"))
    }
}
