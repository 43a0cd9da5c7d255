//! Conversations.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Object};
use domain::{ConversationView, Direction, ServiceResult, port::conversations::ListCursor};

use super::{
    connection::connection,
    member::{Member, MemberConnection},
    message::{Message, MessageConnection},
    scalars::DateTime,
};
use crate::schema::{
    error::{Failure, Nullable, Result},
    paging::PageArguments,
    request::RequestContext,
};

/// How a conversation came about, and who can be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::ConversationKind")]
pub enum ConversationKind {
    /// Between two people, the same two for ever. There is at most one for each pair.
    Direct,
    /// Among people who may be added and removed, with a title.
    Group,
}

/// A conversation's head, and what is known of the viewer in it.
#[derive(Clone)]
pub struct Conversation {
    head: Arc<domain::Conversation>,
    standing: Standing,
}

#[derive(Clone)]
enum Standing {
    Member(Box<domain::Member>),
    /// To be read when somebody asks, for whoever asks: the conversation of an event.
    Unknown,
    /// Known to be none: the stub that one who was removed gets.
    Removed,
}

impl Conversation {
    /// As an event shows it to those who are in it.
    pub fn in_event(head: Arc<domain::Conversation>) -> Self {
        Self { head, standing: Standing::Unknown }
    }

    /// As the event of their own removal shows it: id, kind and creation, and nothing else.
    pub fn stub(head: Arc<domain::Conversation>) -> Self {
        Self { head, standing: Standing::Removed }
    }

    pub fn position(&self) -> ListCursor {
        ListCursor { active_at: self.head.active_at, conversation: self.head.id }
    }

    fn is_stub(&self) -> bool {
        matches!(self.standing, Standing::Removed)
    }

    /// The conversation with the viewer in it; `None` for those who are not in it.
    async fn view(&self, ctx: &Context<'_>) -> ServiceResult<Option<ConversationView>> {
        match &self.standing {
            Standing::Member(viewer) => {
                let view = ConversationView { conversation: self.head.clone(), viewer: (**viewer).clone() };
                Ok(Some(view))
            }
            Standing::Unknown => ctx.loaders().conversation(self.head.id).await,
            Standing::Removed => Ok(None),
        }
    }

    async fn member_page(&self, ctx: &Context<'_>, arguments: PageArguments) -> Result<MemberConnection> {
        let request = arguments.request(Direction::Forward)?;
        Ok(ctx.loaders().members(self.head.id, request).await?.map(Member::from).into())
    }

    async fn message_page(
        &self,
        ctx: &Context<'_>,
        arguments: PageArguments,
        around_seq: Option<i32>,
    ) -> Result<MessageConnection> {
        let request = match around_seq {
            Some(seq) => arguments.around(seq, self.head.last_seq)?,
            None => arguments.request(Direction::Backward)?,
        };
        let page = ctx.loaders().history(self.head.id, request).await?;
        Ok(page.map(|message| Message::within(self, message)).into())
    }
}

/// A place where people write to each other: between two, or in a group.
#[Object]
impl Conversation {
    /// Identifies the conversation.
    pub async fn id(&self) -> ID {
        self.head.id.into()
    }

    /// Whether it is between two people or a group.
    async fn kind(&self) -> ConversationKind {
        self.head.kind.into()
    }

    /// A group's title, 1 to 200 characters. Null for a direct conversation: name it after the other member.
    async fn title(&self) -> Option<&str> {
        if self.is_stub() { None } else { self.head.title.as_deref() }
    }

    /// When it was opened.
    async fn created_at(&self) -> DateTime {
        self.head.created_at.into()
    }

    /// The `seq` of its newest message, and so how many messages it has; 0 before the first.
    async fn last_seq(&self) -> i32 {
        if self.is_stub() { 0 } else { self.head.last_seq }
    }

    /// Its newest message; null before the first.
    async fn last_message(&self, ctx: &Context<'_>) -> Nullable<Message> {
        if self.is_stub() || self.head.last_seq == 0 {
            return None;
        }
        let message = ctx.loaders().message_at(self.head.id, self.head.last_seq).await.transpose()?;
        Some(message.map(|message| Message::within(self, message)).map_err(Failure::from))
    }

    /// How many messages the viewer has not read: those after the viewer's `readSeq`, without system messages and the
    /// viewer's own. Exact.
    async fn unread_count(&self, ctx: &Context<'_>) -> Result<i32> {
        Ok(self.view(ctx).await?.map_or(0, |view| view.unread_count()))
    }

    /// Until when the viewer has muted it, see `muteConversation`; null when it is not muted.
    async fn muted_until(&self, ctx: &Context<'_>) -> Nullable<DateTime> {
        if self.is_stub() {
            return None;
        }
        let until = ctx.loaders().muted_until(self.head.id).await.transpose()?;
        Some(until.map(DateTime::from).map_err(Failure::from))
    }

    /// The viewer's own membership.
    async fn viewer_member(&self, ctx: &Context<'_>) -> Nullable<Member> {
        let view = self.view(ctx).await.transpose()?;
        Some(view.map(|view| view.viewer.into()).map_err(Failure::from))
    }

    /// Who is in it, in a fixed order: nobody is shown twice or left out while others join and leave. 20 a page unless
    /// `first` or `last` says otherwise.
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many members from the start of the list or after `after`; 1 to 100.")]
        first: Option<i32>,
        #[graphql(desc = "Only members after this cursor.")] after: Option<String>,
        #[graphql(desc = "So many members from the end of the list or before `before`; 1 to 100.")]
        last: Option<i32>,
        #[graphql(desc = "Only members before this cursor.")] before: Option<String>,
    ) -> Nullable<MemberConnection> {
        let arguments = PageArguments { first, after, last, before };
        if self.is_stub() { None } else { Some(self.member_page(ctx, arguments).await) }
    }

    /// The history, oldest message first within a page. `last: 50` is the newest page, and without arguments it is the
    /// newest 20; `before: startCursor` leads back from there. Stable while others write.
    async fn messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many messages from the oldest on or after `after`; 1 to 100.")] first: Option<
            i32,
        >,
        #[graphql(desc = "Only messages after this cursor.")] after: Option<String>,
        #[graphql(desc = "So many messages up to the newest or before `before`; 1 to 100.")] last: Option<
            i32,
        >,
        #[graphql(desc = "Only messages before this cursor.")] before: Option<String>,
        #[graphql(
            desc = "Opens the history around the message with this `seq`: it is in the middle of the page, or \
            the page is the nearest to it that exists. `first` or `last` gives the size; not with `after` or `before`."
        )]
        around_seq: Option<i32>,
    ) -> Nullable<MessageConnection> {
        let arguments = PageArguments { first, after, last, before };
        if self.is_stub() { None } else { Some(self.message_page(ctx, arguments, around_seq).await) }
    }
}

impl From<ConversationView> for Conversation {
    fn from(view: ConversationView) -> Self {
        Self { head: view.conversation, standing: Standing::Member(Box::new(view.viewer)) }
    }
}

connection! {
    /// A page of the viewer's conversations, latest activity first.
    ConversationConnection,
    /// A conversation at its place in the list.
    ConversationEdge,
    Conversation
}
