//! Texts that people write, each with its rule. Nothing is trimmed or changed in silence.

use std::fmt;

use precis_core::profile::Profile;
use precis_profiles::{UsernameCaseMapped, UsernameCasePreserved};

use crate::{ServiceError, ServiceResult};

pub const MESSAGE_TEXT_BYTES_MAX: usize = 16_384;
pub const TITLE_CHARS_MAX: usize = 200;
pub const DISPLAY_NAME_CHARS_MAX: usize = 64;
pub const USERNAME_CHARS_MAX: usize = 64;
pub const DEVICE_NAME_CHARS_MAX: usize = 64;
pub const PASSWORD_CHARS_MIN: usize = 8;
pub const PASSWORD_CHARS_MAX: usize = 128;
pub const CLIENT_KEY_BYTES_MAX: usize = 64;

/// The body of a text message: any Unicode except U+0000, 1 to 16,384 bytes of UTF-8, kept byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageText(String);

impl MessageText {
    pub fn new(field: &'static [&'static str], text: String) -> ServiceResult<Self> {
        if text.is_empty() || text.len() > MESSAGE_TEXT_BYTES_MAX {
            return Err(ServiceError::invalid(field, "a text has 1 to 16384 bytes of UTF-8"));
        }
        if text.contains('\0') {
            return Err(ServiceError::invalid(field, "a text has no U+0000"));
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

/// A group's title: 1 to 200 code points, no control or bidi-override characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title(String);

impl Title {
    pub fn new(text: String) -> ServiceResult<Self> {
        check_name(&["title"], &text, TITLE_CHARS_MAX)?;
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A person's name as others read it: 1 to 64 code points, no control or bidi-override characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayName(String);

impl DisplayName {
    pub fn new(text: String) -> ServiceResult<Self> {
        check_name(&["displayName"], &text, DISPLAY_NAME_CHARS_MAX)?;
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A device's name: as a display name, and it may be absent.
pub fn check_device_name(name: Option<&str>) -> ServiceResult<()> {
    name.map_or(Ok(()), |name| check_name(&["deviceName"], name, DEVICE_NAME_CHARS_MAX))
}

fn check_name(field: &'static [&'static str], text: &str, chars_max: usize) -> ServiceResult<()> {
    let chars = text.chars().count();
    if chars == 0 || chars > chars_max || text.chars().all(char::is_whitespace) {
        return Err(ServiceError::invalid(field, format!("1 to {chars_max} characters, not only spaces")));
    }
    if text.chars().any(is_forbidden_in_names) {
        return Err(ServiceError::invalid(field, "no control or bidirectional formatting characters"));
    }
    Ok(())
}

/// Controls, line and paragraph separators, and the explicit bidirectional formatting characters of UAX #9, which would
/// let a name change how the text around it reads.
fn is_forbidden_in_names(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// A name to sign in with: the PRECIS profile `UsernameCasePreserved` (RFC 8265), 1 to 64 code points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    shown: String,
    key: String,
}

impl Username {
    pub fn new(text: &str) -> ServiceResult<Self> {
        let invalid = || {
            ServiceError::invalid(
                &["username"],
                "1 to 64 letters, digits or ASCII symbols without spaces (the PRECIS profile UsernameCaseMapped)",
            )
        };
        // Bounded before the profile's tables see it.
        if text.len() > USERNAME_CHARS_MAX * 4 {
            return Err(invalid());
        }
        let shown = UsernameCasePreserved::new().enforce(text).map_err(|_| invalid())?.into_owned();
        let key = UsernameCaseMapped::new().enforce(text).map_err(|_| invalid())?.into_owned();
        let chars = shown.chars().count();
        if chars == 0 || chars > USERNAME_CHARS_MAX { Err(invalid()) } else { Ok(Self { shown, key }) }
    }

    /// As its owner spelled it, with full-width characters mapped to their usual form.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Unique without regard to case and width (`UsernameCaseMapped`).
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// A password as typed: 8 to 128 code points, kept byte for byte, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A password somebody wants to have.
    pub fn new(field: &'static [&'static str], text: String) -> ServiceResult<Self> {
        let chars = text.chars().count();
        if !(PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&chars) {
            return Err(ServiceError::invalid(field, "a password has 8 to 128 characters"));
        }
        Ok(Self(text))
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// A key that makes a call idempotent: 1 to 64 visible ASCII characters, compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(Box<str>);

impl ClientKey {
    pub fn new(field: &'static [&'static str], text: String) -> ServiceResult<Self> {
        let valid =
            (1..=CLIENT_KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if valid {
            Ok(Self(text.into_boxed_str()))
        } else {
            Err(ServiceError::invalid(field, "a key has 1 to 64 visible ASCII characters"))
        }
    }

    /// From the stored form.
    pub fn from_stored(bytes: Vec<u8>) -> Option<Self> {
        String::from_utf8(bytes).ok().map(|text| Self(text.into_boxed_str()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_one_without_regard_to_case_and_width() {
        let key = |text: &str| Username::new(text).map(|name| name.key().to_owned()).ok();
        assert_eq!(key("Alice"), key("aLICE"));
        assert_eq!(key("Ａｌｉｃｅ"), key("alice"));
        assert_ne!(key("alice"), key("alicе"), "a Cyrillic letter is another letter");
        for bad in ["", " ", "a b", "a\u{202E}b", "a\0", "\u{200B}", &"a".repeat(65)] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn names_refuse_controls_and_bidi_overrides_and_keep_the_rest() {
        for bad in ["", "   ", "a\0b", "a\u{202E}b", "a\nb", "\u{2066}x", &"x".repeat(65)] {
            assert!(DisplayName::new(bad.to_owned()).is_err(), "{bad:?}");
        }
        for good in [" a ", "李小龍", "👩‍👩‍👧", "O'Brien", &"é".repeat(64)] {
            assert_eq!(
                DisplayName::new(good.to_owned()).map(|name| name.as_str().to_owned()).ok().as_deref(),
                Some(good)
            );
        }
    }

    #[test]
    fn texts_are_bounded_in_bytes_and_keep_bidi_controls() {
        let text = |text: &str| MessageText::new(&["text"], text.to_owned());
        assert!(text("").is_err());
        assert!(text("a\0").is_err());
        assert!(text(&"x".repeat(MESSAGE_TEXT_BYTES_MAX + 1)).is_err());
        assert!(text(&"é".repeat(MESSAGE_TEXT_BYTES_MAX / 2)).is_ok());
        assert_eq!(
            text("\u{202E} \r\n").map(MessageText::into_string).ok().as_deref(),
            Some("\u{202E} \r\n")
        );
    }

    #[test]
    fn client_keys_are_visible_ascii() {
        let key = |text: &str| ClientKey::new(&["clientMessageId"], text.to_owned());
        assert!(key("a-1~!").is_ok());
        for bad in ["", "a b", "é", "k\n", &"k".repeat(65)] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
    }
}
