//! A committed batch on its way between nodes: facts with the data that shows them, in protobuf.
//!
//! Fields are only ever added, with new tags. A node that cannot read a batch finds it in the log.

use std::sync::Arc;

use prost::Message as _;

use super::outbox::{self, FactPayload, OutboxError};
use crate::{
    ClientKey, Content, Conversation, ConversationId, ConversationKind, Event, LaneId, LoggedBatch, Member,
    Message, MessageId, RecentSenders, SenderPosition, Timestamp, UserId,
};

#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error("a batch is not protobuf")]
    Decode(#[from] prost::DecodeError),
    #[error(transparent)]
    Fact(#[from] OutboxError),
    #[error("a batch has no sound {0}")]
    Unsound(&'static str),
}

#[derive(Clone, PartialEq, prost::Message)]
struct BatchPayload {
    /// The node that published it.
    #[prost(fixed64, tag = "1")]
    node: u64,
    #[prost(uint32, tag = "2")]
    lane: u32,
    #[prost(int64, tag = "3")]
    pos: i64,
    #[prost(message, repeated, tag = "4")]
    events: Vec<EventPayload>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EventPayload {
    #[prost(message, required, tag = "1")]
    fact: FactPayload,
    #[prost(message, optional, tag = "2")]
    conversation: Option<HeadPayload>,
    #[prost(message, optional, tag = "3")]
    message: Option<MessagePayload>,
    #[prost(message, optional, tag = "4")]
    member: Option<MemberPayload>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeadPayload {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bool, tag = "2")]
    group: bool,
    #[prost(string, optional, tag = "3")]
    title: Option<String>,
    #[prost(int64, tag = "4")]
    created_at: i64,
    #[prost(int32, tag = "5")]
    last_seq: i32,
    #[prost(int32, tag = "6")]
    rev: i32,
    #[prost(int32, tag = "7")]
    countable: i32,
    #[prost(int32, tag = "8")]
    member_count: i32,
    #[prost(int64, tag = "9")]
    active_at: i64,
    #[prost(int64, tag = "10")]
    pos: i64,
    #[prost(int64, tag = "11")]
    title_pos: i64,
    #[prost(int32, tag = "12")]
    title_rev: i32,
    #[prost(message, repeated, tag = "13")]
    senders: Vec<SenderPayload>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SenderPayload {
    #[prost(int64, tag = "1")]
    user: i64,
    #[prost(int32, tag = "2")]
    seq: i32,
    #[prost(int32, tag = "3")]
    countable: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessagePayload {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(bytes = "vec", tag = "2")]
    conversation: Vec<u8>,
    #[prost(int32, tag = "3")]
    seq: i32,
    #[prost(int32, tag = "4")]
    rev: i32,
    #[prost(int32, tag = "5")]
    created_rev: i32,
    #[prost(int64, tag = "6")]
    pos: i64,
    #[prost(int64, optional, tag = "7")]
    sender: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "8")]
    client_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", tag = "9")]
    content_hash: Vec<u8>,
    #[prost(string, optional, tag = "10")]
    text: Option<String>,
    /// JSON of a system message, as in the table.
    #[prost(string, optional, tag = "11")]
    system: Option<String>,
    #[prost(int64, tag = "12")]
    created_at: i64,
    #[prost(int32, tag = "13")]
    countable: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemberPayload {
    #[prost(bytes = "vec", tag = "1")]
    conversation: Vec<u8>,
    #[prost(int64, tag = "2")]
    user: i64,
    #[prost(int32, tag = "3")]
    role: i32,
    #[prost(int32, tag = "4")]
    read_seq: i32,
    #[prost(int32, tag = "5")]
    read_countable: i32,
    #[prost(int64, tag = "6")]
    joined_at: i64,
    #[prost(int32, tag = "7")]
    joined_rev: i32,
    #[prost(int64, tag = "8")]
    joined_pos: i64,
    #[prost(int32, optional, tag = "9")]
    removed_rev: Option<i32>,
    #[prost(int64, tag = "10")]
    removed_pos: i64,
    #[prost(int32, tag = "11")]
    role_rev: i32,
    #[prost(int64, tag = "12")]
    role_pos: i64,
    #[prost(int32, tag = "13")]
    read_rev: i32,
    #[prost(int64, tag = "14")]
    read_pos: i64,
}

pub fn encode(node: u64, batch: &LoggedBatch) -> Vec<u8> {
    let events = batch.events.iter().map(|event| EventPayload {
        fact: outbox::to_payload(&event.fact),
        conversation: event.conversation.as_deref().map(head_payload),
        message: event.message.as_deref().map(message_payload),
        member: event.member.as_deref().map(member_payload),
    });
    BatchPayload { node, lane: batch.lane.0.into(), pos: batch.pos, events: events.collect() }.encode_to_vec()
}

/// The node that published the batch, and the batch.
pub fn decode(bytes: &[u8]) -> Result<(u64, LoggedBatch), BatchError> {
    let payload = BatchPayload::decode(bytes)?;
    let events = payload.events.into_iter().map(|event| {
        Ok(Arc::new(Event {
            fact: outbox::to_fact(event.fact)?,
            conversation: event.conversation.map(to_head).transpose()?.map(Arc::new),
            message: event.message.map(to_message).transpose()?.map(Arc::new),
            member: event.member.as_ref().map(to_member).transpose()?.map(Arc::new),
        }))
    });
    let events = events.collect::<Result<_, BatchError>>()?;
    let lane = LaneId(u16::try_from(payload.lane).map_err(|_| BatchError::Unsound("lane"))?);
    Ok((payload.node, LoggedBatch { lane, pos: payload.pos, events }))
}

fn head_payload(head: &Conversation) -> HeadPayload {
    HeadPayload {
        id: head.id.as_bytes().to_vec(),
        group: head.kind == ConversationKind::Group,
        title: head.title.as_deref().map(str::to_owned),
        created_at: head.created_at.0,
        last_seq: head.last_seq,
        rev: head.rev,
        countable: head.countable,
        member_count: head.member_count,
        active_at: head.active_at.0,
        pos: head.pos,
        title_pos: head.title_pos,
        title_rev: head.title_rev,
        senders: head
            .senders
            .iter()
            .map(|sender| SenderPayload { user: sender.user.0, seq: sender.seq, countable: sender.countable })
            .collect(),
    }
}

fn to_head(head: HeadPayload) -> Result<Conversation, BatchError> {
    let senders = head.senders.into_iter().map(|sender| SenderPosition {
        user: UserId(sender.user),
        seq: sender.seq,
        countable: sender.countable,
    });
    Ok(Conversation {
        id: conversation_id(&head.id)?,
        kind: if head.group { ConversationKind::Group } else { ConversationKind::Direct },
        title: head.title.map(Arc::from),
        created_at: Timestamp(head.created_at),
        last_seq: head.last_seq,
        rev: head.rev,
        countable: head.countable,
        member_count: head.member_count,
        active_at: Timestamp(head.active_at),
        pos: head.pos,
        title_pos: head.title_pos,
        title_rev: head.title_rev,
        senders: senders.collect::<RecentSenders>(),
    })
}

fn message_payload(message: &Message) -> MessagePayload {
    let (text, system) = match &message.content {
        Content::Text(text) => (Some(text.to_string()), None),
        // A tree of plain values: serialising it cannot fail.
        Content::System(system) => (None, serde_json::to_string(system).ok()),
    };
    MessagePayload {
        id: message.id.0,
        conversation: message.conversation.as_bytes().to_vec(),
        seq: message.seq,
        rev: message.rev,
        created_rev: message.created_rev,
        pos: message.pos,
        sender: message.sender.map(|user| user.0),
        client_key: message.client_key.as_ref().map(|key| key.as_str().as_bytes().to_vec()),
        content_hash: message.content_hash.to_vec(),
        text,
        system,
        created_at: message.created_at.0,
        countable: message.countable,
    }
}

fn to_message(message: MessagePayload) -> Result<Message, BatchError> {
    let content = match (message.text, message.system) {
        (Some(text), _) => Content::Text(text.into()),
        (None, Some(system)) => {
            Content::System(serde_json::from_str(&system).map_err(|_| BatchError::Unsound("system message"))?)
        }
        (None, None) => return Err(BatchError::Unsound("content")),
    };
    Ok(Message {
        id: MessageId(message.id),
        conversation: conversation_id(&message.conversation)?,
        seq: message.seq,
        rev: message.rev,
        created_rev: message.created_rev,
        pos: message.pos,
        sender: message.sender.map(UserId),
        client_key: message.client_key.and_then(ClientKey::from_stored),
        content_hash: message
            .content_hash
            .try_into()
            .map_err(|_| BatchError::Unsound("hash of the content"))?,
        content,
        created_at: Timestamp(message.created_at),
        countable: message.countable,
    })
}

fn member_payload(member: &Member) -> MemberPayload {
    MemberPayload {
        conversation: member.conversation.as_bytes().to_vec(),
        user: member.user.0,
        role: outbox::role_number(member.role),
        read_seq: member.read_seq,
        read_countable: member.read_countable,
        joined_at: member.joined_at.0,
        joined_rev: member.joined_rev,
        joined_pos: member.joined_pos,
        removed_rev: member.removed_rev,
        removed_pos: member.removed_pos,
        role_rev: member.role_rev,
        role_pos: member.role_pos,
        read_rev: member.read_rev,
        read_pos: member.read_pos,
    }
}

fn to_member(member: &MemberPayload) -> Result<Member, BatchError> {
    Ok(Member {
        conversation: conversation_id(&member.conversation)?,
        user: UserId(member.user),
        role: outbox::role(member.role),
        read_seq: member.read_seq,
        read_countable: member.read_countable,
        joined_at: Timestamp(member.joined_at),
        joined_rev: member.joined_rev,
        joined_pos: member.joined_pos,
        removed_rev: member.removed_rev,
        removed_pos: member.removed_pos,
        role_rev: member.role_rev,
        role_pos: member.role_pos,
        read_rev: member.read_rev,
        read_pos: member.read_pos,
    })
}

fn conversation_id(bytes: &[u8]) -> Result<ConversationId, BatchError> {
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| BatchError::Unsound("conversation"))?;
    ConversationId::from_bytes(bytes).map_err(|_| BatchError::Unsound("conversation"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fact, MemberRole, model::message::SystemContent};

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
            Arc::new(Event { fact: sent.clone(), conversation: Some(head.clone()), message, member })
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
            }),
        ];
        LoggedBatch { lane: LaneId(3), pos: 8, events }
    }

    const SYSTEM: &str =
        "{\"text\":\"Ada added Bob\",\"action\":\"members_added\",\"actor\":9,\"subjects\":[10]}";

    #[test]
    fn batches_survive_the_way() {
        let (node, decoded) = decode(&encode(42, &batch())).expect("decodes");
        assert_eq!((node, decoded), (42, batch()));
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        assert!(matches!(decode(b"\xff\xff"), Err(BatchError::Decode(_))));
        let mut unknown = BatchPayload { lane: 70_000, ..BatchPayload::default() };
        assert!(matches!(decode(&unknown.encode_to_vec()), Err(BatchError::Unsound("lane"))));
        unknown.lane = 1;
        unknown
            .events
            .push(EventPayload { conversation: Some(HeadPayload::default()), ..EventPayload::default() });
        assert!(matches!(decode(&unknown.encode_to_vec()), Err(BatchError::Fact(_))));
    }
}
