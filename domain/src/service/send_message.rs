//! The write path, seen from outside: a message is accepted, committed with others of its lane, and answered.

use std::sync::Arc;

use crate::{
    Caller, ClientKey, ConversationId, Domain, Mentions, Message, MessageDraft, MessageText, ServiceResult,
    trace,
};

#[derive(Clone, Debug)]
pub struct SendMessage {
    pub conversation: ConversationId,
    /// The same key again, at any time, gives the same message.
    pub client_key: ClientKey,
    pub text: MessageText,
    /// Who is told although they have muted the conversation; those who are no members are left out.
    pub mentions: Mentions,
}

impl Domain {
    /// Takes the message's place in its lane's queue at once, so that two calls in a row stay in order; the future waits for
    /// the commit. `UNAVAILABLE` at once when the queue is full, later when the deadline passed; the same key is safe to
    /// send again in both cases.
    pub fn enqueue_message(
        &self,
        caller: &Caller,
        command: SendMessage,
    ) -> ServiceResult<impl Future<Output = ServiceResult<Arc<Message>>> + Send + use<>> {
        let SendMessage { conversation, client_key, text, mentions } = command;
        let draft =
            MessageDraft::new(conversation, caller.user, client_key, text, mentions, trace::current());
        self.services.committers.send(draft)
    }

    /// Answers after the commit, with the final `id`, `seq` and `created_at`.
    pub async fn send_message(&self, caller: &Caller, command: SendMessage) -> ServiceResult<Arc<Message>> {
        self.enqueue_message(caller, command)?.await
    }
}
