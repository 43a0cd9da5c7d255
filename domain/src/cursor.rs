//! The wire form of an event cursor: a signed position, good on every node that has the key.
//!
//! `version ‖ key reference (4) ‖ filter (8) ‖ epoch ‖ lanes ‖ position … ‖ 0 or 1 ‖ [until − position … ‖ conversation (16) ‖ rev]
//! ‖ MAC (16)`, numbers as LEB128, all in unpadded base64url: about 60 to 100 characters.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;

use crate::{
    Chat, ConversationId, CursorPosition, FilterHash, Positions,
    keys::{Key, KeyRing},
    model::cursor::ReplayMark,
};

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;
/// Far above what 64 lanes need.
const TEXT_BYTES_MAX: usize = 2048;

/// Why a string is not a good cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not a cursor of ours, or changed on its way.
    #[error("not a cursor of this service")]
    Altered,
    /// Its key is retired, or belongs to another installation.
    #[error("the cursor's key is retired")]
    KeyRetired,
}

impl Chat {
    pub fn seal_cursor(&self, position: &CursorPosition) -> String {
        seal(position, &self.services.keys.signing())
    }

    pub fn open_cursor(&self, text: &str) -> Result<CursorPosition, CursorError> {
        open(text, &self.services.keys)
    }
}

fn seal(position: &CursorPosition, key: &Key) -> String {
    let mut bytes = Vec::with_capacity(80);
    bytes.push(VERSION);
    bytes.extend_from_slice(&key.reference);
    bytes.extend_from_slice(&position.filter.0);
    put(&mut bytes, position.epoch);
    let seen = position.seen.as_slice();
    put(&mut bytes, i64::try_from(seen.len()).unwrap_or(0));
    for pos in seen {
        put(&mut bytes, *pos);
    }
    match &position.replay {
        None => bytes.push(0),
        Some(mark) => {
            bytes.push(1);
            for (until, from) in mark.until.as_slice().iter().zip(seen) {
                put(&mut bytes, until - from);
            }
            bytes.extend_from_slice(mark.conversation.as_bytes());
            put(&mut bytes, i64::from(mark.rev));
        }
    }
    let mac = key.seal_cursor(&bytes);
    bytes.extend_from_slice(&mac);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn open(text: &str, keys: &KeyRing) -> Result<CursorPosition, CursorError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(CursorError::Altered);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Altered)?;
    let split = bytes.len().checked_sub(MAC_BYTES).ok_or(CursorError::Altered)?;
    let (body, mac) = bytes.split_at(split);
    let mut reader = Reader(body);
    if reader.take(1)? != [VERSION] {
        return Err(CursorError::Altered);
    }
    let reference = reader.array()?;
    let key = keys.by_reference(reference).ok_or(CursorError::KeyRetired)?;
    if !bool::from(key.seal_cursor(body).ct_eq(mac)) {
        return Err(CursorError::Altered);
    }
    reader.position().ok_or(CursorError::Altered)
}

fn put(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = number.cast_unsigned();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push((rest & 0x7f) as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CursorError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CursorError::Altered)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CursorError> {
        self.take(N)?.try_into().map_err(|_| CursorError::Altered)
    }

    fn number(&mut self) -> Option<i64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1).ok()?.first()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number.cast_signed());
            }
        }
        None
    }

    /// What follows the key reference. The MAC is verified, so a failure here is a version of ours that we do not know.
    fn position(&mut self) -> Option<CursorPosition> {
        let filter = FilterHash(self.array().ok()?);
        let epoch = self.number()?;
        let lanes = usize::try_from(self.number()?).ok().filter(|lanes| *lanes <= 1024)?;
        let seen = (0..lanes).map(|_| self.number()).collect::<Option<Vec<_>>>()?;
        let replay = match self.take(1).ok()? {
            [0] => None,
            [1] => {
                let until =
                    seen.iter().map(|from| self.number()?.checked_add(*from)).collect::<Option<Vec<_>>>()?;
                let conversation = ConversationId::from_bytes(self.array().ok()?).ok()?;
                let rev = i32::try_from(self.number()?).ok()?;
                Some(ReplayMark { until: Positions::from_vec(until), conversation, rev })
            }
            _ => return None,
        };
        self.0.is_empty().then(|| CursorPosition { epoch, filter, seen: Positions::from_vec(seen), replay })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::adapter::ambient::{SystemClock, SystemRandom};

    fn keys() -> (KeyRing, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        KeyRing::create(folder.path(), &SystemClock, &SystemRandom).expect("a key");
        (KeyRing::open(folder.path(), Arc::new(SystemClock)).expect("opens"), folder)
    }

    fn positions() -> impl Strategy<Value = CursorPosition> {
        let lanes = prop::collection::vec((0..i64::MAX / 2, 0..1000_i64), 1..9);
        (lanes, 1..i64::MAX, any::<[u8; 8]>(), prop::option::of((1..i64::MAX, 0..i32::MAX))).prop_map(
            |(lanes, epoch, filter, replay)| {
                let seen = lanes.iter().map(|(from, _)| *from).collect();
                let until = lanes.iter().map(|(from, more)| from + more).collect();
                let replay = replay.map(|(id, rev)| ReplayMark {
                    until: Positions::from_vec(until),
                    conversation: ConversationId::group(id),
                    rev,
                });
                CursorPosition { epoch, filter: FilterHash(filter), seen: Positions::from_vec(seen), replay }
            },
        )
    }

    #[test]
    fn a_cursor_survives_and_no_altered_one_does() {
        let (keys, _folder) = keys();
        proptest!(|(position in positions(), place in any::<prop::sample::Index>(), flip in 1..=255_u8)| {
            let text = seal(&position, &keys.signing());
            prop_assert_eq!(open(&text, &keys), Ok(position));
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).expect("base64");
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            prop_assert!(open(&URL_SAFE_NO_PAD.encode(bytes), &keys).is_err());
        });
    }

    #[test]
    fn any_text_is_refused() {
        let (keys, _folder) = keys();
        proptest!(|(text in "\\PC{0,200}")| {
            prop_assert!(open(&text, &keys).is_err());
        });
    }

    #[test]
    fn a_cursor_of_eight_lanes_takes_about_a_hundred_characters() {
        let (keys, _folder) = keys();
        let seen = Positions::from_vec(vec![1_000_000; 8]);
        let position = CursorPosition { epoch: 3, filter: FilterHash::default(), seen, replay: None };
        assert!(seal(&position, &keys.signing()).len() <= 100);
    }

    #[test]
    fn a_cursor_of_a_retired_key_says_so() {
        let ((keys, _folder), (others, _other_folder)) = (keys(), keys());
        let position = CursorPosition {
            epoch: 1,
            filter: FilterHash::default(),
            seen: Positions::from_vec(vec![1]),
            replay: None,
        };
        assert_eq!(open(&seal(&position, &others.signing()), &keys), Err(CursorError::KeyRetired));
    }
}
