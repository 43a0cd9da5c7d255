//! The words of the model in protobuf, there and back.

mod conversation;
mod push;

use std::{num::NonZeroU64, sync::Arc};

use super::proto;
use crate::{
    ConversationId, Credentials, Event, Fact, LaneId, LoggedBatch, LoggedFact, MemberId, MemberRole,
    MessageId, Positions, Session, SessionId, Timestamp, User, UserId,
    port::log::Heads,
    trace::{ParentSpan, TraceContext, TraceId},
};

/// Why bytes of another process cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("not protobuf")]
    Decode(#[from] prost::DecodeError),
    #[error("no sound {0}")]
    Unsound(&'static str),
    #[error("a fact of unknown kind {0}; was it written by a newer version?")]
    UnknownFact(i32),
}

/// A type with a form on the wire.
pub(crate) trait Wire: Sized {
    type Proto;

    fn to_proto(&self) -> Self::Proto;

    fn from_proto(proto: Self::Proto) -> Result<Self, WireError>;
}

/// A message field that must be there.
pub(crate) fn required<T: Wire>(field: Option<T::Proto>, what: &'static str) -> Result<T, WireError> {
    T::from_proto(field.ok_or(WireError::Unsound(what))?)
}

impl<T: Wire> Wire for Vec<T> {
    type Proto = Vec<T::Proto>;

    fn to_proto(&self) -> Self::Proto {
        self.iter().map(T::to_proto).collect()
    }

    fn from_proto(proto: Self::Proto) -> Result<Self, WireError> {
        proto.into_iter().map(T::from_proto).collect()
    }
}

impl<T: Wire> Wire for Arc<T> {
    type Proto = T::Proto;

    fn to_proto(&self) -> Self::Proto {
        T::to_proto(self)
    }

    fn from_proto(proto: Self::Proto) -> Result<Self, WireError> {
        T::from_proto(proto).map(Self::new)
    }
}

/// Of which span a trace goes on, and whether it is exported.
pub(crate) fn span_to_proto(trace: Option<TraceContext>) -> (u64, bool) {
    let parent = trace.and_then(|trace| trace.parent);
    parent.map_or((0, false), |parent| (parent.id.get(), parent.sampled))
}

pub(crate) fn trace_of_proto(id: Option<TraceId>, span: u64, sampled: bool) -> Option<TraceContext> {
    let parent = NonZeroU64::new(span).map(|id| ParentSpan { id, sampled });
    id.map(|id| TraceContext { id, parent })
}

/// Types that are one number inside.
macro_rules! numbers {
    ($($name:ident),*) => {
        $(impl Wire for $name {
            type Proto = i64;

            fn to_proto(&self) -> i64 {
                self.0
            }

            fn from_proto(proto: i64) -> Result<Self, WireError> {
                Ok(Self(proto))
            }
        })*
    };
}

numbers!(MessageId, SessionId, Timestamp, UserId);

impl Wire for ConversationId {
    type Proto = Vec<u8>;

    fn to_proto(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_proto(proto: Vec<u8>) -> Result<Self, WireError> {
        let bytes = proto.try_into().map_err(|_| WireError::Unsound("conversation id"))?;
        Self::from_bytes(bytes).map_err(|_| WireError::Unsound("conversation id"))
    }
}

impl Wire for LaneId {
    type Proto = u32;

    fn to_proto(&self) -> u32 {
        self.0.into()
    }

    fn from_proto(proto: u32) -> Result<Self, WireError> {
        u16::try_from(proto).map(Self).map_err(|_| WireError::Unsound("lane"))
    }
}

impl Wire for MemberId {
    type Proto = proto::MemberId;

    fn to_proto(&self) -> proto::MemberId {
        proto::MemberId { conversation: self.conversation.to_proto(), user: self.user.0 }
    }

    fn from_proto(proto: proto::MemberId) -> Result<Self, WireError> {
        Ok(Self { conversation: Wire::from_proto(proto.conversation)?, user: UserId(proto.user) })
    }
}

/// The place of a message.
impl Wire for (ConversationId, i32) {
    type Proto = proto::Place;

    fn to_proto(&self) -> proto::Place {
        proto::Place { conversation: self.0.to_proto(), seq: self.1 }
    }

    fn from_proto(proto: proto::Place) -> Result<Self, WireError> {
        Ok((Wire::from_proto(proto.conversation)?, proto.seq))
    }
}

impl Wire for MemberRole {
    type Proto = i32;

    fn to_proto(&self) -> i32 {
        let role = match self {
            Self::Member => proto::Role::Member,
            Self::Admin => proto::Role::Admin,
            Self::Owner => proto::Role::Owner,
        };
        role.into()
    }

    fn from_proto(proto: i32) -> Result<Self, WireError> {
        match proto::Role::try_from(proto) {
            Ok(proto::Role::Member) => Ok(Self::Member),
            Ok(proto::Role::Admin) => Ok(Self::Admin),
            Ok(proto::Role::Owner) => Ok(Self::Owner),
            Err(_) => Err(WireError::Unsound("role")),
        }
    }
}

impl Wire for Fact {
    type Proto = proto::Fact;

    fn to_proto(&self) -> proto::Fact {
        use proto::FactKind as Kind;
        let conversation = self.conversation().map(|id| id.to_proto()).unwrap_or_default();
        let mut fact = proto::Fact { conversation, rev: self.rev(), ..proto::Fact::default() };
        let kind = match self {
            Self::ConversationCreated { members, .. } => {
                fact.members = members.to_proto();
                Kind::ConversationCreated
            }
            Self::MessageSent { seq, .. } => {
                fact.seq = *seq;
                Kind::MessageSent
            }
            Self::ReadMarked { user, read_seq, .. } => {
                (fact.user, fact.seq) = (user.0, *read_seq);
                Kind::ReadMarked
            }
            Self::MemberJoined { user, .. } => {
                fact.user = user.0;
                Kind::MemberJoined
            }
            Self::MemberLeft { user, .. } => {
                fact.user = user.0;
                Kind::MemberLeft
            }
            Self::RoleChanged { user, role, .. } => {
                (fact.user, fact.role) = (user.0, role.to_proto());
                Kind::RoleChanged
            }
            Self::TitleChanged { .. } => Kind::TitleChanged,
            Self::SessionEnded { user, session } => {
                (fact.user, fact.session) = (user.0, session.0);
                Kind::SessionEnded
            }
        };
        fact.set_kind(kind);
        fact
    }

    fn from_proto(fact: proto::Fact) -> Result<Self, WireError> {
        use proto::FactKind as Kind;
        let (user, rev) = (UserId(fact.user), fact.rev);
        let kind = Kind::try_from(fact.kind).unwrap_or(Kind::Unknown);
        if kind == Kind::SessionEnded {
            return Ok(Self::SessionEnded { user, session: SessionId(fact.session) });
        }
        if kind == Kind::Unknown {
            return Err(WireError::UnknownFact(fact.kind));
        }
        let conversation = ConversationId::from_proto(fact.conversation)?;
        Ok(match kind {
            Kind::ConversationCreated => {
                Self::ConversationCreated { conversation, rev, members: Wire::from_proto(fact.members)? }
            }
            Kind::MessageSent => Self::MessageSent { conversation, rev, seq: fact.seq },
            Kind::ReadMarked => Self::ReadMarked { conversation, rev, user, read_seq: fact.seq },
            Kind::MemberJoined => Self::MemberJoined { conversation, rev, user },
            Kind::MemberLeft => Self::MemberLeft { conversation, rev, user },
            Kind::RoleChanged => {
                Self::RoleChanged { conversation, rev, user, role: Wire::from_proto(fact.role)? }
            }
            Kind::TitleChanged | Kind::SessionEnded | Kind::Unknown => {
                Self::TitleChanged { conversation, rev }
            }
        })
    }
}

impl Wire for LoggedFact {
    type Proto = proto::Fact;

    fn to_proto(&self) -> proto::Fact {
        let trace = self.trace.map(|trace| trace.id.to_bytes().to_vec()).unwrap_or_default();
        let (span, sampled) = span_to_proto(self.trace);
        proto::Fact { trace, span, sampled, ..self.fact.to_proto() }
    }

    fn from_proto(fact: proto::Fact) -> Result<Self, WireError> {
        let id = <[u8; 16]>::try_from(fact.trace.as_slice()).ok().map(TraceId::from_bytes);
        let trace = trace_of_proto(id, fact.span, fact.sampled);
        Ok(Self { fact: Fact::from_proto(fact)?, trace })
    }
}

impl Wire for Event {
    type Proto = proto::Event;

    fn to_proto(&self) -> proto::Event {
        proto::Event {
            fact: Some(LoggedFact { fact: self.fact.clone(), trace: self.trace }.to_proto()),
            conversation: self.conversation.as_ref().map(Wire::to_proto),
            message: self.message.as_ref().map(Wire::to_proto),
            member: self.member.as_ref().map(Wire::to_proto),
        }
    }

    fn from_proto(event: proto::Event) -> Result<Self, WireError> {
        let LoggedFact { fact, trace } = required(event.fact, "fact")?;
        Ok(Self {
            fact,
            trace,
            conversation: event.conversation.map(Wire::from_proto).transpose()?,
            message: event.message.map(Wire::from_proto).transpose()?,
            member: event.member.map(Wire::from_proto).transpose()?,
        })
    }
}

impl Wire for LoggedBatch {
    type Proto = proto::Batch;

    fn to_proto(&self) -> proto::Batch {
        proto::Batch { node: 0, lane: self.lane.to_proto(), pos: self.pos, events: self.events.to_proto() }
    }

    fn from_proto(batch: proto::Batch) -> Result<Self, WireError> {
        let (lane, events) = (Wire::from_proto(batch.lane)?, Wire::from_proto(batch.events)?);
        Ok(Self { lane, pos: batch.pos, events })
    }
}

impl Wire for User {
    type Proto = proto::User;

    fn to_proto(&self) -> proto::User {
        proto::User {
            id: self.id.0,
            username: self.username.to_string(),
            display_name: self.display_name.to_string(),
            created_at: self.created_at.0,
        }
    }

    fn from_proto(user: proto::User) -> Result<Self, WireError> {
        Ok(Self {
            id: UserId(user.id),
            username: user.username.into(),
            display_name: user.display_name.into(),
            created_at: Timestamp(user.created_at),
        })
    }
}

impl Wire for Session {
    type Proto = proto::Session;

    fn to_proto(&self) -> proto::Session {
        proto::Session {
            id: self.id.0,
            user: self.user.0,
            device_name: self.device_name.clone(),
            created_at: self.created_at.0,
            last_used_at: self.last_used_at.0,
        }
    }

    fn from_proto(session: proto::Session) -> Result<Self, WireError> {
        Ok(Self {
            id: SessionId(session.id),
            user: UserId(session.user),
            device_name: session.device_name,
            created_at: Timestamp(session.created_at),
            last_used_at: Timestamp(session.last_used_at),
        })
    }
}

impl Wire for Credentials {
    type Proto = proto::Credentials;

    fn to_proto(&self) -> proto::Credentials {
        proto::Credentials {
            access_token: self.access_token.clone(),
            access_token_expires_at: self.access_token_expires_at.0,
            refresh_token: self.refresh_token.clone(),
        }
    }

    fn from_proto(credentials: proto::Credentials) -> Result<Self, WireError> {
        Ok(Self {
            access_token: credentials.access_token,
            access_token_expires_at: Timestamp(credentials.access_token_expires_at),
            refresh_token: credentials.refresh_token,
        })
    }
}

impl Wire for Positions {
    type Proto = proto::Positions;

    fn to_proto(&self) -> proto::Positions {
        proto::Positions { positions: self.as_slice().to_vec() }
    }

    fn from_proto(positions: proto::Positions) -> Result<Self, WireError> {
        Ok(Self::from_vec(positions.positions))
    }
}

impl Wire for Heads {
    type Proto = proto::HeadsReply;

    fn to_proto(&self) -> proto::HeadsReply {
        proto::HeadsReply { epoch: self.epoch, positions: self.positions.as_slice().to_vec() }
    }

    fn from_proto(heads: proto::HeadsReply) -> Result<Self, WireError> {
        Ok(Self { epoch: heads.epoch, positions: Positions::from_vec(heads.positions) })
    }
}
