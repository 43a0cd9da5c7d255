//! How often somebody may try: sign-ins and registrations, limited without letting a stranger lock anybody out.
//!
//! A sign-in passes three limits: of its address; of its account from its address; and, unless that account has signed in
//! from there lately, of its account from all unfamiliar addresses together. So guessing from many addresses is slow, and a
//! flood of guesses leaves the owner's own devices alone. What succeeds is given back. The counts live in memory: each node
//! counts for itself, and a restart forgets.

mod rates;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};

use self::rates::{Rate, Rates};
use crate::{ErrorCode, ServiceError, ServiceResult, Timestamp, UserId, port::Clock};

/// Sign-ins to one account from one address: five typing errors, then one every 30 s.
const PAIR: Rate = Rate { burst: 5, refill: Duration::from_secs(30) };
/// Sign-ins from one address to any account: an office behind one address, but no dictionary.
const ADDRESS: Rate = Rate { burst: 60, refill: Duration::from_secs(1) };
/// Sign-ins to one account from all unfamiliar addresses together: at most 8,640 guesses a day.
const ACCOUNT: Rate = Rate { burst: 30, refill: Duration::from_secs(10) };
/// Registrations from one address.
const REGISTRATION: Rate = Rate { burst: 20, refill: Duration::from_secs(10) };
/// Checks of one user's current password by whoever holds their session.
const PASSWORD_CHECK: Rate = PAIR;
/// How long an address stays familiar after a sign-in.
const FAMILIAR_FOR: Duration = Duration::from_hours(30 * 24);
/// Accounts with an address remembered as familiar, about 150 bytes each; the least recently used go first.
const FAMILIAR_MAX: u64 = 100_000;

/// Where a call comes from, as far as one party usually holds it: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4(Ipv4Addr),
    V6([u8; 8]),
    /// Not known; all of these count as one.
    Unknown,
}

impl Network {
    fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Unknown,
            Some(IpAddr::V4(address)) => Self::V4(address),
            Some(IpAddr::V6(address)) => {
                let mut network = [0; 8];
                network.copy_from_slice(&address.octets()[..8]);
                Self::V6(network)
            }
        }
    }
}

type Account = Arc<str>;

/// The counts of one node.
pub(crate) struct Attempts {
    clock: Arc<dyn Clock>,
    limited: bool,
    addresses: Rates<Network>,
    pairs: Rates<(Account, Network)>,
    accounts: Rates<Account>,
    registrations: Rates<Network>,
    password_checks: Rates<UserId>,
    /// When an account last signed in from a network.
    familiar: Cache<(Account, Network), Timestamp>,
}

/// A sign-in that may go on; what it counted is given back when it succeeds.
#[derive(Debug)]
pub(crate) struct Attempt {
    account: Account,
    network: Network,
    familiar: bool,
}

impl Attempts {
    /// `limited: false` lets everything pass.
    pub fn new(clock: Arc<dyn Clock>, limited: bool) -> Self {
        let familiar =
            Cache::builder().max_capacity(FAMILIAR_MAX).eviction_policy(EvictionPolicy::lru()).build();
        Self {
            clock,
            limited,
            addresses: Rates::new(ADDRESS),
            pairs: Rates::new(PAIR),
            accounts: Rates::new(ACCOUNT),
            registrations: Rates::new(REGISTRATION),
            password_checks: Rates::new(PASSWORD_CHECK),
            familiar,
        }
    }

    /// Counts a sign-in before its password is looked at. `account` is the key of the username, known or not.
    pub fn sign_in(&self, account: &str, address: Option<IpAddr>) -> ServiceResult<Attempt> {
        let (account, network): (Account, _) = (account.into(), Network::of(address));
        let now = self.clock.now();
        let pair = (account.clone(), network);
        let familiar = self.familiar.get(&pair).is_some_and(|at| now.since(at) < FAMILIAR_FOR);
        if self.limited {
            self.addresses.take(network, now).map_err(refused)?;
            self.pairs.take(pair, now).map_err(refused)?;
            if !familiar {
                self.accounts.take(account.clone(), now).map_err(refused)?;
            }
        }
        Ok(Attempt { account, network, familiar })
    }

    pub fn signed_in(&self, attempt: Attempt) {
        let Attempt { account, network, familiar } = attempt;
        let pair = (account.clone(), network);
        if self.limited {
            self.addresses.give_back(&network);
            self.pairs.give_back(&pair);
            if !familiar {
                self.accounts.give_back(&account);
            }
        }
        self.familiar.insert(pair, self.clock.now());
    }

    pub fn register(&self, address: Option<IpAddr>) -> ServiceResult<()> {
        self.count(&self.registrations, Network::of(address))
    }

    /// Counts a check of a signed-in user's password.
    pub fn check_password(&self, user: UserId) -> ServiceResult<()> {
        self.count(&self.password_checks, user)
    }

    pub fn password_was_right(&self, user: UserId) {
        if self.limited {
            self.password_checks.give_back(&user);
        }
    }

    fn count<K: rates::Key>(&self, rates: &Rates<K>, key: K) -> ServiceResult<()> {
        if self.limited { rates.take(key, self.clock.now()).map_err(refused) } else { Ok(()) }
    }
}

fn refused(wait: Duration) -> ServiceError {
    ServiceError::new(ErrorCode::RateLimited, "too many attempts; wait and try again").after(wait)
}

#[cfg(test)]
mod tests;
