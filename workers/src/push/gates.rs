//! Who asked to be left alone, and for how long: a provider, a browser's push service, or a single device.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::PushAddress;
use tokio::time::Instant;

/// How long somebody is left alone who does not say how long: doubled each time.
const CLOSED_MIN: Duration = Duration::from_secs(2);
const CLOSED_MAX: Duration = Duration::from_mins(10);
/// So many are remembered; beyond that they are asked again.
const GATES_MAX: usize = 10_000;

#[derive(Default)]
pub struct Gates(Mutex<HashMap<String, Closed>>);

struct Closed {
    until: Instant,
    /// How often in a row.
    times: u32,
}

/// Endpoints of browsers are strangers to each other: each origin is left alone for itself.
pub fn name(address: &PushAddress) -> String {
    match address {
        PushAddress::Apns(_) => "apns".to_owned(),
        PushAddress::Fcm(_) => "fcm".to_owned(),
        PushAddress::WebPush(subscription) => {
            let rest = subscription.endpoint.split_once("://").map_or("", |(_, rest)| rest);
            format!("origin {}", rest.split('/').next().unwrap_or_default())
        }
    }
}

impl Gates {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Closed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long still; `None` when it may be asked.
    pub fn closed_for(&self, name: &str, now: Instant) -> Option<Duration> {
        let until = self.lock().get(name)?.until;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Answers for how long.
    pub fn close(&self, name: &str, wait: Option<Duration>, now: Instant) -> Duration {
        let mut gates = self.lock();
        if gates.len() >= GATES_MAX && !gates.contains_key(name) {
            gates.retain(|_, closed| closed.until > now);
            if gates.len() >= GATES_MAX {
                gates.clear();
            }
        }
        let closed = gates.entry(name.to_owned()).or_insert(Closed { until: now, times: 0 });
        // Many requests that were under way at once are told the same at once.
        if closed.until <= now {
            closed.times += 1;
        }
        let longer = CLOSED_MIN * 2_u32.saturating_pow((closed.times - 1).min(16));
        let wait = wait.unwrap_or(longer).clamp(Duration::from_millis(100), CLOSED_MAX);
        closed.until = closed.until.max(now + wait);
        wait
    }

    /// They took something.
    pub fn open(&self, provider: &str, device: &str) {
        let mut gates = self.lock();
        gates.remove(provider);
        gates.remove(device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_to_wait_is_left_alone_as_long_as_asked_and_longer_each_time_otherwise() {
        let (gates, now) = (Gates::default(), Instant::now());
        let asked = Duration::from_secs(30);
        assert_eq!(gates.closed_for("fcm", now), None);
        assert_eq!(gates.close("fcm", Some(asked), now), asked);
        assert_eq!(gates.closed_for("fcm", now), Some(asked));
        assert_eq!(gates.closed_for("apns", now), None);
        let now = now + asked;
        assert_eq!(gates.closed_for("fcm", now), None);
        assert_eq!(gates.close("fcm", None, now), CLOSED_MIN * 2);
        assert_eq!(gates.close("fcm", None, now), CLOSED_MIN * 2, "the same time");
        gates.open("fcm", "");
        assert_eq!(gates.close("fcm", None, now), CLOSED_MIN);
        assert_eq!(gates.close("fcm", Some(Duration::from_hours(5)), now), CLOSED_MAX);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (gates, now) = (Gates::default(), Instant::now());
        for number in 0..GATES_MAX * 2 {
            gates.close(&number.to_string(), None, now);
        }
        assert!(gates.lock().len() <= GATES_MAX);
    }
}
