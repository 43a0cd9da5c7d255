//! The write path, seen from outside.

use async_graphql::{Context, ID, InputObject, OneofObject, SimpleObject};
use domain::{
    ClientKey, MENTIONS_MAX, Mentions, MessageText, ServiceResult, service::send_message::SendMessage,
};

use crate::{
    connection::SendTurn,
    schema::{
        error::{Result, settle},
        id,
        request::RequestContext,
        types::{message::Message, user_error::UserError},
    },
};

const MENTIONS: &[&str] = &["content", "text", "mentions"];

/// What to send where.
#[derive(InputObject)]
pub struct SendMessageInput {
    /// The conversation to send to.
    conversation_id: ID,
    /// A key of the client's own choice for this message, 1 to 64 visible ASCII characters, compared byte for byte; all
    /// members can read it. The viewer gets the message first sent with it; with other content or another conversation it
    /// is `IDEMPOTENCY_CONFLICT`.
    client_message_id: String,
    /// What to say.
    content: MessageContentInput,
}

/// What a new message says: exactly one of the fields.
#[derive(OneofObject)]
pub enum MessageContentInput {
    /// Text.
    Text(TextContentInput),
}

/// Text to send.
#[derive(InputObject)]
pub struct TextContentInput {
    /// 1 to 16,384 bytes of UTF-8, any Unicode but U+0000; delivered byte for byte.
    text: String,
    /// Members whom the text mentions, at most 50. They get a push even if they have muted the conversation, though not in their
    /// quiet hours. Who is no member is left out.
    #[graphql(default)]
    mentions: Vec<ID>,
}

/// The answer to `sendMessage`.
#[derive(SimpleObject)]
pub struct SendMessagePayload {
    /// The committed message; null when there are user errors.
    message: Option<Message>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn send_message(ctx: &Context<'_>, input: SendMessageInput) -> Result<SendMessagePayload> {
    let (message, user_errors) = settle(run(ctx, input).await)?;
    Ok(SendMessagePayload { message, user_errors })
}

async fn run(ctx: &Context<'_>, input: SendMessageInput) -> ServiceResult<Message> {
    let turn = ctx.data_opt::<SendTurn>();
    if let Some(turn) = turn {
        // Before anything can fail, or a send that does would let the next one past those before it.
        turn.wait().await;
    }
    let caller = ctx.caller()?;
    // Its place in the queue is taken here, before the next send of the socket may take its own.
    let pending = ctx.chat().enqueue_message(caller, command(input)?)?;
    if let Some(turn) = turn {
        turn.done();
    }
    Ok(Message::new(pending.await?))
}

fn command(input: SendMessageInput) -> ServiceResult<SendMessage> {
    let MessageContentInput::Text(content) = input.content;
    Ok(SendMessage {
        conversation: id::input(&["conversationId"], &input.conversation_id)?,
        client_key: ClientKey::new(&["clientMessageId"], input.client_message_id)?,
        text: MessageText::new(&["content", "text", "text"], content.text)?,
        mentions: Mentions::new(MENTIONS, id::inputs(MENTIONS, &content.mentions, MENTIONS_MAX)?)?,
    })
}
