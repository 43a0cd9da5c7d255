//! Events, as the hub hands them over and as clients see them.

#![expect(clippy::unused_async, reason = "a resolver is async, whatever it does")]

use std::{borrow::Cow, sync::Arc};

use async_graphql::{
    Context, ContextSelectionSet, Interface, Object, OutputType, Positioned, ServerResult, SimpleObject,
    Value, parser::types::Field, registry::Registry,
};
use domain::{Fact, ServiceError, ServiceResult, UserId};

use super::{conversation::Conversation, member::Member, message::Message, scalars::EventCursor, user::User};
use crate::schema::{error::Result, request::RequestContext};

/// An event on its way to a subscription.
#[derive(Clone, Debug)]
pub struct EventItem {
    pub cursor: Arc<str>,
    pub body: EventBody,
}

#[derive(Clone, Debug)]
pub enum EventBody {
    StreamOpened,
    StreamLive,
    ResyncRequired { reason: Cow<'static, str> },
    Durable { event: Arc<domain::Event>, as_seen: AsSeen },
}

/// As what an event is shown. It depends on the fact and on who receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsSeen {
    ConversationAdded,
    MessageSent,
    ReadMarked,
    MemberAdded,
    MemberRemoved,
    /// To the one removed, who sees no more of the conversation than that it was there.
    MemberRemovedSelf,
    MemberChanged,
    ConversationChanged,
}

/// Something that a subscription tells. Events of one conversation come in the order of their `rev`.
#[derive(Interface)]
#[graphql(field(
    name = "cursor",
    ty = "EventCursor",
    desc = "The position after this event. A new subscription with `after: cursor` goes on from here."
))]
pub enum Event {
    StreamOpened(StreamOpened),
    StreamLive(StreamLive),
    ConversationAdded(ConversationAdded),
    MessageSent(MessageSent),
    ReadMarked(ReadMarked),
    MemberAdded(MemberAdded),
    MemberRemoved(MemberRemoved),
    MemberChanged(MemberChanged),
    ConversationChanged(ConversationChanged),
    ResyncRequired(ResyncRequired),
}

/// Something that changed in a conversation and lasts. (conversation, `rev`) names it: a client that gets the same pair
/// again, which a resumed subscription may cause, has seen it before.
#[derive(Interface)]
#[graphql(
    field(
        name = "cursor",
        ty = "EventCursor",
        desc = "The position after this event. A new subscription with `after: cursor` goes on from here."
    ),
    field(
        name = "conversation",
        ty = "Conversation",
        desc = "The conversation concerned, as of this event or later."
    ),
    field(
        name = "rev",
        ty = "i32",
        desc = "The conversation's revision that this change made: it counts every lasting change of the conversation. \
                A viewer does not see every `rev`; to find missing messages, look at `seq`."
    )
)]
pub enum ConversationEvent {
    ConversationAdded(ConversationAdded),
    MessageSent(MessageSent),
    ReadMarked(ReadMarked),
    MemberAdded(MemberAdded),
    MemberRemoved(MemberRemoved),
    MemberChanged(MemberChanged),
    ConversationChanged(ConversationChanged),
}

/// `Event` with its place in the schema.
///
/// An interface as a variant of another gives an SDL in which objects lack the outer one, or introspection in which an
/// interface is a possible type. So `Event` lists every object itself, and only its registration says that
/// `ConversationEvent` is an `Event` too.
pub struct AnyEvent(Event);

impl OutputType for AnyEvent {
    fn type_name() -> Cow<'static, str> {
        <Event as OutputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <ConversationEvent as OutputType>::create_type_info(registry);
        registry.add_implements(
            &<ConversationEvent as OutputType>::type_name(),
            &<Event as OutputType>::type_name(),
        );
        <Event as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        self.0.resolve(ctx, field).await
    }
}

impl From<EventItem> for AnyEvent {
    fn from(EventItem { cursor, body }: EventItem) -> Self {
        let cursor = EventCursor(cursor);
        Self(match body {
            EventBody::StreamOpened => StreamOpened { cursor }.into(),
            EventBody::StreamLive => StreamLive { cursor }.into(),
            EventBody::ResyncRequired { reason } => {
                ResyncRequired { cursor, reason: reason.into_owned() }.into()
            }
            EventBody::Durable { event, as_seen } => Durable { cursor, event, as_seen }.into(),
        })
    }
}

/// The first event of every subscription. What was missed since `after` follows.
#[derive(SimpleObject)]
pub struct StreamOpened {
    /// The position at which the subscription starts: good to start it again without loss.
    #[graphql(owned)]
    cursor: EventCursor,
}

/// Sent once, after the last missed event and also when nothing was missed: from here on events come as they happen.
#[derive(SimpleObject)]
pub struct StreamLive {
    /// The position at which the subscription went live.
    #[graphql(owned)]
    cursor: EventCursor,
}

/// What was missed cannot be told: the cursor is too old, too much happened, or the database was restored. Fetch
/// everything anew and forget which (conversation, `rev`) were seen. Live events go on in this same subscription.
#[derive(SimpleObject)]
pub struct ResyncRequired {
    /// A position taken before this event was sent: what is fetched after it arrives together with what follows it
    /// leaves no hole.
    #[graphql(owned)]
    cursor: EventCursor,
    /// Why, in English, for developers.
    #[graphql(owned)]
    reason: String,
}

/// What the events of conversations have in common.
struct Durable {
    cursor: EventCursor,
    event: Arc<domain::Event>,
    as_seen: AsSeen,
}

impl Durable {
    fn conversation(&self) -> ServiceResult<Conversation> {
        let head = self.event.conversation.clone().ok_or_else(|| incomplete("conversation"))?;
        Ok(match self.as_seen {
            AsSeen::MemberRemovedSelf => Conversation::stub(head),
            _ => Conversation::in_event(head),
        })
    }

    fn message(&self) -> ServiceResult<Message> {
        let message = self.event.message.clone().ok_or_else(|| incomplete("message"))?;
        Ok(Message::within(&self.conversation()?, message))
    }

    fn member(&self) -> ServiceResult<Member> {
        let member = self.event.member.as_deref().ok_or_else(|| incomplete("member"))?;
        Ok(member.clone().into())
    }

    async fn user(&self, ctx: &Context<'_>) -> ServiceResult<User> {
        let id = match &self.event.fact {
            Fact::ReadMarked { user, .. } | Fact::MemberLeft { user, .. } => *user,
            _ => return Err(incomplete("user")),
        };
        user(ctx, id).await
    }

    fn read_seq(&self) -> ServiceResult<i32> {
        match self.event.fact {
            Fact::ReadMarked { read_seq, .. } => Ok(read_seq),
            _ => Err(incomplete("readSeq")),
        }
    }
}

impl From<Durable> for Event {
    fn from(event: Durable) -> Self {
        match event.as_seen {
            AsSeen::ConversationAdded => ConversationAdded(event).into(),
            AsSeen::MessageSent => MessageSent(event).into(),
            AsSeen::ReadMarked => ReadMarked(event).into(),
            AsSeen::MemberAdded => MemberAdded(event).into(),
            AsSeen::MemberRemoved | AsSeen::MemberRemovedSelf => MemberRemoved(event).into(),
            AsSeen::MemberChanged => MemberChanged(event).into(),
            AsSeen::ConversationChanged => ConversationChanged(event).into(),
        }
    }
}

async fn user(ctx: &Context<'_>, id: UserId) -> ServiceResult<User> {
    let user = ctx.loaders().user(id).await?;
    Ok(user.ok_or_else(|| ServiceError::internal("an event about a user who does not exist"))?.into())
}

/// The hub showed a fact as something that it is not.
fn incomplete(what: &str) -> ServiceError {
    ServiceError::internal(format!("an event without its {what}"))
}

macro_rules! conversation_event {
    ($(#[$doc:meta])* $name:ident { $($fields:tt)* }) => {
        pub struct $name(Durable);

        $(#[$doc])*
        #[Object]
        impl $name {
            /// The position after this event. A new subscription with `after: cursor` goes on from here.
            async fn cursor(&self) -> EventCursor {
                self.0.cursor.clone()
            }

            /// The conversation concerned, as of this event or later.
            async fn conversation(&self) -> Result<Conversation> {
                Ok(self.0.conversation()?)
            }

            /// The conversation's revision that this change made.
            async fn rev(&self) -> i32 {
                self.0.event.fact.rev()
            }

            $($fields)*
        }
    };
}

conversation_event! {
    /// The viewer is now in the conversation: it was opened, or the viewer was added.
    ConversationAdded {}
}

conversation_event! {
    /// A message was committed. It may come before the answer to `sendMessage`: match it by `clientMessageId`. The
    /// sender has read everything up to it.
    MessageSent {
        /// The message.
        async fn message(&self) -> Result<Message> {
            Ok(self.0.message()?)
        }
    }
}

conversation_event! {
    /// Somebody read up to a message: the viewer on another device or, in conversations of at most 50 members, another
    /// member.
    ReadMarked {
        /// Who has read.
        async fn user(&self, ctx: &Context<'_>) -> Result<User> {
            Ok(self.0.user(ctx).await?)
        }

        /// The `seq` of the last message read.
        async fn read_seq(&self) -> Result<i32> {
            Ok(self.0.read_seq()?)
        }
    }
}

conversation_event! {
    /// Somebody was added to a group that the viewer is in.
    MemberAdded {
        /// The new membership.
        async fn member(&self) -> Result<Member> {
            Ok(self.0.member()?)
        }
    }
}

conversation_event! {
    /// Somebody left a group or was removed, maybe the viewer. Then `conversation` says its id, kind and creation alone:
    /// counts are 0 and everything else is null, and nothing later comes from it.
    MemberRemoved {
        /// Who is no longer in it.
        async fn user(&self, ctx: &Context<'_>) -> Result<User> {
            Ok(self.0.user(ctx).await?)
        }
    }
}

conversation_event! {
    /// A member's role changed.
    MemberChanged {
        /// The membership as it is now.
        async fn member(&self) -> Result<Member> {
            Ok(self.0.member()?)
        }
    }
}

conversation_event! {
    /// Something about the conversation changed: its title or, in large groups, who is in it.
    ConversationChanged {}
}
