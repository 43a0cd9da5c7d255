//! Follows the lanes: each strictly by position, without holes, from the bus where it can and from SQL where it must.

use std::{collections::BTreeMap, sync::Arc};

use domain::{LaneId, LoggedBatch, ServiceResult, port::log::Heads};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::Shared;

/// Batches on their way to the actor; behind a full channel the feed waits, and SQL keeps the rest.
const CHANNEL: usize = 1024;
/// Log rows read at once.
const READ_LIMIT: u32 = 256;

pub(super) enum FeedItem {
    /// The next batch of its lane, and its part of the bytes that may be on their way.
    Batch(Arc<LoggedBatch>, OwnedSemaphorePermit),
    /// The log is another one: the database lost a tail or was restored. What was known of it is void.
    Reset(Heads),
}

/// The ordered stream of all lanes, and when it last was known to be complete.
pub(super) struct Feed {
    pub items: mpsc::Receiver<FeedItem>,
    /// The moment at which everything committed until then had been read.
    pub verified_at: watch::Receiver<Instant>,
}

pub(super) fn follow(shared: &Arc<Shared>, heads: Heads, stop: &CancellationToken) -> Feed {
    let (sender, items) = mpsc::channel(CHANNEL);
    let (verified, verified_at) = watch::channel(Instant::now());
    let ahead = vec![BTreeMap::new(); heads.positions.as_slice().len()];
    let bus = shared.chat.live();
    let room = Arc::new(Semaphore::new(shared.limits.feed_bytes_max));
    let follower =
        Follower { shared: shared.clone(), heads, ahead, ahead_bytes: 0, gap: None, sender, room, verified };
    let ended = stop.clone();
    let following = async move {
        tokio::select! {
            () = follower.run(bus) => {}
            () = ended.cancelled() => {}
        }
    };
    shared.tasks.spawn(shared.chat.lifeline().hold_until(stop, "hub's feed", following));
    Feed { items, verified_at }
}

struct Follower {
    shared: Arc<Shared>,
    /// What was passed on.
    heads: Heads,
    /// Of each lane, what came from the bus before its turn.
    ahead: Vec<BTreeMap<i64, Arc<LoggedBatch>>>,
    ahead_bytes: usize,
    /// When a hole in some lane is due to be read.
    gap: Option<Instant>,
    sender: mpsc::Sender<FeedItem>,
    /// A permit a byte that may be on its way.
    room: Arc<Semaphore>,
    verified: watch::Sender<Instant>,
}

impl Follower {
    async fn run(mut self, mut bus: broadcast::Receiver<Arc<LoggedBatch>>) {
        let mut ticks = interval(self.shared.limits.heads_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let gap = self.gap;
            let wanted = tokio::select! {
                biased;
                received = bus.recv() => match received {
                    Ok(batch) => {
                        self.take(batch).await;
                        false
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => true,
                    // The bus went with its process half; the heads still tell.
                    Err(broadcast::error::RecvError::Closed) => {
                        ticks.tick().await;
                        true
                    }
                },
                _ = ticks.tick() => true,
                () = sleep_until(gap.unwrap_or_else(Instant::now)), if gap.is_some() => true,
            };
            if wanted && let Err(error) = self.read().await {
                tracing::warn!(error = %error, "the log cannot be read");
            }
            if self.sender.is_closed() {
                return;
            }
        }
    }

    async fn take(&mut self, batch: Arc<LoggedBatch>) {
        let known = self.heads.positions.get(batch.lane);
        if batch.pos <= known {
            return;
        }
        let (limits, bytes) = (&self.shared.limits, batch.bytes());
        // The one whose turn it is always fits.
        let is_next = batch.pos == known + 1;
        if let Some(ahead) = self.ahead.get_mut(batch.lane.index())
            && (is_next
                || ahead.len() < limits.ahead_batches_max
                    && self.ahead_bytes.saturating_add(bytes) <= limits.ahead_batches_bytes_max)
            && ahead.insert(batch.pos, batch.clone()).is_none()
        {
            self.ahead_bytes += bytes;
        }
        self.pass_on(batch.lane).await;
    }

    /// Passes on what follows without a hole.
    async fn pass_on(&mut self, lane: LaneId) {
        loop {
            let next = self.heads.positions.get(lane) + 1;
            let Some(ahead) = self.ahead.get_mut(lane.index()) else { return };
            let Some(batch) = ahead.remove(&next) else { break };
            self.heads.positions.set(lane, next);
            let bytes = batch.bytes();
            self.ahead_bytes -= bytes;
            // One beyond the bound goes alone.
            let room = u32::try_from(bytes.min(self.shared.limits.feed_bytes_max)).unwrap_or(u32::MAX);
            let Ok(permit) = self.room.clone().acquire_many_owned(room).await else { return };
            let _ = self.sender.send(FeedItem::Batch(batch, permit)).await;
        }
        let hole = self.ahead.iter().any(|ahead| !ahead.is_empty());
        self.gap = hole.then(|| self.gap.unwrap_or_else(|| Instant::now() + self.shared.limits.gap_timeout));
    }

    /// Asks SQL where the lanes stand and reads what is missing.
    async fn read(&mut self) -> ServiceResult<()> {
        let asked_at = Instant::now();
        let heads = self.shared.chat.heads().await?;
        if heads.epoch != self.heads.epoch || !heads.positions.covers(&self.heads.positions) {
            return self.reset(heads).await;
        }
        let ahead: Vec<(LaneId, i64)> = heads.positions.iter().collect();
        for (lane, head) in ahead {
            while self.heads.positions.get(lane) < head {
                let after = self.heads.positions.get(lane);
                let batches = self.shared.chat.read_log(lane, after, READ_LIMIT).await?;
                if batches.is_empty() {
                    // Removed by retention before it was read: only a node that slept for days sees this.
                    return self.reset(heads).await;
                }
                for batch in batches {
                    self.take(Arc::new(batch)).await;
                }
                self.pass_on(lane).await;
                if self.heads.positions.get(lane) == after {
                    // The row after ours is gone.
                    return self.reset(heads).await;
                }
            }
        }
        self.gap = None;
        self.verified.send_replace(asked_at);
        Ok(())
    }

    /// The log went back: another epoch for all, and everybody is told to fetch anew.
    async fn reset(&mut self, heads: Heads) -> ServiceResult<()> {
        tracing::warn!(epoch = heads.epoch, "the log was cut or restored; all subscriptions resynchronise");
        if heads.epoch == self.heads.epoch {
            self.shared.chat.raise_epoch(heads.epoch).await?;
        }
        self.heads = self.shared.chat.heads().await?;
        self.ahead.iter_mut().for_each(BTreeMap::clear);
        self.ahead_bytes = 0;
        self.gap = None;
        let _ = self.sender.send(FeedItem::Reset(self.heads.clone())).await;
        Ok(())
    }
}
