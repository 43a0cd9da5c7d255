//! The envelope of records for other processes.

use prost::Message;

use super::{
    proto,
    wire::{Wire, WireError, required, span_to_proto, trace_of_proto},
};
use crate::{
    ConversationId, Event, Fact, LaneId, PushTask, UserId,
    trace::{TraceContext, TraceId},
};

/// The type of a body that is an event.
const EVENT: &str = "confab.v1.Event";
const FANOUT: &str = "confab.v1.FanoutTask";
const PUSH: &str = "confab.v1.PushTask";

/// The place of a record in its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub lane: LaneId,
    pub pos: i64,
    /// Which of the facts of this position.
    pub index: u32,
    pub fence: i64,
    pub installation: String,
}

/// Work for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// What is proportional to the members of a large group: those above `after` are left.
    Fanout { conversation: ConversationId, seq: i32, after: UserId },
    /// Pushes to a range of members.
    Push(PushTask),
}

impl Task {
    pub const fn conversation(&self) -> ConversationId {
        match self {
            Self::Fanout { conversation, .. } => *conversation,
            Self::Push(push) => push.range.conversation,
        }
    }
}

/// A task with where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedTask {
    pub task: Task,
    pub place: Place,
    pub trace: Option<TraceContext>,
}

/// An event as a record; `trace` is where it is sealed.
pub fn seal(event: &Event, place: &Place, trace: Option<TraceContext>) -> Vec<u8> {
    wrap(EVENT, trace, place, event.to_proto().encode_to_vec())
}

/// A task as a record.
pub fn seal_task(sealed: &SealedTask) -> Vec<u8> {
    let SealedTask { task, place, trace } = sealed;
    match task {
        Task::Fanout { conversation, seq, after } => {
            let body = proto::FanoutTask { conversation: conversation.to_proto(), seq: *seq, after: after.0 };
            wrap(FANOUT, *trace, place, body.encode_to_vec())
        }
        Task::Push(PushTask { range, tries }) => {
            let proto::PushRange { conversation, seq, after, upto } = range.to_proto();
            let body = proto::PushTask { conversation, seq, after, upto, tries: *tries };
            wrap(PUSH, *trace, place, body.encode_to_vec())
        }
    }
}

fn wrap(kind: &str, trace: Option<TraceContext>, place: &Place, body: Vec<u8>) -> Vec<u8> {
    let header = proto::Header {
        r#type: kind.to_owned(),
        lane: place.lane.to_proto(),
        pos: place.pos,
        index: place.index,
        fence: place.fence,
        installation: place.installation.clone(),
    };
    let trace_id = trace.map(|trace| trace.id.to_string()).unwrap_or_default();
    let (span, sampled) = span_to_proto(trace);
    proto::KafkaMessage { trace_id, header: Some(header), body, span, sampled }.encode_to_vec()
}

/// The event of a record, and its place.
pub fn open(record: &[u8]) -> Result<(Event, Place), WireError> {
    let (kind, message, place) = unwrap(record)?;
    if kind != EVENT {
        return Err(WireError::Unsound("type"));
    }
    Ok((required(Some(proto::Event::decode(message.body.as_slice())?), "event")?, place))
}

/// The task of a record.
pub fn open_task(record: &[u8]) -> Result<SealedTask, WireError> {
    let (kind, message, place) = unwrap(record)?;
    let body = message.body.as_slice();
    let task = match kind.as_str() {
        FANOUT => {
            let proto::FanoutTask { conversation, seq, after } = Message::decode(body)?;
            Task::Fanout { conversation: Wire::from_proto(conversation)?, seq, after: UserId(after) }
        }
        PUSH => {
            let proto::PushTask { conversation, seq, after, upto, tries } = Message::decode(body)?;
            let range = Wire::from_proto(proto::PushRange { conversation, seq, after, upto })?;
            Task::Push(PushTask { range, tries })
        }
        _ => return Err(WireError::Unsound("type")),
    };
    let trace = trace_of_proto(TraceId::of_hex(&message.trace_id), message.span, message.sampled);
    Ok(SealedTask { task, place, trace })
}

fn unwrap(record: &[u8]) -> Result<(String, proto::KafkaMessage, Place), WireError> {
    let mut message = proto::KafkaMessage::decode(record)?;
    let header = message.header.take().ok_or(WireError::Unsound("header"))?;
    let place = Place {
        lane: LaneId::from_proto(header.lane)?,
        pos: header.pos,
        index: header.index,
        fence: header.fence,
        installation: header.installation,
    };
    Ok((header.r#type, message, place))
}

/// What keeps the records of a conversation, or of a user, in order.
pub fn key(event: &Event) -> Vec<u8> {
    match (event.fact.conversation(), &event.fact) {
        (Some(conversation), _) => conversation.as_bytes().to_vec(),
        (None, Fact::SessionEnded { user, .. }) => user.0.to_be_bytes().to_vec(),
        (None, _) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::{PushRange, SessionId, UserId, trace::ParentSpan};

    fn event() -> Event {
        Event {
            fact: Fact::SessionEnded { user: UserId(9), session: SessionId(5) },
            conversation: None,
            message: None,
            member: None,
            trace: Some(TraceId::from_bytes([0xab; 16]).into()),
        }
    }

    fn place() -> Place {
        Place { lane: LaneId(3), pos: 8, index: 1, fence: 2, installation: "i".to_owned() }
    }

    #[test]
    fn events_survive_the_envelope() {
        assert_eq!(open(&seal(&event(), &place(), event().trace)).expect("opens"), (event(), place()));
        assert_eq!(key(&event()), [0, 0, 0, 0, 0, 0, 0, 9]);
    }

    #[test]
    fn what_version_1_wrote_stays_readable() {
        let golden = [
            &b"\x0a\x20abababababababababababababababab"[..],
            b"\x12\x1c\x0a\x0fconfab.v1.Event\x10\x03\x18\x08\x20\x01\x28\x02\x32\x01i",
            b"\x1a\x1a\x0a\x18\x08\x08\x28\x09\x38\x05\x4a\x10",
            &[0xab; 16],
        ]
        .concat();
        assert_eq!(open(&golden).expect("opens"), (event(), place()));
        assert_eq!(seal(&event(), &place(), event().trace), golden);
    }

    #[test]
    fn tasks_survive_the_envelope_and_stay_readable() {
        let bytes = (u128::from_be_bytes([7; 16]) + 1).to_be_bytes();
        let conversation = ConversationId::from_bytes(bytes).expect("an id");
        let range = PushRange { conversation, seq: 4, after: UserId(1), upto: UserId(2) };
        let seal = |task| SealedTask { task, place: place(), trace: None };
        let (fanout, push) = (Task::Fanout { conversation, seq: 4, after: UserId(1) }, |tries| {
            Task::Push(PushTask { range, tries })
        });
        let header = |length: u8, kind: &[u8]| {
            [
                &[0x12, length, 0x0a, u8::try_from(kind.len()).expect("short")],
                kind,
                b"\x10\x03\x18\x08\x20\x01\x28\x02\x32\x01i",
            ]
            .concat()
        };
        let id = [&b"\x0a\x10"[..], &bytes].concat();
        for (task, golden) in [
            (
                fanout,
                [&header(0x21, b"confab.v1.FanoutTask")[..], b"\x1a\x16", &id, b"\x10\x04\x18\x01"].concat(),
            ),
            (
                push(0),
                [&header(0x1f, b"confab.v1.PushTask")[..], b"\x1a\x18", &id, b"\x10\x04\x18\x01\x20\x02"]
                    .concat(),
            ),
            (
                push(3),
                [
                    &header(0x1f, b"confab.v1.PushTask")[..],
                    b"\x1a\x1a",
                    &id,
                    b"\x10\x04\x18\x01\x20\x02\x28\x03",
                ]
                .concat(),
            ),
        ] {
            assert_eq!(open_task(&golden).expect("opens"), seal(task));
            assert_eq!(seal_task(&seal(task)), golden);
            let traced = SealedTask { trace: event().trace, ..seal(task) };
            assert_eq!(open_task(&seal_task(&traced)).expect("opens"), traced);
        }
        assert!(open_task(&super::seal(&event(), &place(), event().trace)).is_err(), "an event is no task");
    }

    #[test]
    fn a_record_of_an_exported_trace_says_by_which_span() {
        let parent =
            ParentSpan { id: NonZeroU64::new(0x0102_0304_0506_0708).expect("not zero"), sampled: true };
        let trace = TraceContext { id: TraceId::from_bytes([0xab; 16]), parent: Some(parent) };
        let golden = [
            &b"\x0a\x20abababababababababababababababab"[..],
            b"\x12\x1f\x0a\x12confab.v1.PushTask\x10\x03\x18\x08\x20\x01\x28\x02\x32\x01i",
            b"\x1a\x18\x0a\x10",
            &(u128::from_be_bytes([7; 16]) + 1).to_be_bytes(),
            b"\x10\x04\x18\x01\x20\x02",
            b"\x21\x08\x07\x06\x05\x04\x03\x02\x01\x28\x01",
        ]
        .concat();
        let sealed = open_task(&golden).expect("opens");
        assert_eq!(sealed.trace, Some(trace));
        assert_eq!(seal_task(&sealed), golden);
        // In the envelope, not in the event.
        assert_eq!(open(&seal(&event(), &place(), Some(trace))).expect("opens").0, event());
    }

    #[test]
    fn another_type_is_refused() {
        let other = proto::KafkaMessage { header: Some(proto::Header::default()), ..Default::default() };
        assert!(matches!(open(&other.encode_to_vec()), Err(WireError::Unsound("type"))));
        assert!(open(b"\xff").is_err());
    }
}
