//! The envelope of records for other processes.

use prost::Message as _;

use super::{
    proto,
    wire::{Wire as _, WireError, required},
};
use crate::{Event, Fact, LaneId};

/// The type of a body that is an event.
const EVENT: &str = "confab.v1.Event";

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

/// An event as a record.
pub fn seal(event: &Event, place: &Place) -> Vec<u8> {
    let header = proto::Header {
        r#type: EVENT.to_owned(),
        lane: place.lane.to_proto(),
        pos: place.pos,
        index: place.index,
        fence: place.fence,
        installation: place.installation.clone(),
    };
    let trace_id = event.trace.map(|trace| trace.to_string()).unwrap_or_default();
    let body = event.to_proto().encode_to_vec();
    proto::KafkaMessage { trace_id, header: Some(header), body }.encode_to_vec()
}

/// The event of a record, and its place.
pub fn open(record: &[u8]) -> Result<(Event, Place), WireError> {
    let message = proto::KafkaMessage::decode(record)?;
    let header = message.header.ok_or(WireError::Unsound("header"))?;
    if header.r#type != EVENT {
        return Err(WireError::Unsound("type"));
    }
    let place = Place {
        lane: LaneId::from_proto(header.lane)?,
        pos: header.pos,
        index: header.index,
        fence: header.fence,
        installation: header.installation,
    };
    Ok((required(Some(proto::Event::decode(message.body.as_slice())?), "event")?, place))
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
    use super::*;
    use crate::{SessionId, UserId, trace::TraceId};

    fn event() -> Event {
        Event {
            fact: Fact::SessionEnded { user: UserId(9), session: SessionId(5) },
            conversation: None,
            message: None,
            member: None,
            trace: Some(TraceId::from_bytes([0xab; 16])),
        }
    }

    fn place() -> Place {
        Place { lane: LaneId(3), pos: 8, index: 1, fence: 2, installation: "i".to_owned() }
    }

    #[test]
    fn events_survive_the_envelope() {
        assert_eq!(open(&seal(&event(), &place())).expect("opens"), (event(), place()));
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
        assert_eq!(seal(&event(), &place()), golden);
    }

    #[test]
    fn another_type_is_refused() {
        let other = proto::KafkaMessage { header: Some(proto::Header::default()), ..Default::default() };
        assert!(matches!(open(&other.encode_to_vec()), Err(WireError::Unsound("type"))));
        assert!(open(b"\xff").is_err());
    }
}
