//! Pages of connections: their arguments, and cursors as clients see them.
//!
//! A cursor is opaque to clients: a byte that names the connection, then the position in it, in unpadded base64url. A
//! cursor of another connection, or of a subscription, is refused instead of being read as some other position.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{
    ConversationId, Direction, PageRequest, ServiceResult, Timestamp, UserId, port::conversations::ListCursor,
};

use super::error::bad_request;

/// A position in one kind of connection.
pub trait PageCursor: Sized {
    /// Names the kind of connection.
    const TAG: u8;

    fn write(&self, bytes: &mut Vec<u8>);

    /// `None` unless the bytes are exactly what [`PageCursor::write`] makes.
    fn read(bytes: &[u8]) -> Option<Self>;

    fn encode(&self) -> String {
        let mut bytes = vec![Self::TAG];
        self.write(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (tag, position) = bytes.split_first()?;
        if *tag == Self::TAG { Self::read(position) } else { None }
    }
}

/// Of the list of conversations.
impl PageCursor for ListCursor {
    const TAG: u8 = 1;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.active_at.micros().to_be_bytes());
        bytes.extend_from_slice(self.conversation.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (active_at, conversation) = bytes.split_first_chunk()?;
        Some(Self {
            active_at: Timestamp::from_micros(i64::from_be_bytes(*active_at)),
            conversation: ConversationId::from_bytes(conversation.try_into().ok()?).ok()?,
        })
    }
}

/// Of the members of a conversation, ordered by user.
impl PageCursor for UserId {
    const TAG: u8 = 2;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.0.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let id = i64::from_be_bytes(bytes.try_into().ok()?);
        (id > 0).then_some(Self(id))
    }
}

/// Of a history: a message's `seq`.
impl PageCursor for i32 {
    const TAG: u8 = 3;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let seq = Self::from_be_bytes(bytes.try_into().ok()?);
        (seq > 0).then_some(seq)
    }
}

/// The paging arguments of a connection field, as they came.
#[derive(Clone, Debug, Default)]
pub struct PageArguments {
    pub first: Option<i32>,
    pub after: Option<String>,
    pub last: Option<i32>,
    pub before: Option<String>,
}

impl PageArguments {
    /// Checked; with neither `first` nor `last`, the default size in the given direction.
    pub fn request<C: PageCursor>(self, unstated: Direction) -> ServiceResult<PageRequest<C>> {
        let cursor = |text: Option<String>| {
            text.map(|text| C::decode(&text).ok_or_else(|| bad_request("not a cursor of this connection")))
                .transpose()
        };
        let (after, before) = (cursor(self.after)?, cursor(self.before)?);
        PageRequest::new((self.first, after), (self.last, before), unstated)
    }

    /// A page of history around a message: as many as `first` or `last` says, the message in their middle as far as
    /// the ends of the history allow.
    pub fn around(self, seq: i32, last_seq: i32) -> ServiceResult<PageRequest<i32>> {
        if self.after.is_some() || self.before.is_some() {
            return Err(bad_request("give `aroundSeq` or a cursor, not both"));
        }
        let page: PageRequest<i32> = self.request(Direction::Forward)?;
        let size = i32::try_from(page.size).unwrap_or(i32::MAX);
        let newest_start = last_seq.saturating_sub(size).saturating_add(1);
        let start = seq.saturating_sub(size / 2).min(newest_start).max(1);
        Ok(PageRequest { direction: Direction::Forward, after: (start > 1).then(|| start - 1), ..page })
    }
}
