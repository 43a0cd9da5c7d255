//! From a socket's queue to the network: everything that is ready, then one flush.

use std::{convert::Infallible, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use domain::measure;
use futures_util::{FutureExt, SinkExt, future::BoxFuture, stream::SplitSink};
use tokio::time::{Instant, Interval, interval_at, timeout, timeout_at};

use super::{
    close::{Close, SLOW_READER, TRY_AGAIN},
    queue::{Front, Queue},
    sockets::Place,
};
use crate::settings::Settings;

pub(super) type Sink = SplitSink<WebSocket, Message>;

pub(super) struct Writer<'a> {
    sink: &'a mut Sink,
    queue: &'a Queue,
    write_timeout: Duration,
    /// How long a payload that is still being made may keep its place.
    payload_timeout: Duration,
    /// Of the one at the front, once it was waited for.
    made_until: Option<Instant>,
    ping: Interval,
}

impl<'a> Writer<'a> {
    pub(super) fn new(sink: &'a mut Sink, queue: &'a Queue, place: &Place, settings: &Settings) -> Self {
        let (write_timeout, every) = (settings.sockets.write_timeout, settings.sockets.ping_interval);
        let ping = interval_at(place.first_ping(every), every);
        Self {
            sink,
            queue,
            write_timeout,
            payload_timeout: settings.operation_timeout,
            made_until: None,
            ping,
        }
    }

    /// Writes until there is a reason to close; `None` when the peer is gone.
    pub(super) async fn run(&mut self) -> Option<Close> {
        let Err(close) = self.write().await;
        close
    }

    async fn write(&mut self) -> Result<Infallible, Option<Close>> {
        let queue = self.queue;
        loop {
            let front = self.write_what_is_there().await?;
            match front {
                Front::Closing(close) => return Err(Some(close)),
                Front::Lost => return Err(Some(TRY_AGAIN)),
                Front::Pending => {
                    // Whoever makes it says so, when it is this socket's turn: with what is made until then it goes in one flush.
                    // Allocated while it waits, as in `bounded`.
                    let made = timeout_at(self.made_until(), queue.changed.notified()).boxed().await;
                    made.map_err(|_| Some(TRY_AGAIN))?;
                }
                Front::Failed(alone) => match bounded(queue, self.payload_timeout, alone).await?.flatten() {
                    Some(made) => queue.settle(made),
                    None => return Err(Some(TRY_AGAIN)),
                },
                Front::Unsure(known) => {
                    tokio::select! {
                        () = known => {}
                        () = queue.changed.notified() => {}
                    }
                }
                Front::More | Front::Empty => {
                    tokio::select! {
                        () = queue.changed.notified() => {}
                        _ = self.ping.tick() => {
                            queue.give_back();
                            let mut ping = self.sink.send(Message::Ping(Bytes::new()));
                            written(queue, self.write_timeout, &mut ping).await?;
                        }
                    }
                }
            }
        }
    }

    fn made_until(&mut self) -> Instant {
        *self.made_until.get_or_insert_with(|| Instant::now() + self.payload_timeout)
    }

    /// Writes up to the first that is not ready yet, and flushes: what is written must not wait for what comes later.
    async fn write_what_is_there(&mut self) -> Result<Front, Option<Close>> {
        let mut fed = false;
        loop {
            let mut messages = Vec::new();
            let front = self.queue.take(&mut messages);
            if !messages.is_empty() {
                fed = true;
                self.made_until = None;
            }
            for text in messages {
                let mut write = self.sink.feed(Message::Text(text));
                written(self.queue, self.write_timeout, &mut write).await?;
            }
            if matches!(front, Front::More) {
                continue;
            }
            if fed {
                written(self.queue, self.write_timeout, &mut self.sink.flush()).await?;
            }
            return Ok(front);
        }
    }
}

async fn written<W>(queue: &Queue, limit: Duration, write: &mut W) -> Result<(), Option<Close>>
where
    W: Future<Output = Result<(), axum::Error>> + Send + Unpin,
{
    // Most writes end at once, and then no clock is read.
    let written = match (&mut *write).now_or_never() {
        Some(written) => Some(written),
        None => bounded(queue, limit, write).await?,
    };
    match written {
        Some(written) => written.map_err(|_| None),
        None => {
            measure::count(measure::SLOW_READERS, &[], 1);
            Err(Some(SLOW_READER))
        }
    }
}

/// What comes of it; `None` when that takes too long, `Err` when the socket is cut off meanwhile: a writer that is stuck half way
/// must not keep it open. Allocated while it waits: a writer that has nothing to write would keep room for it.
fn bounded<'a, T>(
    queue: &'a Queue,
    limit: Duration,
    work: impl Future<Output = T> + Send + 'a,
) -> BoxFuture<'a, Result<Option<T>, Option<Close>>> {
    let bounded = async move {
        tokio::select! {
            biased;
            () = queue.cut() => Err(queue.closing()),
            done = timeout(limit, work) => Ok(done.ok()),
        }
    };
    bounded.boxed()
}
