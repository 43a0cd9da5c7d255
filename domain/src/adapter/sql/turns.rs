//! Turns of reading transactions: few are open at once, so that a storm of subscriptions leaves connections to those who commit.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::port::StoreError;

/// How long one waits for its turn. Within the 10 s that a caller waits by default (`operation_timeout_ms`), so that they hear the
/// reason; and longer than a storm of 5,000 takes that reads in 5 ms each, 5 at once.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// One at a time reads for all that wait: the more wait for each, the less a storm costs. Who has waited for so long may read beside it, so that what
/// one reads slowly does not hold up everybody.
const SLOW_AFTER: Duration = Duration::from_millis(50);

/// Who may read a snapshot now.
#[derive(Clone)]
pub(super) struct Turns {
    /// For those who read for themselves alone.
    free: Arc<Semaphore>,
    /// For who reads for all that wait.
    gathering: Arc<Semaphore>,
    /// For another one, who has waited for long.
    besides: Arc<Semaphore>,
    wait: Duration,
}

/// A turn, until it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

impl Turns {
    /// Fewer than half of so many connections together, and one at least.
    pub fn below_half_of(connections: u32) -> Self {
        let at_once = usize::try_from(connections.saturating_sub(1) / 2).unwrap_or(1).max(1);
        let gathering = Arc::new(Semaphore::new(1));
        // Where there are too few, they share.
        let free = if at_once > 1 {
            Arc::new(Semaphore::new(at_once.saturating_sub(2).max(1)))
        } else {
            gathering.clone()
        };
        let besides = if at_once > 2 { Arc::new(Semaphore::new(1)) } else { gathering.clone() };
        Self { free, gathering, besides, wait: TURN_WAIT }
    }

    /// Waits for a turn to read alone, first come, first served.
    pub async fn take(&self) -> Result<Turn, StoreError> {
        self.of(&self.free).await
    }

    /// Waits for a turn to read for all that wait, first come, first served.
    pub async fn to_gather(&self) -> Result<Turn, StoreError> {
        let first = self.of(&self.gathering);
        tokio::pin!(first);
        match timeout(SLOW_AFTER, &mut first).await {
            Ok(turn) => turn,
            Err(_) => tokio::select! {
                biased;
                turn = first => turn,
                turn = self.of(&self.besides) => turn,
            },
        }
    }

    async fn of(&self, turns: &Arc<Semaphore>) -> Result<Turn, StoreError> {
        match timeout(self.wait, turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(closed)) => Err(StoreError::Unavailable(closed.into())),
            Err(late) => Err(StoreError::Unavailable(late.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::{join, time::Instant};

    use super::*;

    #[test]
    fn half_of_the_connections_and_more_are_left_to_others() {
        for (connections, at_once) in [(1, 1), (2, 1), (4, 1), (5, 2), (12, 5), (500, 249)] {
            let turns = Turns::below_half_of(connections);
            let mut all = vec![turns.free, turns.gathering, turns.besides];
            all.sort_unstable_by_key(Arc::as_ptr);
            all.dedup_by(|a, b| Arc::ptr_eq(a, b));
            let together: usize = all.iter().map(|turns| turns.available_permits()).sum();
            assert_eq!(together, at_once, "{connections}");
        }
    }

    #[tokio::test]
    async fn one_at_a_time_reads_for_all_and_another_where_that_takes_long() {
        let turns = Turns::below_half_of(12);
        let begun = Instant::now();
        let slow = turns.to_gather().await.expect("free");
        let second = turns.to_gather().await.expect("after a while");
        assert!(begun.elapsed() >= SLOW_AFTER);
        let (third, ()) = join!(turns.to_gather(), async { drop(slow) });
        drop((third.expect("the slow one is done"), second));
        // Where there is but one turn, it is everybody's.
        let turns = Turns { wait: Duration::from_millis(1), ..Turns::below_half_of(1) };
        let held = turns.take().await.expect("free");
        assert!(turns.to_gather().await.is_err());
        drop(held);
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_in_time_is_unavailable_and_one_that_ends_is_the_next_ones() {
        let turns = Turns { wait: Duration::from_millis(1), ..Turns::below_half_of(1) };
        let held = turns.take().await.expect("free");
        let mut next = Box::pin(turns.take());
        assert!((&mut next).now_or_never().is_none(), "it waits");
        let late = turns.take().await.expect_err("nobody ends");
        assert!(matches!(late, StoreError::Unavailable(_)), "{late:?}");
        drop((held, next));
        assert!(turns.take().now_or_never().is_some_and(|turn| turn.is_ok()));
    }
}
