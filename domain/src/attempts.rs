//! How often somebody may try: sign-ins and registrations, limited without letting a stranger lock anybody out.
//!
//! A sign-in passes three limits: of its address; of its account from its address; and, unless that account has signed in
//! from there lately, of its account from all unfamiliar addresses together. So guessing from many addresses is slow, and a
//! flood of guesses leaves the owner's own devices alone. What succeeds is given back, and so is what nobody looked at for want of a turn at
//! the hashes: whoever is told to try again may. The counts live in memory: each node
//! counts for itself, and a restart forgets. Where an account has signed in from is in the database, too, as a keyed hash, and is
//! asked for when the account's own limit is reached: so the owner is known after a restart and on every node.

pub(crate) mod rates;

use std::{net::IpAddr, sync::Arc, time::Duration};

use moka::{policy::EvictionPolicy, sync::Cache};

use self::rates::Rates;
use crate::{ErrorCode, Limits, Network, ServiceError, ServiceResult, Timestamp, UserId, port::Clock};

/// How long an address stays familiar after a sign-in.
pub(crate) const FAMILIAR_FOR: Duration = Duration::from_hours(30 * 24);
/// Accounts with an address remembered as familiar, about 150 bytes each; the least recently used go first. Not a setting: what is
/// forgotten here is found in the database.
const FAMILIAR_MAX: u64 = 100_000;

/// Networks kept in the database of a user: more than anybody's devices are in within [`FAMILIAR_FOR`]. Not a setting, as nothing else
/// depends on it.
pub(crate) const FAMILIAR_PER_USER_MAX: u64 = 64;

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

impl Attempt {
    /// What stands for the account and its network in the database, before it is hashed; `None` where the network is not known.
    pub fn place(&self) -> Option<Vec<u8>> {
        place(&self.account, self.network)
    }
}

/// As [`Attempt::place`], of an account that has just been made.
pub(crate) fn place_of(account: &str, address: Option<IpAddr>) -> Option<Vec<u8>> {
    place(account, Network::of(address))
}

fn place(account: &str, network: Network) -> Option<Vec<u8>> {
    let mut place = match network {
        Network::V4(address) => [&[4][..], &address.octets()].concat(),
        Network::V6(network) => [&[6][..], &network].concat(),
        Network::Unknown => return None,
    };
    place.extend_from_slice(account.as_bytes());
    Some(place)
}

impl Attempts {
    /// `rate_limits: false` lets everything pass.
    pub fn new(clock: Arc<dyn Clock>, limits: &Limits) -> Self {
        let familiar =
            Cache::builder().max_capacity(FAMILIAR_MAX).eviction_policy(EvictionPolicy::lru()).build();
        Self {
            clock,
            limited: limits.rate_limits,
            addresses: Rates::new(limits.sign_in_address_rate),
            pairs: Rates::new(limits.sign_in_pair_rate),
            accounts: Rates::new(limits.sign_in_account_rate),
            registrations: Rates::new(limits.registration_rate),
            // Whoever holds a session guesses no faster than somebody who signs in from one address.
            password_checks: Rates::new(limits.sign_in_pair_rate),
            familiar,
        }
    }

    /// Counts a sign-in before its password is looked at. `account` is the key of the username, known or not. With a refusal when
    /// the account's limit is reached, which holds unless the database knows the network.
    pub fn sign_in(
        &self,
        account: &str,
        address: Option<IpAddr>,
    ) -> ServiceResult<(Attempt, Option<ServiceError>)> {
        let (account, network): (Account, _) = (account.into(), Network::of(address));
        let now = self.clock.now();
        let pair = (account.clone(), network);
        let mut familiar = self.familiar.get(&pair).is_some_and(|at| now.since(at) < FAMILIAR_FOR);
        let mut refusal = None;
        if self.limited {
            self.addresses.take(network, now).map_err(refused)?;
            self.pairs.take(pair, now).map_err(refused)?;
            if !familiar {
                refusal = self.accounts.take(account.clone(), now).err().map(refused);
                // Nothing was taken of the account, and nothing has to be given back.
                familiar = refusal.is_some();
            }
        }
        Ok((Attempt { account, network, familiar }, refusal))
    }

    pub fn signed_in(&self, attempt: Attempt) {
        self.give_back(&attempt);
        self.familiar.insert((attempt.account, attempt.network), self.clock.now());
    }

    /// Takes back what [`Self::sign_in`] counted.
    pub fn give_back(&self, attempt: &Attempt) {
        let Attempt { account, network, familiar } = attempt;
        if self.limited {
            self.addresses.give_back(network);
            self.pairs.give_back(&(account.clone(), *network));
            if !familiar {
                self.accounts.give_back(account);
            }
        }
    }

    pub fn register(&self, address: Option<IpAddr>) -> ServiceResult<()> {
        self.count(&self.registrations, Network::of(address))
    }

    /// Counts a check of a signed-in user's password.
    pub fn check_password(&self, user: UserId) -> ServiceResult<()> {
        self.count(&self.password_checks, user)
    }

    /// Takes back what [`Self::check_password`] counted: it was right, or nobody looked at it.
    pub fn give_back_check(&self, user: UserId) {
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
