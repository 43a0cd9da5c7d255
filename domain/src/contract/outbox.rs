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
    use std::num::NonZeroU64;

    use super::*;
    use crate::{
        ConversationId, Fact, MemberRole, SessionId, UserId,
        trace::{ParentSpan, TraceContext, TraceId},
    };

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
        let traced = |fact| LoggedFact { fact, trace: Some(TraceId::from_bytes([9; 16]).into()) };
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
    fn a_trace_is_written_with_its_span_and_without_one_as_before() {
        let fact = Fact::TitleChanged { conversation: ConversationId::group(77), rev: 2 };
        let begins = [
            &[
                0x0a, 0x28, 0x08, 0x07, 0x12, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 77, 0x18,
                0x02,
            ][..],
            &[0x4a, 0x10],
            &[9; 16],
        ]
        .concat();
        let id = TraceId::from_bytes([9; 16]);
        let traced = LoggedFact { fact, trace: Some(id.into()) };
        assert_eq!(decode(&begins).expect("decodes"), vec![traced.clone()]);
        assert_eq!(encode(std::slice::from_ref(&traced)), begins);

        let mut with_span = begins;
        with_span[1] = 0x33;
        with_span.extend([0x51, 8, 7, 6, 5, 4, 3, 2, 1, 0x58, 0x01]);
        let parent =
            ParentSpan { id: NonZeroU64::new(0x0102_0304_0506_0708).expect("not zero"), sampled: true };
        let traced = LoggedFact { trace: Some(TraceContext { id, parent: Some(parent) }), ..traced };
        assert_eq!(decode(&with_span).expect("decodes"), vec![traced.clone()]);
        assert_eq!(encode(&[traced]), with_span);
    }

    #[test]
    fn an_unknown_fact_is_an_error_not_a_guess() {
        let payload = proto::Facts { facts: vec![proto::Fact { kind: 99, ..proto::Fact::default() }] };
        assert!(matches!(decode(&payload.encode_to_vec()), Err(WireError::UnknownFact(99))));
    }
}
