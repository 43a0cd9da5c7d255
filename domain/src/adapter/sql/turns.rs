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

/// Turns of those who read for all that wait. The fewer there are, the more wait for each, and the less a storm costs; the second keeps what one
/// reads slowly from holding up everybody.
const GATHERING_MAX: usize = 2;

/// Who may read a snapshot now.
#[derive(Clone)]
pub(super) struct Turns {
    /// For those who read for themselves alone.
    free: Arc<Semaphore>,
    /// For those who read for all that wait.
    gathering: Arc<Semaphore>,
    wait: Duration,
}

/// A turn, until it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

impl Turns {
    /// Fewer than half of so many connections together, and one at least.
    pub fn below_half_of(connections: u32) -> Self {
        let at_once = usize::try_from(connections.saturating_sub(1) / 2).unwrap_or(1).max(1);
        let gathering = Arc::new(Semaphore::new(at_once.saturating_sub(1).clamp(1, GATHERING_MAX)));
        // Where there is but one, it is everybody's.
        let free = match at_once.saturating_sub(gathering.available_permits()) {
            0 => gathering.clone(),
            left => Arc::new(Semaphore::new(left)),
        };
        Self { free, gathering, wait: TURN_WAIT }
    }

    /// Waits for a turn to read alone, first come, first served.
    pub async fn take(&self) -> Result<Turn, StoreError> {
        self.of(&self.free).await
    }

    /// Waits for a turn to read for all that wait, first come, first served.
    pub async fn to_gather(&self) -> Result<Turn, StoreError> {
        self.of(&self.gathering).await
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

    use super::*;

    #[test]
    fn half_of_the_connections_and_more_are_left_to_others() {
        for (connections, at_once) in [(1, 1), (2, 1), (4, 1), (5, 2), (12, 5), (500, 249)] {
            let turns = Turns::below_half_of(connections);
            let mut together = turns.free.available_permits();
            if !Arc::ptr_eq(&turns.free, &turns.gathering) {
                together += turns.gathering.available_permits();
            }
            assert_eq!(together, at_once, "{connections}");
        }
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
