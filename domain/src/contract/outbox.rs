//! The payload of an outbox row: the facts of one transaction. Golden bytes are in the tests.

use prost::Message as _;

use super::{
    proto,
    wire::{Wire as _, WireError},
};
use crate::LoggedFact;

pub fn encode(facts: &[LoggedFact]) -> Vec<u8> {
    proto::Facts { facts: facts.iter().map(LoggedFact::to_proto).collect() }.encode_to_vec()
}

pub fn decode(payload: &[u8]) -> Result<Vec<LoggedFact>, WireError> {
    Vec::from_proto(proto::Facts::decode(payload)?.facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConversationId, Fact, MemberRole, SessionId, UserId, trace::TraceId};

    fn samples() -> Vec<LoggedFact> {
        let conversation = ConversationId::group(77);
        let user = UserId(9);
        let facts = vec![
            Fact::ConversationCreated { conversation, rev: 1, members: vec![UserId(3), user] },
            Fact::MessageSent { conversation, rev: 2, seq: 1 },
            Fact::ReadMarked { conversation, rev: 3, user, read_seq: 1 },
            Fact::MemberJoined { conversation, rev: 4, user },
            Fact::MemberLeft { conversation, rev: 5, user },
            Fact::RoleChanged { conversation, rev: 6, user, role: MemberRole::Owner },
            Fact::TitleChanged { conversation, rev: 7 },
            Fact::SessionEnded { user, session: SessionId(5) },
        ];
        let traced = |fact| LoggedFact { fact, trace: Some(TraceId::from_bytes([9; 16])) };
        facts.into_iter().map(traced).collect()
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
        let fact = LoggedFact { fact, trace: None };
        assert_eq!(decode(golden).expect("decodes"), vec![fact.clone()]);
        assert_eq!(encode(&[fact]), golden);
    }

    #[test]
    fn an_unknown_fact_is_an_error_not_a_guess() {
        let payload = proto::Facts { facts: vec![proto::Fact { kind: 99, ..proto::Fact::default() }] };
        assert!(matches!(decode(&payload.encode_to_vec()), Err(WireError::UnknownFact(99))));
    }
}
