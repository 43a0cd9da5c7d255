//! Pushes to devices whose app is not open.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

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

    /// As far as it can be told without asking the provider. `private`: whether endpoints may be private or without TLS.
    pub fn check(&self, private: bool) -> ServiceResult<()> {
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
                let sound = endpoint.len() <= ADDRESS_BYTES_MAX && is_endpoint(endpoint, private);
                let text = "an endpoint is a public https URL of at most 4096 characters";
                refuse_unless(sound, &["device", "webPush", "endpoint"], text)?;
                let point = p256::PublicKey::from_sec1_bytes(&subscription.p256dh).is_ok();
                refuse_unless(
                    point,
                    &["device", "webPush", "p256dh"],
                    "a key is an uncompressed point of P-256",
                )
            }
        }
    }
}

/// Whether a text is a URL that pushes may be sent to. A name in it may still have a private address: whoever connects looks again.
pub fn is_endpoint(text: &str, private: bool) -> bool {
    let Ok(url) = text.parse::<url::Url>() else { return false };
    match url.host() {
        _ if private => matches!(url.scheme(), "http" | "https"),
        // A name without a dot is one of our own network.
        Some(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            url.scheme() == "https" && name.contains('.') && !name.ends_with(".localhost")
        }
        Some(url::Host::Ipv4(address)) => url.scheme() == "https" && is_public(address.into()),
        Some(url::Host::Ipv6(address)) => url.scheme() == "https" && is_public(address.into()),
        None => false,
    }
}

/// Of the registries of special addresses (RFC 6890 and its successors) none is public.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn refuse_unless(sound: bool, field: &'static [&'static str], text: &'static str) -> ServiceResult<()> {
    if sound { Ok(()) } else { Err(ServiceError::invalid(field, text)) }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, ..) | (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _)
    ) || matches!(
        (a, b, c),
        (192, 0, 0 | 2) | (192, 168, _) | (192, 88, 99) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113)
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Those that carry an address of version 4: mapped, compatible, translated, 6to4.
    let low = Ipv4Addr::from(
        [segments[6], segments[7]].map(u16::to_be_bytes).concat().try_into().unwrap_or([0; 4]),
    );
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(low),
        // Only 2000::/3 is given out; of it, not protocol assignments, documentation and 6to4.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002 | 0x3fff, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
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

/// Pushes to a range, and how often they were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushTask {
    pub range: PushRange,
    pub tries: u32,
}

/// Whom to push what: the first devices of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushBatch {
    pub message: MessageId,
    /// What the sender is called.
    pub sender: Arc<str>,
    /// Of a group.
    pub title: Option<Arc<str>>,
    pub text: String,
    pub targets: Vec<PushTarget>,
    /// Where to go on: the last user whose devices were looked at, or where the range begins when none were. `None` at its end.
    pub next: Option<UserId>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    pub conversation: ConversationId,
    pub seq: i32,
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
    use p256::elliptic_curve::sec1::ToEncodedPoint as _;

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
    fn private_addresses_are_known_in_every_disguise() {
        let private = "0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 172.31.9.9 192.168.0.1 198.18.0.1 224.0.0.1 \
            255.255.255.255 ::1 :: fe80::1 fd00::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1 2001:db8::1 ff02::1";
        for address in private.split_whitespace() {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
        for address in
            ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"]
        {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn a_literal_or_plain_endpoint_of_a_private_network_is_refused() {
        // The parser of URLs writes addresses in decimal and octal out before we look.
        for url in [
            "https://127.0.0.1/x",
            "https://2130706433/x",
            "https://0177.0.0.1/x",
            "https://[::1]/x",
            "http://push.example/x",
        ] {
            assert!(!is_endpoint(url, false), "{url}");
            assert!(is_endpoint(url, true), "{url}");
        }
        assert!(is_endpoint("https://push.example/x", false));
    }

    #[test]
    fn an_address_is_checked_as_far_as_it_can_be() {
        assert!(PushAddress::Apns("ab".repeat(32)).check(false).is_ok());
        assert!(PushAddress::Apns("xy".repeat(32)).check(false).is_err());
        assert!(PushAddress::Fcm("token:1".to_owned()).check(false).is_ok());
        assert!(PushAddress::Fcm("a b".to_owned()).check(false).is_err());
        // The generator of P-256, which is a point, and a number that is none.
        let generator = p256::ProjectivePoint::GENERATOR.to_encoded_point(false);
        let point: [u8; 65] = generator.as_bytes().try_into().expect("uncompressed");
        let subscription = |endpoint: &str, p256dh: [u8; 65]| {
            PushAddress::WebPush(Subscription { endpoint: endpoint.to_owned(), p256dh, auth: [0; 16] }.into())
                .check(false)
                .is_ok()
        };
        assert!(subscription("https://push.example/x", point));
        let mut beside = point;
        beside[64] ^= 1;
        assert!(!subscription("https://push.example/x", beside));
        for endpoint in
            ["ftp://push.example/x", "https://localhost/x", "https://a.localhost/x", "https://intranet/x"]
        {
            assert!(!subscription(endpoint, point), "{endpoint}");
        }
    }
}
