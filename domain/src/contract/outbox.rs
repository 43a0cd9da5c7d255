//! The payload of an outbox row: the facts of one transaction, in protobuf.
//!
//! Fields are only ever added, with new tags; a reader skips what it does not know. Golden bytes are in the tests.

use prost::Message as _;

use crate::{ConversationId, Fact, MemberRole, SessionId, UserId};

#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    #[error("an outbox row is not protobuf")]
    Decode(#[from] prost::DecodeError),
    #[error("an outbox row names a conversation with {0} bytes")]
    ConversationId(usize),
    #[error("an outbox row has a fact of unknown kind {0}; was it written by a newer version?")]
    UnknownKind(i32),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(message, repeated, tag = "1")]
    facts: Vec<FactPayload>,
}

/// All facts in one message: they share most of their fields, and absent ones take no bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FactPayload {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    conversation: Vec<u8>,
    #[prost(int32, tag = "3")]
    rev: i32,
    #[prost(int32, tag = "4")]
    seq: i32,
    #[prost(int64, tag = "5")]
    user: i64,
    #[prost(int32, tag = "6")]
    role: i32,
    #[prost(int64, tag = "7")]
    session: i64,
    #[prost(int64, repeated, tag = "8")]
    members: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Unknown = 0,
    ConversationCreated = 1,
    MessageSent = 2,
    ReadMarked = 3,
    MemberJoined = 4,
    MemberLeft = 5,
    RoleChanged = 6,
    TitleChanged = 7,
    SessionEnded = 8,
}

pub fn encode(facts: &[Fact]) -> Vec<u8> {
    Payload { facts: facts.iter().map(to_payload).collect() }.encode_to_vec()
}

pub fn decode(payload: &[u8]) -> Result<Vec<Fact>, OutboxError> {
    Payload::decode(payload)?.facts.into_iter().map(to_fact).collect()
}

pub(super) fn to_payload(fact: &Fact) -> FactPayload {
    let mut payload = FactPayload {
        conversation: fact.conversation().map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        rev: fact.rev(),
        ..FactPayload::default()
    };
    let kind = match fact {
        Fact::ConversationCreated { members, .. } => {
            payload.members = members.iter().map(|user| user.0).collect();
            Kind::ConversationCreated
        }
        Fact::MessageSent { seq, .. } => {
            payload.seq = *seq;
            Kind::MessageSent
        }
        Fact::ReadMarked { user, read_seq, .. } => {
            payload.user = user.0;
            payload.seq = *read_seq;
            Kind::ReadMarked
        }
        Fact::MemberJoined { user, .. } => {
            payload.user = user.0;
            Kind::MemberJoined
        }
        Fact::MemberLeft { user, .. } => {
            payload.user = user.0;
            Kind::MemberLeft
        }
        Fact::RoleChanged { user, role, .. } => {
            payload.user = user.0;
            payload.role = role_number(*role);
            Kind::RoleChanged
        }
        Fact::TitleChanged { .. } => Kind::TitleChanged,
        Fact::SessionEnded { user, session } => {
            payload.user = user.0;
            payload.session = session.0;
            Kind::SessionEnded
        }
    };
    payload.set_kind(kind);
    payload
}

pub(super) fn to_fact(payload: FactPayload) -> Result<Fact, OutboxError> {
    let user = UserId(payload.user);
    let rev = payload.rev;
    let kind = Kind::try_from(payload.kind).unwrap_or(Kind::Unknown);
    if kind == Kind::SessionEnded {
        return Ok(Fact::SessionEnded { user, session: SessionId(payload.session) });
    }
    if kind == Kind::Unknown {
        return Err(OutboxError::UnknownKind(payload.kind));
    }
    let length = payload.conversation.len();
    let conversation = <[u8; 16]>::try_from(payload.conversation)
        .ok()
        .and_then(|bytes| ConversationId::from_bytes(bytes).ok())
        .ok_or(OutboxError::ConversationId(length))?;
    Ok(match kind {
        Kind::ConversationCreated => {
            let members = payload.members.into_iter().map(UserId).collect();
            Fact::ConversationCreated { conversation, rev, members }
        }
        Kind::MessageSent => Fact::MessageSent { conversation, rev, seq: payload.seq },
        Kind::ReadMarked => Fact::ReadMarked { conversation, rev, user, read_seq: payload.seq },
        Kind::MemberJoined => Fact::MemberJoined { conversation, rev, user },
        Kind::MemberLeft => Fact::MemberLeft { conversation, rev, user },
        Kind::RoleChanged => Fact::RoleChanged { conversation, rev, user, role: role(payload.role) },
        Kind::TitleChanged | Kind::SessionEnded | Kind::Unknown => Fact::TitleChanged { conversation, rev },
    })
}

pub(super) const fn role_number(role: MemberRole) -> i32 {
    match role {
        MemberRole::Member => 0,
        MemberRole::Admin => 1,
        MemberRole::Owner => 2,
    }
}

pub(super) const fn role(number: i32) -> MemberRole {
    match number {
        2 => MemberRole::Owner,
        1 => MemberRole::Admin,
        _ => MemberRole::Member,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Fact> {
        let conversation = ConversationId::group(77);
        let user = UserId(9);
        vec![
            Fact::ConversationCreated { conversation, rev: 1, members: vec![UserId(3), user] },
            Fact::MessageSent { conversation, rev: 2, seq: 1 },
            Fact::ReadMarked { conversation, rev: 3, user, read_seq: 1 },
            Fact::MemberJoined { conversation, rev: 4, user },
            Fact::MemberLeft { conversation, rev: 5, user },
            Fact::RoleChanged { conversation, rev: 6, user, role: MemberRole::Owner },
            Fact::TitleChanged { conversation, rev: 7 },
            Fact::SessionEnded { user, session: SessionId(5) },
        ]
    }

    #[test]
    fn facts_survive_the_outbox() {
        assert_eq!(decode(&encode(&samples())).expect("decodes"), samples());
    }

    #[test]
    fn what_version_1_wrote_stays_readable() {
        let golden: &[u8] = &[
            0x0a, 0x18, 0x08, 0x02, 0x12, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 77, 0x18, 0x02,
            0x20, 0x01,
        ];
        let fact = Fact::MessageSent { conversation: ConversationId::group(77), rev: 2, seq: 1 };
        assert_eq!(decode(golden).expect("decodes"), vec![fact.clone()]);
        assert_eq!(encode(&[fact]), golden);
    }

    #[test]
    fn an_unknown_fact_is_an_error_not_a_guess() {
        let payload = Payload { facts: vec![FactPayload { kind: 99, ..FactPayload::default() }] };
        assert!(matches!(decode(&payload.encode_to_vec()), Err(OutboxError::UnknownKind(99))));
    }
}
