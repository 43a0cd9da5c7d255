//! When the batches of `loaders` run: within the request's own task, as soon as all its resolvers wait.
//!
//! A timer would add its delay to every level of a query, and a batch that runs beside the resolvers would start before
//! the last of them has asked. Here nothing is waited for: resolvers run until none can go on, then what they asked for is
//! read. Users come last, because messages and members both lead to them: so both share one read.

use std::{
    future::poll_fn,
    mem,
    pin::pin,
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

    /// Runs a request with its batches.
    pub async fn drive<F: Future>(&self, work: F) -> F::Output {
        self.driven.store(true, Ordering::Relaxed);
        let mut running = FuturesUnordered::new();
        let mut work = pin!(work);
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
