//! Pushes, as far as users see them.

use async_graphql::{Enum, SimpleObject};

/// Who delivers pushes to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "domain::PushProvider")]
pub enum PushProvider {
    /// Apple Push Notification service.
    Apns,
    /// Firebase Cloud Messaging.
    Fcm,
    /// The push service of a browser.
    WebPush,
}

/// What browsers know our Web Push key by; in the schema's data where there is one.
pub struct WebPushPublicKey(pub String);

/// Hours of every day at which the viewer's devices are not pushed to.
#[derive(Clone, SimpleObject)]
pub struct QuietHours {
    /// The first minute, `00:00` to `23:59`.
    starts: String,
    /// The first minute after them. They go past midnight when they end before they start.
    ends: String,
    /// Whose clock it is: a name of the IANA database.
    time_zone: String,
}

impl From<domain::QuietHours> for QuietHours {
    fn from(hours: domain::QuietHours) -> Self {
        let text = |minute: i16| format!("{:02}:{:02}", minute / 60, minute % 60);
        Self { starts: text(hours.starts), ends: text(hours.ends), time_zone: hours.time_zone }
    }
}

/// Minutes since midnight of `HH:MM`.
pub fn minute(text: &str) -> Option<i16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str, below: i16| {
        let two = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|number: &i16| two && *number < below)
    };
    Some(number(hours, 24)? * 60 + number(minutes, 60)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_has_two_digits_each() {
        assert_eq!((minute("00:00"), minute("23:59"), minute("07:30")), (Some(0), Some(1439), Some(450)));
        for text in ["24:00", "7:30", "07:60", "07:3", "0730", "+7:30", "07:30:00", ""] {
            assert_eq!(minute(text), None, "{text}");
        }
    }
}
