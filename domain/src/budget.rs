//! What callers may spend on operations: a budget for each user, and one for each address, in the currency of an operation's cost.
//!
//! Each process counts what is spent at it. Where processes share a Redis, what they give out comes from one bucket for all, a handful at a
//! time: most operations find enough in the hand, so that nobody asks Redis for each. When Redis is away the process's own count
//! goes on, so that the worst is one budget a process, and never none.

use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;
use tokio::time::Instant;

use crate::{
    Caller, Chat, ErrorCode, Network, Refill, ServiceError, ServiceResult, Timestamp,
    port::{
        Buckets, Clock,
        buckets::{Ask, NotTaken, Owner},
    },
};

/// Handfuls in a full bucket. A process that dies takes one with it.
const HANDFULS: u32 = 64;
/// A handful that nobody wanted for so long is forgotten; the bucket has been filling meanwhile.
const HAND_LIFE: Duration = Duration::from_secs(10);
/// Hands of a process, about 100 bytes each; a forgotten one is a handful less for its owner.
const HANDS_MAX: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

/// What is left after an operation was paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Of the user; of the address for a caller without a token.
    pub budget: Refill,
    pub left: u32,
    /// When all of it will be there again.
    pub full_at: Timestamp,
}

pub(crate) struct Budgets {
    near: Arc<dyn Buckets>,
    far: Option<Arc<dyn Buckets>>,
    clock: Arc<dyn Clock>,
    hands: Mutex<LruCache<Owner, Hand>>,
}

/// What a process has taken of a shared bucket and not yet given out.
#[derive(Clone, Copy)]
struct Hand {
    tokens: u32,
    /// In the bucket, when it was last asked.
    left: u32,
    until: Instant,
}

impl Budgets {
    /// `near` is this process's own count; `far` what it shares.
    pub fn new(near: Arc<dyn Buckets>, far: Option<Arc<dyn Buckets>>, clock: Arc<dyn Clock>) -> Self {
        Self { near, far, clock, hands: Mutex::new(LruCache::new(HANDS_MAX)) }
    }

    async fn spend(&self, owner: Owner, budget: Refill, cost: u32) -> Result<Spent, Duration> {
        let now = self.clock.now();
        let ask = Ask { owner, refill: budget, needed: cost, wanted: cost };
        let mut left = match self.near.take(ask, now).await {
            Ok(taken) => taken.left,
            Err(NotTaken::Wait(wait)) => return Err(wait),
            // Cannot be: it is here.
            Err(NotTaken::Away) => return Err(Duration::from_secs(1)),
        };
        if let Some(far) = &self.far {
            left = left.min(self.spend_shared(&**far, ask, now).await?.unwrap_or(left));
        }
        let missing = budget.time_of(budget.burst.saturating_sub(left));
        let full_at = now.0.saturating_add(i64::try_from(missing.as_micros()).unwrap_or(i64::MAX));
        Ok(Spent { budget, left, full_at: Timestamp(full_at) })
    }

    /// What is left for all, as far as it is known here; `None` when nobody can tell.
    async fn spend_shared(
        &self,
        far: &dyn Buckets,
        ask: Ask,
        now: Timestamp,
    ) -> Result<Option<u32>, Duration> {
        let cost = ask.needed.min(ask.refill.burst);
        if let Some(left) = self.take_of_hand(ask.owner, cost) {
            return Ok(Some(left));
        }
        let wanted = cost.saturating_add(ask.refill.burst / HANDFULS);
        match far.take(Ask { wanted, ..ask }, now).await {
            Ok(taken) => Ok(Some(self.put_in_hand(ask.owner, taken.tokens.saturating_sub(cost), taken.left))),
            Err(NotTaken::Wait(wait)) => Err(wait),
            Err(NotTaken::Away) => Ok(None),
        }
    }

    fn take_of_hand(&self, owner: Owner, cost: u32) -> Option<u32> {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let hand = hands.get_mut(&owner).filter(|hand| hand.until > Instant::now())?;
        hand.tokens = hand.tokens.checked_sub(cost)?;
        Some(hand.tokens.saturating_add(hand.left))
    }

    fn put_in_hand(&self, owner: Owner, tokens: u32, left: u32) -> u32 {
        let until = Instant::now() + HAND_LIFE;
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let hand = hands.get_or_insert_mut(owner, || Hand { tokens: 0, left, until });
        let before = if hand.until > Instant::now() { hand.tokens } else { 0 };
        *hand = Hand { tokens: before.saturating_add(tokens), left, until };
        hand.tokens.saturating_add(left)
    }
}

impl Chat {
    /// Pays for an operation from the caller's budget and from that of the address. `RATE_LIMITED` when there is not enough in one of
    /// them, and nothing must run; `None` where limits on rates are lifted.
    pub async fn spend(
        &self,
        caller: Option<&Caller>,
        address: Option<IpAddr>,
        cost: u32,
    ) -> ServiceResult<Option<Spent>> {
        let (limits, budgets) = (&self.local.limits, &self.local.budgets);
        if !limits.rate_limits {
            return Ok(None);
        }
        // The user's first: one who has nothing left takes nothing from the others behind the same address.
        let of_user = match caller {
            Some(caller) => {
                let owner = Owner::User(caller.user);
                Some(budgets.spend(owner, limits.user_budget, cost).await.map_err(refused)?)
            }
            None => None,
        };
        let owner = Owner::Network(Network::of(address));
        let of_address = budgets.spend(owner, limits.address_budget, cost).await.map_err(refused)?;
        Ok(Some(of_user.unwrap_or(of_address)))
    }
}

fn refused(wait: Duration) -> ServiceError {
    ServiceError::new(ErrorCode::RateLimited, "the budget for operations is spent; wait and try again")
        .after(wait)
}
