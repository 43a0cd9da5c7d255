//! Pushes to devices whose app is not open.

use std::sync::Arc;

use super::{ConversationId, MessageId, SessionId, Timestamp, UserId};
use crate::{ServiceError, ServiceResult};

/// Longest token or endpoint that is taken.
pub const ADDRESS_BYTES_MAX: usize = 4096;
const MINUTES_A_DAY: i16 = 24 * 60;

/// Who delivers a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PushProvider {
    Apns,
    Fcm,
    WebPush,
}

/// Where a device is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushAddress {
    /// A device token in hex.
    Apns(String),
    /// A registration token.
    Fcm(String),
    /// A subscription of a browser.
    WebPush(Box<Subscription>),
}

/// RFC 8291: where a browser's push service listens, its public key and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub endpoint: String,
    pub p256dh: [u8; 65],
    pub auth: [u8; 16],
}

impl PushAddress {
    pub const fn provider(&self) -> PushProvider {
        match self {
            Self::Apns(_) => PushProvider::Apns,
            Self::Fcm(_) => PushProvider::Fcm,
            Self::WebPush(_) => PushProvider::WebPush,
        }
    }

    /// The provider's token, or the endpoint.
    pub fn text(&self) -> &str {
        match self {
            Self::Apns(token) | Self::Fcm(token) => token,
            Self::WebPush(subscription) => &subscription.endpoint,
        }
    }

    /// As far as it can be told without asking the provider.
    pub fn check(&self) -> ServiceResult<()> {
        match self {
            Self::Apns(token) => {
                let sound =
                    (64..=200).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_hexdigit());
                refuse_unless(
                    sound,
                    &["device", "apns", "token"],
                    "a device token of APNs has 64 to 200 hex digits",
                )
            }
            Self::Fcm(token) => {
                let sound = (1..=ADDRESS_BYTES_MAX).contains(&token.len())
                    && token.bytes().all(|byte| byte.is_ascii_graphic());
                refuse_unless(
                    sound,
                    &["device", "fcm", "token"],
                    "a token of FCM has 1 to 4096 visible ASCII characters",
                )
            }
            Self::WebPush(subscription) => {
                let endpoint = &subscription.endpoint;
                let known = endpoint.starts_with("https://") || endpoint.starts_with("http://");
                let sound = known
                    && endpoint.len() <= ADDRESS_BYTES_MAX
                    && endpoint.bytes().all(|byte| byte.is_ascii_graphic());
                refuse_unless(
                    sound,
                    &["device", "webPush", "endpoint"],
                    "an endpoint is an URL of at most 4096 characters",
                )?;
                let uncompressed = subscription.p256dh[0] == 4;
                refuse_unless(
                    uncompressed,
                    &["device", "webPush", "p256dh"],
                    "a key is an uncompressed point of P-256",
                )
            }
        }
    }
}

fn refuse_unless(sound: bool, field: &'static [&'static str], text: &'static str) -> ServiceResult<()> {
    if sound { Ok(()) } else { Err(ServiceError::invalid(field, text)) }
}

/// When a user wants no pushes, every day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuietHours {
    /// Minutes since midnight, 0 to 1439. One that ends before it starts goes past midnight.
    pub starts: i16,
    pub ends: i16,
    /// A name of the IANA database.
    pub time_zone: String,
}

impl QuietHours {
    pub fn new(starts: i16, ends: i16, time_zone: String) -> ServiceResult<Self> {
        let within = |minute: i16| (0..MINUTES_A_DAY).contains(&minute);
        refuse_unless(
            within(starts),
            &["quietHours", "starts"],
            "a time of day is written as 00:00 to 23:59",
        )?;
        refuse_unless(within(ends), &["quietHours", "ends"], "a time of day is written as 00:00 to 23:59")?;
        refuse_unless(
            starts != ends,
            &["quietHours", "ends"],
            "quiet hours end at another time than they start",
        )?;
        let known = time_zone.len() <= 64 && jiff::tz::TimeZone::get(&time_zone).is_ok();
        refuse_unless(
            known,
            &["quietHours", "timeZone"],
            "a time zone is a name of the IANA database, such as Europe/Berlin",
        )?;
        Ok(Self { starts, ends, time_zone })
    }

    pub fn holds_at(&self, now: Timestamp) -> bool {
        let Ok(zone) = jiff::tz::TimeZone::get(&self.time_zone) else { return false };
        let Ok(at) = jiff::Timestamp::from_millisecond(now.millis()) else { return false };
        let local = at.to_zoned_datetime(zone);
        let minute = i16::from(local.hour()) * 60 + i16::from(local.minute());
        if self.starts < self.ends {
            (self.starts..self.ends).contains(&minute)
        } else {
            minute >= self.starts || minute < self.ends
        }
    }
}

/// The members of a conversation whose user ids are in `(after, upto]`, and the message they may be pushed about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushRange {
    pub conversation: ConversationId,
    pub seq: i32,
    pub after: UserId,
    pub upto: UserId,
}

/// Whom to push what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushBatch {
    pub message: MessageId,
    /// What the sender is called.
    pub sender: Arc<str>,
    /// Of a group.
    pub title: Option<Arc<str>>,
    pub text: String,
    pub targets: Vec<PushTarget>,
}

/// A device that is due a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushTarget {
    pub session: SessionId,
    pub user: UserId,
    pub address: PushAddress,
    /// All that is unread for the user.
    pub badge: i32,
}

/// What became of pushes about a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Devices whose provider took it.
    pub sent: Vec<SessionId>,
    /// Devices whose provider says that they are gone, with the address that it says this of.
    pub gone: Vec<(SessionId, String)>,
}

/// A task that could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadTask {
    /// Tells it from others; grows with time.
    pub id: i64,
    /// The name of its topic, without the prefix.
    pub topic: String,
    pub record: Vec<u8>,
    pub reason: String,
    pub died_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_go_past_midnight_in_their_zone() {
        // 2026-01-31 22:30 in Berlin, which is an hour ahead of UTC in winter.
        let at = |text: &str| {
            Timestamp::from_micros(text.parse::<jiff::Timestamp>().expect("a time").as_microsecond())
        };
        let night = QuietHours::new(22 * 60, 7 * 60, "Europe/Berlin".to_owned()).expect("sound");
        for (time, quiet) in [
            ("2026-01-31T20:59:00Z", false),
            ("2026-01-31T21:00:00Z", true),
            ("2026-02-01T05:59:00Z", true),
            ("2026-02-01T06:00:00Z", false),
        ] {
            assert_eq!(night.holds_at(at(time)), quiet, "{time}");
        }
        let noon = QuietHours::new(12 * 60, 13 * 60, "UTC".to_owned()).expect("sound");
        assert!(noon.holds_at(at("2026-01-31T12:00:00Z")) && !noon.holds_at(at("2026-01-31T13:00:00Z")));
        for (starts, ends, zone) in
            [(-1, 5, "UTC"), (5, 1440, "UTC"), (5, 5, "UTC"), (1, 2, "Mars/Olympus"), (1, 2, "")]
        {
            assert!(QuietHours::new(starts, ends, zone.to_owned()).is_err(), "{starts} {ends} {zone}");
        }
    }

    #[test]
    fn an_address_is_checked_as_far_as_it_can_be() {
        assert!(PushAddress::Apns("ab".repeat(32)).check().is_ok());
        assert!(PushAddress::Apns("xy".repeat(32)).check().is_err());
        assert!(PushAddress::Fcm("token:1".to_owned()).check().is_ok());
        assert!(PushAddress::Fcm("a b".to_owned()).check().is_err());
        let subscription = |endpoint: &str, first: u8| {
            let mut p256dh = [0; 65];
            p256dh[0] = first;
            PushAddress::WebPush(Subscription { endpoint: endpoint.to_owned(), p256dh, auth: [0; 16] }.into())
                .check()
                .is_ok()
        };
        assert!(subscription("https://push.example/x", 4));
        assert!(!subscription("ftp://push.example/x", 4) && !subscription("https://push.example/x", 2));
    }
}
