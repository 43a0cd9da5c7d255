//! Event cursors on the wire: what a subscription has seen, sealed so that nobody can make one up.
//!
//! A cursor is the unpadded base64url of: version (1 byte), reference of the key (4), epoch (varint), filter (8), the
//! positions of the lanes (a count, then one varint each), a flag for a place in a replay, in a replay the positions at its
//! start, the conversation (16) and the `rev` (varint), and last the first 16 bytes of an HMAC-SHA256 over all before.
//! Varints are LEB128. With 8 lanes a cursor has about 100 characters.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;

use crate::{
    ConversationId, CursorPosition, FilterHash, Positions, Timestamp,
    keys::{KeyReference, KeyRing},
    model::cursor::ReplayMark,
};

/// Cursors of pages begin with 1; one of those is told apart at once.
const VERSION: u8 = 2;
/// 128 bits: guessing one takes longer than any key lives (NIST SP 800-107 section 5.3.3).
const MAC_BYTES: usize = 16;
/// Lanes of a sound cursor; an installation has 1 or 8.
const LANES_MAX: u64 = 1024;
/// Characters of a sound cursor: far above what [`LANES_MAX`] lanes of a year take.
const CHARS_MAX: usize = 32_768;

/// Why a cursor cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Changed on its way, or never one of ours.
    #[error("the cursor is altered")]
    Altered,
    /// Its key is gone: begin anew.
    #[error("the cursor's key is retired")]
    KeyRetired,
}

/// The cursor of a position.
pub fn seal(position: &CursorPosition, keys: &KeyRing, now: Timestamp) -> String {
    let key = keys.signing(now);
    let mut bytes = Vec::with_capacity(96);
    bytes.push(VERSION);
    bytes.extend_from_slice(&key.reference);
    put(&mut bytes, position.epoch);
    bytes.extend_from_slice(&position.filter.0);
    put_positions(&mut bytes, &position.seen);
    match &position.replay {
        None => bytes.push(0),
        Some(mark) => {
            bytes.push(1);
            put_positions(&mut bytes, &mark.until);
            bytes.extend_from_slice(mark.conversation.as_bytes());
            put(&mut bytes, i64::from(mark.rev));
        }
    }
    let mac = key.mac_of_cursor(&bytes);
    bytes.extend_from_slice(&mac[..MAC_BYTES]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a cursor says, if one of our keys sealed it.
pub fn open(cursor: &str, keys: &KeyRing) -> Result<CursorPosition, CursorError> {
    if cursor.len() > CHARS_MAX {
        return Err(CursorError::Altered);
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| CursorError::Altered)?;
    let (body, mac) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(CursorError::Altered)?;
    let mut reader = Reader(body);
    if reader.array::<1>() != Some([VERSION]) {
        return Err(CursorError::Altered);
    }
    let reference: KeyReference = reader.array().ok_or(CursorError::Altered)?;
    let Some(key) = keys.by_reference(reference) else {
        return Err(if was_ours(body, mac, keys) { CursorError::Altered } else { CursorError::KeyRetired });
    };
    if !bool::from(key.mac_of_cursor(body)[..MAC_BYTES].ct_eq(mac)) {
        return Err(CursorError::Altered);
    }
    reader.position().filter(|_| reader.0.is_empty()).ok_or(CursorError::Altered)
}

/// Whether one of our keys sealed it, so that only the reference to the key was changed.
fn was_ours(body: &[u8], mac: &[u8; MAC_BYTES], keys: &KeyRing) -> bool {
    let mut body = body.to_vec();
    keys.all().iter().any(|key| {
        body[1..][..key.reference.len()].copy_from_slice(&key.reference);
        bool::from(key.mac_of_cursor(&body)[..MAC_BYTES].ct_eq(mac))
    })
}

fn put(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = value.cast_unsigned();
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            bytes.push(low & 0x7F);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn put_positions(bytes: &mut Vec<u8>, positions: &Positions) {
    let positions = positions.as_slice();
    put(bytes, i64::try_from(positions.len()).unwrap_or(i64::MAX));
    for position in positions {
        put(bytes, *position);
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn position(&mut self) -> Option<CursorPosition> {
        let epoch = self.number()?;
        let filter = FilterHash(self.array()?);
        let seen = self.positions()?;
        let replay = match self.array()? {
            [0] => None,
            [1] => Some(ReplayMark {
                until: self.positions()?,
                conversation: ConversationId::from_bytes(self.array()?).ok()?,
                rev: self.number()?.try_into().ok()?,
            }),
            _ => return None,
        };
        Some(CursorPosition { epoch, filter, seen, replay })
    }

    fn positions(&mut self) -> Option<Positions> {
        let count = u64::try_from(self.number()?).ok().filter(|count| *count <= LANES_MAX)?;
        (0..count).map(|_| self.number()).collect::<Option<Vec<_>>>().map(Positions::from_vec)
    }

    fn number(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value.cast_signed());
            }
        }
        None
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::testing::ring;

    static KEYS: LazyLock<(tempfile::TempDir, KeyRing)> = LazyLock::new(|| ring(2));
    const NOW: Timestamp = Timestamp(2_000_000_000_000);

    fn marks() -> impl Strategy<Value = ReplayMark> {
        (vec(any::<i64>(), 0..12), 1..i64::MAX, any::<i32>()).prop_map(|(until, group, rev)| ReplayMark {
            until: Positions::from_vec(until),
            conversation: ConversationId::group(group),
            rev,
        })
    }

    fn cursors() -> impl Strategy<Value = CursorPosition> {
        let parts = (any::<i64>(), any::<[u8; 8]>(), vec(any::<i64>(), 0..12), option::of(marks()));
        parts.prop_map(|(epoch, filter, seen, replay)| CursorPosition {
            epoch,
            filter: FilterHash(filter),
            seen: Positions::from_vec(seen),
            replay,
        })
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(position in cursors()) {
            prop_assert_eq!(open(&seal(&position, &KEYS.1, NOW), &KEYS.1), Ok(position));
        }

        #[test]
        fn any_changed_byte_is_refused(position in cursors(), at in any::<prop::sample::Index>(), mask in 1..=255_u8) {
            let sealed = seal(&position, &KEYS.1, NOW);
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed).expect("base64url");
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
            let changed = URL_SAFE_NO_PAD.encode(&bytes);
            prop_assert_eq!(open(&changed, &KEYS.1), Err(CursorError::Altered));
            bytes.truncate(at);
            prop_assert!(open(&URL_SAFE_NO_PAD.encode(&bytes), &KEYS.1).is_err());
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            prop_assert!(open(&text, &KEYS.1).is_err());
        }
    }

    #[test]
    fn eight_lanes_take_about_a_hundred_characters() {
        let seen = Positions::from_vec(vec![100_000_000; 8]);
        let position = CursorPosition { epoch: 3, filter: FilterHash([7; 8]), seen, replay: None };
        let sealed = seal(&position, &KEYS.1, NOW);
        assert!(sealed.len() <= 100, "{} characters", sealed.len());
    }

    #[test]
    fn a_cursor_of_a_retired_key_is_told_apart() {
        let (_folder, others) = ring(1);
        let seen = Positions::from_vec(vec![1]);
        let position = CursorPosition { epoch: 1, filter: FilterHash::default(), seen, replay: None };
        let sealed = seal(&position, &others, NOW);
        assert_eq!(open(&sealed, &KEYS.1), Err(CursorError::KeyRetired));
        for bad in ["", "x", "====", "AQ"] {
            assert_eq!(open(bad, &KEYS.1), Err(CursorError::Altered), "{bad:?}");
        }
    }
}
