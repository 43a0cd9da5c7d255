//! Identifiers: numbers inside, opaque typed strings on the wire.
//!
//! The wire form is a prefix that names the type, `_`, and the bytes in unpadded base64url. It is canonical: one id has
//! one spelling. Ids are no secrets; every read is checked against membership.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Why a string is not the wire form of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("malformed id")]
    Malformed,
    #[error("id of another type")]
    WrongType,
}

fn encode(prefix: &str, bytes: &[u8]) -> String {
    format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn decode<const N: usize>(prefix: &str, text: &str) -> Result<[u8; N], IdError> {
    let (found, encoded) = text.split_once('_').ok_or(IdError::Malformed)?;
    if found != prefix {
        let known =
            [UserId::PREFIX, SessionId::PREFIX, MessageId::PREFIX, ConversationId::PREFIX, MemberId::PREFIX];
        return Err(if known.contains(&found) { IdError::WrongType } else { IdError::Malformed });
    }
    let mut bytes = [0; N];
    // The decoder refuses trailing bits and padding, so every id has exactly one spelling.
    match URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes) {
        Ok(length) if length == N => Ok(bytes),
        _ => Err(IdError::Malformed),
    }
}

macro_rules! snowflake_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl $name {
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode(Self::PREFIX, &self.0.to_be_bytes()))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let id = i64::from_be_bytes(decode(Self::PREFIX, text)?);
                // Snowflakes have 63 bits; zero is never given out.
                if id > 0 { Ok(Self(id)) } else { Err(IdError::Malformed) }
            }
        }
    };
}

snowflake_id!(
    /// A person who can sign in.
    UserId, "usr"
);
snowflake_id!(
    /// One signed-in device.
    SessionId, "ses"
);
snowflake_id!(
    /// One message, whatever becomes of it.
    MessageId, "msg"
);

/// A conversation, in 16 bytes: lower ‖ higher user id for a direct one, 8 zero bytes ‖ Snowflake for a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId([u8; 16]);

impl ConversationId {
    pub const PREFIX: &'static str = "cnv";

    /// The one direct conversation of two users, from either side. `None` for a user with themselves.
    pub fn direct(a: UserId, b: UserId) -> Option<Self> {
        let (lower, higher) = if a < b { (a, b) } else { (b, a) };
        (lower != higher).then(|| Self::join(lower.0, higher.0))
    }

    pub fn group(snowflake: i64) -> Self {
        Self::join(0, snowflake)
    }

    fn join(high: i64, low: i64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        Self(bytes)
    }

    /// The two users of a direct conversation, lower first; `None` for a group.
    pub fn direct_users(&self) -> Option<(UserId, UserId)> {
        let (high, low) = self.halves();
        (high != 0).then_some((UserId(high), UserId(low)))
    }

    fn halves(&self) -> (i64, i64) {
        let value = u128::from_be_bytes(self.0);
        #[expect(clippy::cast_possible_truncation, reason = "each half is taken on purpose")]
        let halves = ((value >> 64) as u64, value as u64);
        (halves.0.cast_signed(), halves.1.cast_signed())
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From the stored form.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, IdError> {
        let id = Self(bytes);
        let (high, low) = id.halves();
        let valid = low > 0 && high >= 0 && high < low;
        if valid { Ok(id) } else { Err(IdError::Malformed) }
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(Self::PREFIX, &self.0))
    }
}

impl FromStr for ConversationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_bytes(decode(Self::PREFIX, text)?)
    }
}

/// A user in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    pub conversation: ConversationId,
    pub user: UserId,
}

impl MemberId {
    pub const PREFIX: &'static str = "mem";
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(self.conversation.as_bytes());
        bytes[16..].copy_from_slice(&self.user.0.to_be_bytes());
        f.write_str(&encode(Self::PREFIX, &bytes))
    }
}

impl FromStr for MemberId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: [u8; 24] = decode(Self::PREFIX, text)?;
        let mut conversation = [0; 16];
        conversation.copy_from_slice(&bytes[..16]);
        let mut user = [0; 8];
        user.copy_from_slice(&bytes[16..]);
        let user = i64::from_be_bytes(user);
        if user <= 0 {
            return Err(IdError::Malformed);
        }
        Ok(Self { conversation: ConversationId::from_bytes(conversation)?, user: UserId(user) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_id_survives_the_wire(a in 1..i64::MAX, b in 1..i64::MAX) {
            prop_assert_eq!(UserId(a).to_string().parse(), Ok(UserId(a)));
            let group = ConversationId::group(a);
            prop_assert_eq!(group.to_string().parse(), Ok(group));
            prop_assume!(a != b);
            let direct = ConversationId::direct(UserId(a), UserId(b)).expect("two users");
            prop_assert_eq!(Some(direct), ConversationId::direct(UserId(b), UserId(a)));
            prop_assert_eq!(direct.direct_users(), Some((UserId(a.min(b)), UserId(a.max(b)))));
            let member = MemberId { conversation: direct, user: UserId(a) };
            prop_assert_eq!(member.to_string().parse(), Ok(member));
        }

        #[test]
        fn any_text_is_refused_or_canonical(text in "(usr|cnv|mem|msg|xyz)_[A-Za-z0-9_-]{0,40}") {
            if let Ok(id) = text.parse::<UserId>() {
                prop_assert_eq!(id.to_string(), text.clone());
            }
            if let Ok(id) = text.parse::<ConversationId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn an_id_of_another_type_is_an_error_of_its_own() {
        assert_eq!(UserId(7).to_string().parse::<MessageId>(), Err(IdError::WrongType));
        assert_eq!("usr".parse::<UserId>(), Err(IdError::Malformed));
        assert_eq!("".parse::<ConversationId>(), Err(IdError::Malformed));
    }

    #[test]
    fn a_direct_conversation_with_oneself_has_no_id() {
        assert_eq!(ConversationId::direct(UserId(7), UserId(7)), None);
    }
}
