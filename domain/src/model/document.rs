//! What a registered document is known by.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// SHA-256 of a document's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DocumentHash(pub [u8; 32]);

impl DocumentHash {
    /// Of 64 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<Self> {
        let digits = hex.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? * 16 + low?).ok()?;
        }
        Some(Self(hash))
    }

    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    pub fn hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_64_digits() {
        let hash = DocumentHash::of("{ a }");
        assert_eq!(DocumentHash::parse(&hash.hex()), Some(hash));
        assert_eq!(DocumentHash::parse(&hash.hex().to_uppercase()), Some(hash));
        for wrong in ["", "ab", &"g".repeat(64), &"é".repeat(32), &format!("{}0", hash.hex())] {
            assert_eq!(DocumentHash::parse(wrong), None, "{wrong}");
        }
    }
}
