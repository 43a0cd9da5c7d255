//! Requests and replies of the calls in protobuf, there and back.

mod presence;

use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::Arc};

use crate::{
    ClientKey, ConversationId, ConversationView, Credentials, DeadTask, Direction, LoggedBatch, Member,
    MemberId, Mentions, Message, MessageId, MessageText, Page, PageRequest, Positions, PushBatch,
    PushProvider, PushTask, QuietHours, RelayBacklog, RelayLane, Session, SessionId, Timestamp, Title, User,
    UserId,
    contract::{
        WireError, proto,
        wire::{Wire, required},
    },
    port::{
        conversations::{HistoryPage, ListCursor, Missed, MissedInConversation},
        log::Heads,
    },
    service::{register::SignedIn, send_message::SendMessage},
};

/// What a call answers, as a message of its own.
pub(crate) trait Reply: Sized {
    type Proto;

    fn to_reply(&self) -> Self::Proto;

    fn from_reply(proto: Self::Proto) -> Result<Self, WireError>;
}

/// Replies that are one word of the model.
macro_rules! words {
    ($($name:ty),*) => {
        $(impl Reply for $name {
            type Proto = <$name as Wire>::Proto;

            fn to_reply(&self) -> Self::Proto {
                self.to_proto()
            }

            fn from_reply(proto: Self::Proto) -> Result<Self, WireError> {
                Self::from_proto(proto)
            }
        })*
    };
}

words!(Arc<Message>, ConversationView, Credentials, Heads, Member, Positions, User);

/// Replies that are a list, found again by a key.
macro_rules! lists {
    ($($name:ty = $message:ident { $field:ident: $item:ty } as ($collect:expr, $items:expr);)*) => {
        $(impl Reply for $name {
            type Proto = proto::$message;

            fn to_reply(&self) -> Self::Proto {
                let items: fn(&Self) -> Vec<<$item as Wire>::Proto> = $items;
                proto::$message { $field: items(self) }
            }

            fn from_reply(proto: Self::Proto) -> Result<Self, WireError> {
                let collect: fn(Vec<$item>) -> Self = $collect;
                Ok(collect(Wire::from_proto(proto.$field)?))
            }
        })*
    };
}

lists! {
    Vec<SessionId> = Ids { ids: SessionId } as (|ids| ids, Wire::to_proto);
    Vec<Session> = SessionsReply { sessions: Session } as (|sessions| sessions, Wire::to_proto);
    Vec<LoggedBatch> = ReadLogReply { batches: LoggedBatch } as (|batches| batches, Wire::to_proto);
    Option<User> = UsersReply { users: User } as (|mut users| users.pop(), |user| user.iter().map(Wire::to_proto).collect());
    HashMap<UserId, User> = UsersReply { users: User } as (|users| by(users, |user| user.id), values);
    HashMap<ConversationId, ConversationView> = ViewsReply { views: ConversationView }
        as (|views| by(views, |view| view.conversation.id), values);
    HashMap<MemberId, Member> = MembersReply { members: Member } as (|members| by(members, Member::id), values);
    HashMap<MessageId, Arc<Message>> = MessagesReply { messages: Arc<Message> }
        as (|messages| by(messages, |message| message.id), values);
    HashMap<(ConversationId, i32), Arc<Message>> = MessagesReply { messages: Arc<Message> }
        as (|messages| by(messages, |message| (message.conversation, message.seq)), values);
    Vec<UserId> = Ids { ids: UserId } as (|ids| ids, Wire::to_proto);
    Vec<PushBatch> = DuePushesReply { batches: PushBatch } as (|batches| batches, Wire::to_proto);
    Vec<PushTask> = ParkedPushesReply { pushes: PushTask } as (|pushes| pushes, Wire::to_proto);
    Vec<DeadTask> = DeadTasksReply { tasks: DeadTask } as (|tasks| tasks, Wire::to_proto);
    HashMap<SessionId, PushProvider> = PushProvidersReply { sessions: (SessionId, PushProvider) }
        as (|sessions| sessions.into_iter().collect(), |sessions| sessions.iter().map(|(id, provider)| (*id, *provider).to_proto()).collect());
    HashMap<ConversationId, Timestamp> = MutedReply { conversations: (ConversationId, Timestamp) }
        as (|muted| muted.into_iter().collect(), |muted| muted.iter().map(|(id, until)| (*id, *until).to_proto()).collect());
    Vec<RelayBacklog> = RelayBacklogReply { lanes: RelayBacklog } as (|lanes| lanes, Wire::to_proto);
    Vec<RelayLane> = HoldLanesReply { lanes: RelayLane } as (|lanes| lanes, Wire::to_proto);
    Vec<(SessionId, Timestamp)> = EndedSessionsReply { sessions: (SessionId, Timestamp) } as (|ended| ended, Wire::to_proto);
}

fn by<K: Eq + Hash, T>(items: Vec<T>, key: impl Fn(&T) -> K) -> HashMap<K, T> {
    items.into_iter().map(|item| (key(&item), item)).collect()
}

fn values<K, T: Wire>(items: &HashMap<K, T>) -> Vec<T::Proto> {
    items.values().map(T::to_proto).collect()
}

impl Wire for (SessionId, Timestamp) {
    type Proto = proto::EndedSession;

    fn to_proto(&self) -> proto::EndedSession {
        proto::EndedSession { session: self.0.0, ended_at: self.1.0 }
    }

    fn from_proto(ended: proto::EndedSession) -> Result<Self, WireError> {
        Ok((SessionId(ended.session), Timestamp(ended.ended_at)))
    }
}

impl Wire for RelayLane {
    type Proto = proto::RelayLane;

    fn to_proto(&self) -> proto::RelayLane {
        proto::RelayLane { lane: self.lane.to_proto(), fence: self.fence, pos: self.pos }
    }

    fn from_proto(held: proto::RelayLane) -> Result<Self, WireError> {
        Ok(Self { lane: Wire::from_proto(held.lane)?, fence: held.fence, pos: held.pos })
    }
}

impl Wire for RelayBacklog {
    type Proto = proto::RelayBacklog;

    fn to_proto(&self) -> proto::RelayBacklog {
        let oldest = self.oldest.map(|oldest| oldest.0);
        proto::RelayBacklog { lane: self.lane.to_proto(), positions: self.positions, oldest }
    }

    fn from_proto(backlog: proto::RelayBacklog) -> Result<Self, WireError> {
        let oldest = backlog.oldest.map(Timestamp);
        Ok(Self { lane: Wire::from_proto(backlog.lane)?, positions: backlog.positions, oldest })
    }
}

impl Reply for PushProvider {
    type Proto = proto::PushProviderReply;

    fn to_reply(&self) -> proto::PushProviderReply {
        proto::PushProviderReply { provider: self.to_proto() }
    }

    fn from_reply(proto: proto::PushProviderReply) -> Result<Self, WireError> {
        Self::from_proto(proto.provider)
    }
}

impl Reply for Option<QuietHours> {
    type Proto = proto::MaybeQuietHours;

    fn to_reply(&self) -> proto::MaybeQuietHours {
        proto::MaybeQuietHours { hours: self.as_ref().map(Wire::to_proto) }
    }

    fn from_reply(proto: proto::MaybeQuietHours) -> Result<Self, WireError> {
        proto.hours.map(Wire::from_proto).transpose()
    }
}

impl Reply for bool {
    type Proto = proto::YesOrNo;

    fn to_reply(&self) -> proto::YesOrNo {
        proto::YesOrNo { yes: *self }
    }

    fn from_reply(proto: proto::YesOrNo) -> Result<Self, WireError> {
        Ok(proto.yes)
    }
}

impl Reply for () {
    type Proto = proto::Nothing;

    fn to_reply(&self) -> proto::Nothing {
        proto::Nothing {}
    }

    fn from_reply(_: proto::Nothing) -> Result<Self, WireError> {
        Ok(())
    }
}

impl Reply for u64 {
    type Proto = proto::Count;

    fn to_reply(&self) -> proto::Count {
        proto::Count { count: *self }
    }

    fn from_reply(proto: proto::Count) -> Result<Self, WireError> {
        Ok(proto.count)
    }
}

impl Reply for i32 {
    type Proto = proto::UnreadCount;

    fn to_reply(&self) -> proto::UnreadCount {
        proto::UnreadCount { messages: *self }
    }

    fn from_reply(proto: proto::UnreadCount) -> Result<Self, WireError> {
        Ok(proto.messages)
    }
}

impl Reply for SignedIn {
    type Proto = proto::SignedIn;

    fn to_reply(&self) -> proto::SignedIn {
        proto::SignedIn { user: Some(self.user.to_proto()), credentials: Some(self.credentials.to_proto()) }
    }

    fn from_reply(proto: proto::SignedIn) -> Result<Self, WireError> {
        let user = required(proto.user, "user")?;
        Ok(Self { user, credentials: required(proto.credentials, "credentials")? })
    }
}

impl Reply for Page<ConversationView> {
    type Proto = proto::ViewPage;

    fn to_reply(&self) -> proto::ViewPage {
        let (has_previous, has_next) = (self.has_previous, self.has_next);
        proto::ViewPage { items: self.items.to_proto(), has_previous, has_next }
    }

    fn from_reply(page: proto::ViewPage) -> Result<Self, WireError> {
        let (has_previous, has_next) = (page.has_previous, page.has_next);
        Ok(Self { items: Wire::from_proto(page.items)?, has_previous, has_next })
    }
}

impl Reply for Page<Arc<Message>> {
    type Proto = proto::MessagePage;

    fn to_reply(&self) -> proto::MessagePage {
        let (has_previous, has_next) = (self.has_previous, self.has_next);
        proto::MessagePage { items: self.items.to_proto(), has_previous, has_next }
    }

    fn from_reply(page: proto::MessagePage) -> Result<Self, WireError> {
        let (has_previous, has_next) = (page.has_previous, page.has_next);
        Ok(Self { items: Wire::from_proto(page.items)?, has_previous, has_next })
    }
}

impl Reply for Vec<Page<Arc<Message>>> {
    type Proto = proto::MessagePages;

    fn to_reply(&self) -> proto::MessagePages {
        proto::MessagePages { pages: self.iter().map(Reply::to_reply).collect() }
    }

    fn from_reply(proto: proto::MessagePages) -> Result<Self, WireError> {
        proto.pages.into_iter().map(Page::from_reply).collect()
    }
}

impl Reply for HashMap<ConversationId, Page<Member>> {
    type Proto = proto::MemberPages;

    fn to_reply(&self) -> proto::MemberPages {
        let pages = self.iter().map(|(conversation, page)| proto::MemberPage {
            conversation: conversation.to_proto(),
            items: page.items.to_proto(),
            has_previous: page.has_previous,
            has_next: page.has_next,
        });
        proto::MemberPages { pages: pages.collect() }
    }

    fn from_reply(proto: proto::MemberPages) -> Result<Self, WireError> {
        let pages = proto.pages.into_iter().map(|page| {
            let (has_previous, has_next) = (page.has_previous, page.has_next);
            let items = Wire::from_proto(page.items)?;
            Ok((Wire::from_proto(page.conversation)?, Page { items, has_previous, has_next }))
        });
        pages.collect()
    }
}

impl Reply for Missed {
    type Proto = proto::MissedReply;

    fn to_reply(&self) -> proto::MissedReply {
        let memberships = self.memberships.iter().map(|(conversation, role)| proto::Membership {
            conversation: conversation.to_proto(),
            role: role.to_proto(),
        });
        let conversations = self.conversations.iter().map(|missed| proto::MissedInConversation {
            conversation: Some(missed.conversation.to_proto()),
            viewer: Some(missed.viewer.to_proto()),
            members: missed.members.to_proto(),
            messages: missed.messages.to_proto(),
        });
        proto::MissedReply {
            heads: Some(self.heads.to_proto()),
            memberships: memberships.collect(),
            conversations: conversations.collect(),
            too_much: self.too_much,
            resumable_from: Some(self.resumable_from.to_proto()),
        }
    }

    fn from_reply(proto: proto::MissedReply) -> Result<Self, WireError> {
        let memberships = proto.memberships.into_iter().map(|membership| {
            Ok((Wire::from_proto(membership.conversation)?, Wire::from_proto(membership.role)?))
        });
        let conversations = proto.conversations.into_iter().map(|missed| {
            Ok(MissedInConversation {
                conversation: required(missed.conversation, "conversation")?,
                viewer: required(missed.viewer, "viewer")?,
                members: Wire::from_proto(missed.members)?,
                messages: Wire::from_proto(missed.messages)?,
            })
        });
        Ok(Self {
            heads: required(proto.heads, "heads")?,
            memberships: memberships.collect::<Result<_, WireError>>()?,
            conversations: conversations.collect::<Result<_, WireError>>()?,
            too_much: proto.too_much,
            resumable_from: required(proto.resumable_from, "resumable_from")?,
        })
    }
}

impl Wire for ListCursor {
    type Proto = proto::ListCursor;

    fn to_proto(&self) -> proto::ListCursor {
        proto::ListCursor { active_at: self.active_at.0, conversation: self.conversation.to_proto() }
    }

    fn from_proto(cursor: proto::ListCursor) -> Result<Self, WireError> {
        let conversation = Wire::from_proto(cursor.conversation)?;
        Ok(Self { active_at: Timestamp(cursor.active_at), conversation })
    }
}

pub(super) fn list_request(page: proto::PageOfConversations) -> Result<PageRequest<ListCursor>, WireError> {
    let after = page.after.map(Wire::from_proto).transpose()?;
    let before = page.before.map(Wire::from_proto).transpose()?;
    checked_page(page.size, page.backward, after, before)
}

pub(crate) fn page_to_proto<C>(request: &PageRequest<C>, number: impl Fn(&C) -> i64) -> proto::PageOfNumbers {
    proto::PageOfNumbers {
        size: request.size,
        backward: request.direction == Direction::Backward,
        after: request.after.as_ref().map(&number),
        before: request.before.as_ref().map(&number),
    }
}

pub(super) fn page_request<C>(
    page: Option<proto::PageOfNumbers>,
    cursor: impl Fn(i64) -> Option<C>,
) -> Result<PageRequest<C>, WireError> {
    let page = page.ok_or(WireError::Unsound("page"))?;
    let read = |number: Option<i64>| {
        number.map(|number| cursor(number).ok_or(WireError::Unsound("page cursor"))).transpose()
    };
    checked_page(page.size, page.backward, read(page.after)?, read(page.before)?)
}

pub(super) fn history_pages(pages: Vec<proto::HistoryRequest>) -> Result<Vec<HistoryPage>, WireError> {
    let page = |page: proto::HistoryRequest| {
        Ok(HistoryPage {
            conversation: Wire::from_proto(page.conversation)?,
            request: page_request(page.page, |number| i32::try_from(number).ok())?,
        })
    };
    pages.into_iter().map(page).collect()
}

/// With the checks of every page.
fn checked_page<C>(
    size: u32,
    backward: bool,
    after: Option<C>,
    before: Option<C>,
) -> Result<PageRequest<C>, WireError> {
    let size = i32::try_from(size).map_err(|_| WireError::Unsound("page size"))?;
    let request = if backward {
        PageRequest::new((None, after), (Some(size), before), Direction::Backward)
    } else {
        PageRequest::new((Some(size), after), (None, before), Direction::Forward)
    };
    request.map_err(|_| WireError::Unsound("page size"))
}

pub(crate) fn address_to_proto(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn address(bytes: &[u8]) -> Result<IpAddr, WireError> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.map_err(|_| WireError::Unsound("address"))
}

pub(super) fn title(text: String) -> Result<Title, WireError> {
    Title::new(text).map_err(|_| WireError::Unsound("title"))
}

pub(super) fn client_key(text: String) -> Result<ClientKey, WireError> {
    ClientKey::new(&["clientKey"], text).map_err(|_| WireError::Unsound("client key"))
}

pub(super) fn send_command(request: proto::SendMessageRequest) -> Result<SendMessage, WireError> {
    Ok(SendMessage {
        conversation: Wire::from_proto(request.conversation)?,
        client_key: client_key(request.client_key)?,
        text: MessageText::new(&["text"], request.text).map_err(|_| WireError::Unsound("text"))?,
        mentions: Mentions::new(&["mentions"], request.mentions.into_iter().map(UserId))
            .map_err(|_| WireError::Unsound("mentions"))?,
    })
}
