//! When the batches of `loaders` run: within the request's own task, as soon as all its resolvers wait.
//!
//! A timer would add its delay to every level of a query, and a batch that runs beside the resolvers would start before
//! the last of them has asked. Here nothing is waited for: resolvers run until none can go on, then what they asked for is
//! read. Users come last, because messages and members both lead to them: so both share one read.

use std::{
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_graphql::runtime::Timer;
use futures_util::{
    FutureExt, Stream, StreamExt,
    future::{self, BoxFuture},
    stream::{self, FuturesUnordered},
    task::{FutureObj, Spawn, SpawnError},
};

type Batch = FutureObj<'static, ()>;

/// The batches of one request that have not started.
#[derive(Default)]
pub struct Batches {
    driven: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    early: Vec<Batch>,
    late: Vec<Batch>,
}

/// Which batches go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// As soon as no resolver can go on.
    Early,
    /// And no early batch is under way either.
    Late,
}

/// Where a loader puts its batches.
#[derive(Clone)]
pub struct Queue {
    batches: Arc<Batches>,
    stage: Stage,
}

impl Batches {
    pub fn queue(self: &Arc<Self>, stage: Stage) -> Queue {
        Queue { batches: Arc::clone(self), stage }
    }

    /// Runs a request with its batches. Pinned by the caller: an `async fn` has room for what it is given and once more for where it
    /// pins it, and a request is large.
    pub async fn drive<F: Future>(&self, mut work: Pin<&mut F>) -> F::Output {
        self.driven.store(true, Ordering::Relaxed);
        let mut running = FuturesUnordered::new();
        poll_fn(|context| self.poll(&mut running, context, |context| work.as_mut().poll(context))).await
    }

    /// Runs a subscription with its batches.
    pub fn drive_stream<S>(self: Arc<Self>, mut work: S) -> impl Stream<Item = S::Item>
    where
        S: Stream + Unpin,
    {
        self.driven.store(true, Ordering::Relaxed);
        let mut running = FuturesUnordered::new();
        stream::poll_fn(move |context| {
            self.poll(&mut running, context, |context| work.poll_next_unpin(context))
        })
    }

    fn poll<T>(
        &self,
        running: &mut FuturesUnordered<Batch>,
        context: &mut Context<'_>,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        loop {
            if let Poll::Ready(output) = work(context) {
                return Poll::Ready(output);
            }
            running.extend(self.take(Stage::Early));
            if running.is_empty() {
                running.extend(self.take(Stage::Late));
            }
            match running.poll_next_unpin(context) {
                // Its answers let resolvers go on.
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take(&self, stage: Stage) -> Vec<Batch> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(waiting.of(stage))
    }
}

impl Waiting {
    fn of(&mut self, stage: Stage) -> &mut Vec<Batch> {
        match stage {
            Stage::Early => &mut self.early,
            Stage::Late => &mut self.late,
        }
    }
}

impl Spawn for Queue {
    fn spawn_obj(&self, batch: Batch) -> Result<(), SpawnError> {
        if self.batches.driven.load(Ordering::Relaxed) {
            let mut waiting = self.batches.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.of(self.stage).push(batch);
        } else {
            // Somebody executes the request without `drive`: slower, but it must not wait for ever.
            #[expect(clippy::disallowed_methods, reason = "a read that nobody's shutdown waits for")]
            tokio::spawn(batch);
        }
        Ok(())
    }
}

impl Timer for Queue {
    fn delay(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if self.batches.driven.load(Ordering::Relaxed) {
            future::ready(()).boxed()
        } else {
            tokio::time::sleep(duration).boxed()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, convert::Infallible, pin::pin, sync::atomic::AtomicUsize};

    use async_graphql::dataloader::{DataLoader, Loader};
    use tokio::task;

    use super::*;

    /// Doubles numbers after `yields` turns of the runtime, and counts its batches.
    struct Doubling {
        yields: u32,
        batches: Arc<AtomicUsize>,
    }

    impl Loader<u32> for Doubling {
        type Value = u32;
        type Error = Infallible;

        async fn load(&self, keys: &[u32]) -> Result<HashMap<u32, u32>, Infallible> {
            self.batches.fetch_add(1, Ordering::Relaxed);
            for _ in 0..self.yields {
                task::yield_now().await;
            }
            Ok(keys.iter().map(|key| (*key, key * 2)).collect())
        }
    }

    fn loader(batches: &Arc<Batches>, stage: Stage, yields: u32) -> (DataLoader<Doubling>, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let queue = batches.queue(stage);
        let doubling = Doubling { yields, batches: Arc::clone(&count) };
        (DataLoader::new(doubling, queue.clone(), queue), count)
    }

    async fn double(loader: &DataLoader<Doubling>, key: u32) -> u32 {
        loader.load_one(key).await.unwrap_or_else(|never| match never {}).unwrap_or_default()
    }

    #[tokio::test]
    async fn rows_that_reach_users_at_different_times_share_one_read_of_users() {
        let batches = Arc::new(Batches::default());
        let (quick, quick_reads) = loader(&batches, Stage::Early, 0);
        let (slow, slow_reads) = loader(&batches, Stage::Early, 9);
        let (users, user_reads) = loader(&batches, Stage::Late, 2);
        let rows = future::join_all((0..50).map(|row| {
            let (quick, slow, users) = (&quick, &slow, &users);
            async move {
                let by_quick = async { double(users, double(quick, row).await).await };
                let by_slow = async { double(users, double(slow, row + 50).await).await };
                future::join(by_quick, by_slow).await
            }
        }));
        let found = batches.drive(pin!(rows)).await;
        assert!((0..50).zip(&found).all(|(row, pair)| *pair == (row * 4, (row + 50) * 4)));
        let reads = [&quick_reads, &slow_reads, &user_reads].map(|reads| reads.load(Ordering::Relaxed));
        assert_eq!(reads, [1, 1, 1]);
    }

    #[tokio::test]
    async fn a_stream_reads_for_each_item() {
        let batches = Arc::new(Batches::default());
        let (users, reads) = loader(&batches, Stage::Late, 1);
        let items = stream::iter(1..=3).then(|key| double(&users, key)).boxed();
        let doubled: Vec<_> = Arc::clone(&batches).drive_stream(items).collect().await;
        assert_eq!(doubled, [2, 4, 6]);
        assert_eq!(reads.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn batches_of_a_request_that_nobody_drives_run_all_the_same() {
        let batches = Arc::new(Batches::default());
        let (users, reads) = loader(&batches, Stage::Late, 1);
        assert_eq!(future::join(double(&users, 1), double(&users, 2)).await, (2, 4));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }
}
