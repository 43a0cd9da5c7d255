//! Messages and what they say.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, SimpleObject, Union};
use domain::{Content, Mentions, ServiceError};
use futures_util::future::try_join_all;

use super::{connection::connection, conversation::Conversation, scalars::DateTime, user::User};
use crate::schema::{
    error::{Failure, Nullable, Result},
    request::RequestContext,
};

/// A committed message, with its conversation where that is known.
#[derive(Clone)]
pub struct Message {
    message: Arc<domain::Message>,
    conversation: Option<Conversation>,
}

impl Message {
    /// A message read by itself.
    pub fn new(message: Arc<domain::Message>) -> Self {
        Self { message, conversation: None }
    }

    /// A message read as part of its conversation.
    pub fn within(conversation: &Conversation, message: Arc<domain::Message>) -> Self {
        Self { message, conversation: Some(conversation.clone()) }
    }

    pub fn position(&self) -> i32 {
        self.message.seq
    }
}

/// One message of a conversation's history.
#[Object]
impl Message {
    /// Identifies the message.
    pub async fn id(&self) -> ID {
        self.message.id.into()
    }

    /// The conversation it belongs to.
    async fn conversation(&self, ctx: &Context<'_>) -> Result<Conversation> {
        if let Some(conversation) = &self.conversation {
            return Ok(conversation.clone());
        }
        let view = ctx.loaders().conversation(self.message.conversation).await?;
        Ok(view.ok_or_else(|| ServiceError::not_found("conversation"))?.into())
    }

    /// Its place in the conversation: the messages of a conversation are numbered 1, 2, 3 … in the order they were
    /// committed, without holes. A missing number means a message that the client has not fetched.
    async fn seq(&self) -> i32 {
        self.message.seq
    }

    /// The conversation's revision at which this message last changed. Of two states of the same message, the one with
    /// the higher `rev` is the newer.
    async fn rev(&self) -> i32 {
        self.message.rev
    }

    /// Who wrote it; null for system messages.
    async fn sender(&self, ctx: &Context<'_>) -> Nullable<User> {
        let sender = self.message.sender?;
        Some(ctx.loaders().user(sender).await.transpose()?.map(User::from).map_err(Failure::from))
    }

    /// The key its sender's client gave it with `sendMessage`, visible to all members; null for system messages. A client
    /// matches the messages it shows ahead of the answer by it.
    async fn client_message_id(&self) -> Option<&str> {
        self.message.client_key.as_ref().map(domain::ClientKey::as_str)
    }

    /// What it says. Later versions may add kinds of content: show a placeholder for those you do not know.
    async fn content(&self) -> Option<MessageContent> {
        Some(match &self.message.content {
            Content::Text(text) => MessageContent::Text(TextContent {
                text: text.to_string(),
                mentions: self.message.mentions.clone(),
            }),
            Content::System(content) => MessageContent::System(SystemContent { text: content.text.clone() }),
        })
    }

    /// When it was committed. For show only: `seq` gives the order.
    async fn created_at(&self) -> DateTime {
        self.message.created_at.into()
    }
}

/// What a message says: one of several kinds of content.
#[derive(Union)]
pub enum MessageContent {
    Text(TextContent),
    System(SystemContent),
}

/// Text written by a person.
pub struct TextContent {
    text: String,
    mentions: Mentions,
}

/// Text written by a person.
#[Object]
impl TextContent {
    /// The text as it was sent, byte for byte: 1 to 16,384 bytes of UTF-8, any Unicode but U+0000.
    async fn text(&self) -> &str {
        &self.text
    }

    /// Whom it mentions, at most 50: those of `mentions` who were members when it was sent.
    async fn mentions(&self, ctx: &Context<'_>) -> Result<Vec<User>> {
        let users = self.mentions.iter().map(|user| ctx.loaders().user(user));
        let users = try_join_all(users).await?;
        Ok(users.into_iter().flatten().map(User::from).collect())
    }
}

/// A note that the server wrote into the history, for instance that somebody joined. Never counted as unread.
#[derive(SimpleObject)]
pub struct SystemContent {
    /// What happened, in plain English.
    text: String,
}

connection! {
    /// A page of a conversation's history, oldest message first.
    MessageConnection,
    /// A message at its place in the history.
    MessageEdge,
    Message
}
