//! How often somebody may try to sign in or register.
//!
//! Counted per account and address, per address, and per account from addresses where that account has not signed in lately.
//! A stranger can use up the last one; who signs in from a known address does not need it, so nobody can be locked out of
//! their usual places.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;

use crate::{ErrorCode, ServiceError, ServiceResult, Timestamp, port::Clock};

/// Attempts that may come at once, and how long one takes to come back.
#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    refill: Duration,
}

const PER_PAIR: Rate = Rate { burst: 5, refill: Duration::from_secs(30) };
const PER_ADDRESS: Rate = Rate { burst: 60, refill: Duration::from_secs(1) };
const PER_ACCOUNT: Rate = Rate { burst: 20, refill: Duration::from_secs(15) };
const REGISTRATIONS: Rate = Rate { burst: 20, refill: Duration::from_secs(10) };

/// Buckets of each kind that are remembered; an attacker who fills them forgets only the least recently used.
const BUCKETS_MAX: u64 = 100_000;
/// How long an address counts as one where the account signed in.
const KNOWN_FOR: Duration = Duration::from_hours(30 * 24);

type Bucket = Arc<Mutex<(f64, Timestamp)>>;

#[derive(Clone)]
pub struct Attempts {
    enabled: bool,
    clock: Arc<dyn Clock>,
    pairs: Cache<(Arc<str>, Origin), Bucket>,
    addresses: Cache<Origin, Bucket>,
    accounts: Cache<Arc<str>, Bucket>,
    registrations: Cache<Origin, Bucket>,
    known: Cache<(Arc<str>, Origin), ()>,
}

/// An IPv4 address, or the /64 of an IPv6 address, which one household or machine has whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4([u8; 4]),
    V6([u8; 8]),
    Unknown,
}

impl From<Option<IpAddr>> for Origin {
    fn from(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(v4)) => Self::V4(v4.octets()),
            Some(IpAddr::V6(v6)) => {
                let octets = v6.octets();
                let mut network = [0; 8];
                network.copy_from_slice(&octets[..8]);
                Self::V6(network)
            }
            None => Self::Unknown,
        }
    }
}

impl Attempts {
    pub fn new(enabled: bool, clock: Arc<dyn Clock>) -> Self {
        fn cache<K: std::hash::Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>()
        -> Cache<K, V> {
            Cache::new(BUCKETS_MAX)
        }
        let known = Cache::builder().max_capacity(BUCKETS_MAX).time_to_live(KNOWN_FOR).build();
        let (pairs, addresses, accounts, registrations) = (cache(), cache(), cache(), cache());
        Self { enabled, clock, pairs, addresses, accounts, registrations, known }
    }

    /// Counts an attempt to sign in; `RATE_LIMITED` when it is one too many. `account` is the username's key, known or not.
    pub fn sign_in(&self, account: &str, address: Option<IpAddr>) -> ServiceResult<()> {
        if !self.enabled {
            return Ok(());
        }
        let origin = Origin::from(address);
        let account: Arc<str> = account.into();
        self.take(&self.addresses, &origin, PER_ADDRESS)?;
        let pair = (account.clone(), origin);
        self.take(&self.pairs, &pair, PER_PAIR)?;
        if self.known.contains_key(&pair) { Ok(()) } else { self.take(&self.accounts, &account, PER_ACCOUNT) }
    }

    /// A sign-in succeeded: the address is known, and what was used up there comes back.
    pub fn signed_in(&self, account: &str, address: Option<IpAddr>) {
        let pair = (Arc::from(account), Origin::from(address));
        self.pairs.invalidate(&pair);
        self.known.insert(pair, ());
    }

    pub fn register(&self, address: Option<IpAddr>) -> ServiceResult<()> {
        if self.enabled { self.take(&self.registrations, &address.into(), REGISTRATIONS) } else { Ok(()) }
    }

    fn take<K>(&self, buckets: &Cache<K, Bucket>, key: &K, rate: Rate) -> ServiceResult<()>
    where
        K: Clone + std::hash::Hash + Eq + Send + Sync + 'static,
    {
        let now = self.clock.now();
        let full = f64::from(rate.burst);
        let bucket = buckets.get_with(key.clone(), || Arc::new(Mutex::new((full, now))));
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let back = now.since(bucket.1).as_secs_f64() / rate.refill.as_secs_f64();
        *bucket = ((bucket.0 + back).min(full), now);
        if bucket.0 < 1.0 {
            let wait = rate.refill.mul_f64(1.0 - bucket.0);
            let text = "too many attempts; wait a little";
            return Err(ServiceError::new(ErrorCode::RateLimited, text).after(wait));
        }
        bucket.0 -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[derive(Default)]
    struct TestClock(AtomicI64);

    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn address(last: u8) -> impl Into<Option<IpAddr>> {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn guessing_a_password_is_slow_and_comes_back() {
        let clock = Arc::new(TestClock::default());
        let attempts = Attempts::new(true, clock.clone());
        for _ in 0..5 {
            assert!(attempts.sign_in("ada", address(1).into()).is_ok());
        }
        let refused = attempts.sign_in("ada", address(1).into()).expect_err("the sixth");
        assert_eq!(refused.code(), ErrorCode::RateLimited);
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(30)));
        clock.0.fetch_add(30_000_000, Ordering::Relaxed);
        assert!(attempts.sign_in("ada", address(1).into()).is_ok());
    }

    #[test]
    fn a_strangers_flood_does_not_lock_the_owner_out_of_a_known_address() {
        let attempts = Attempts::new(true, Arc::new(TestClock::default()));
        assert!(attempts.sign_in("ada", address(1).into()).is_ok());
        attempts.signed_in("ada", address(1).into());
        let flood = (2..=250).filter(|last| attempts.sign_in("ada", address(*last).into()).is_ok()).count();
        assert!(flood <= 20, "many addresses together have one budget for an account");
        assert!(attempts.sign_in("ada", address(1).into()).is_ok());
        assert!(attempts.sign_in("bob", address(2).into()).is_ok(), "others are not concerned");
    }

    #[test]
    fn one_address_cannot_try_many_accounts_nor_rotate_within_its_network() {
        let attempts = Attempts::new(true, Arc::new(TestClock::default()));
        let tried = (0..200_u16).filter(|last| {
            let address = IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, *last]);
            attempts.sign_in(&format!("user{last}"), Some(address)).is_ok()
        });
        assert_eq!(tried.count(), 60);
    }

    #[test]
    fn limits_can_be_lifted_for_load_tests() {
        let attempts = Attempts::new(false, Arc::new(TestClock::default()));
        assert!((0..1000).all(|_| attempts.sign_in("ada", address(1).into()).is_ok()
            && attempts.register(address(1).into()).is_ok()));
    }
}
