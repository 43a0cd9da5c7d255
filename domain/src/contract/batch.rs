//! A committed batch on its way between nodes: facts with the data that shows them.
//!
//! A node that cannot read a batch finds it in the log.

use prost::Message as _;

use super::{
    proto,
    wire::{Wire as _, WireError},
};
use crate::LoggedBatch;

pub fn encode(node: u64, batch: &LoggedBatch) -> Vec<u8> {
    proto::Batch { node, ..batch.to_proto() }.encode_to_vec()
}

/// The batch, unless `own` published it: who hears itself reads no more than that.
pub fn decode(bytes: &[u8], own: u64) -> Result<Option<LoggedBatch>, WireError> {
    if proto::BatchOrigin::decode(bytes)?.node == own {
        return Ok(None);
    }
    LoggedBatch::from_proto(proto::Batch::decode(bytes)?).map(Some)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        ClientKey, Content, Conversation, ConversationId, ConversationKind, Event, Fact, LaneId, Member,
        MemberRole, Message, MessageId, SenderPosition, Timestamp, UserId,
        model::message::SystemContent,
        trace::{TraceContext, TraceId},
    };

    fn batch() -> LoggedBatch {
        let conversation = ConversationId::group(77);
        let sender = SenderPosition { user: UserId(9), seq: 3, countable: 2 };
        let head = Arc::new(Conversation {
            id: conversation,
            kind: ConversationKind::Group,
            title: Some("Tea".into()),
            created_at: Timestamp(1),
            last_seq: 3,
            rev: 5,
            countable: 2,
            member_count: 4,
            active_at: Timestamp(2),
            pos: 8,
            title_pos: 1,
            title_rev: 1,
            senders: [sender].into_iter().collect(),
        });
        let message = |content| {
            Arc::new(Message {
                id: MessageId(4),
                conversation,
                seq: 3,
                rev: 5,
                created_rev: 5,
                pos: 8,
                sender: Some(UserId(9)),
                client_key: ClientKey::from_stored(b"k".to_vec()),
                content_hash: [7; 16],
                content,
                mentions: [UserId(9)].into_iter().collect(),
                created_at: Timestamp(2),
                countable: 2,
            })
        };
        let member = Arc::new(Member {
            conversation,
            user: UserId(9),
            role: MemberRole::Admin,
            read_seq: 1,
            read_countable: 1,
            joined_at: Timestamp(1),
            joined_rev: 1,
            joined_pos: 1,
            removed_rev: Some(4),
            removed_pos: 7,
            role_rev: 2,
            role_pos: 2,
            read_rev: 3,
            read_pos: 3,
        });
        let sent = Fact::MessageSent { conversation, rev: 5, seq: 3 };
        let event = |message: Option<Arc<Message>>, member: Option<Arc<Member>>| {
            Arc::new(Event {
                fact: sent.clone(),
                conversation: Some(head.clone()),
                message,
                member,
                trace: Some(TraceContext::from(TraceId::from_bytes([7; 16]))),
            })
        };
        let system: SystemContent = serde_json::from_str(SYSTEM).expect("a system message");
        let events = vec![
            event(Some(message(Content::Text("hello".into()))), None),
            event(Some(message(Content::System(system))), None),
            event(None, Some(member)),
            Arc::new(Event {
                fact: Fact::SessionEnded { user: UserId(9), session: crate::SessionId(5) },
                conversation: None,
                message: None,
                member: None,
                trace: None,
            }),
        ];
        LoggedBatch { lane: LaneId(3), pos: 8, events }
    }

    const SYSTEM: &str =
        "{\"text\":\"Ada added Bob\",\"action\":\"members_added\",\"actor\":9,\"subjects\":[10]}";

    #[test]
    fn batches_survive_the_way() {
        assert_eq!(decode(&encode(42, &batch()), 7).expect("decodes"), Some(batch()));
        assert_eq!(decode(&encode(42, &batch()), 42).expect("decodes"), None, "its own");
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        assert!(matches!(decode(b"\xff\xff", 7), Err(WireError::Decode(_))));
        let mut unknown = proto::Batch { lane: 70_000, ..proto::Batch::default() };
        assert!(matches!(decode(&unknown.encode_to_vec(), 7), Err(WireError::Unsound("lane"))));
        unknown.lane = 1;
        unknown.events.push(proto::Event {
            fact: Some(proto::Fact::default()),
            conversation: Some(proto::Conversation::default()),
            ..proto::Event::default()
        });
        assert!(matches!(decode(&unknown.encode_to_vec(), 7), Err(WireError::UnknownFact(0))));
    }
}
