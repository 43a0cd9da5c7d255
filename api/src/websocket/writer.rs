//! From a socket's queue to the network: everything that is ready, then one flush.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use domain::measure;
use futures_util::{SinkExt, stream::SplitSink};
use tokio::time::timeout;

use super::{
    close::{Close, SLOW_READER, TRY_AGAIN},
    queue::{Front, Queue},
};

pub(super) type Sink = SplitSink<WebSocket, Message>;

pub(super) struct Writer<'a> {
    pub sink: &'a mut Sink,
    pub queue: &'a Queue,
    pub write_timeout: Duration,
    /// How long a payload that is still being made may keep its place.
    pub payload_timeout: Duration,
    pub ping_interval: Duration,
}

impl Writer<'_> {
    /// Writes until there is a reason to close; `None` when the peer is gone.
    pub(super) async fn run(mut self) -> Option<Close> {
        let queue = self.queue;
        tokio::select! {
            biased;
            // A writer that is stuck half way must not keep the socket open.
            () = queue.cut.cancelled() => queue.closing(),
            close = self.write() => close,
        }
    }

    async fn write(&mut self) -> Option<Close> {
        let mut ping = tokio::time::interval(self.ping_interval);
        ping.reset();
        let mut fed = false;
        loop {
            match self.queue.front() {
                Front::Message(text) => {
                    if let Err(close) = self.feed(Message::Text(text)).await {
                        return close;
                    }
                    fed = true;
                    continue;
                }
                Front::Closing(close) => return Some(close),
                Front::Lost => return Some(TRY_AGAIN),
                // What is fed must not wait for what comes later.
                Front::Pending(_) | Front::Failed(_) | Front::Unsure(_) | Front::Empty if fed => {
                    if let Err(close) = self.flush().await {
                        return close;
                    }
                    fed = false;
                    continue;
                }
                Front::Pending(payload) => match timeout(self.payload_timeout, payload).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(_)) | Err(_) => return Some(TRY_AGAIN),
                },
                Front::Failed(alone) => match timeout(self.payload_timeout, alone).await {
                    Ok(Some(made)) => {
                        self.queue.settle(made);
                        continue;
                    }
                    Ok(None) | Err(_) => return Some(TRY_AGAIN),
                },
                Front::Unsure(known) => {
                    tokio::select! {
                        () = known => {}
                        () = self.queue.changed.notified() => {}
                    }
                    continue;
                }
                Front::Empty => {}
            }
            tokio::select! {
                () = self.queue.changed.notified() => {}
                _ = ping.tick() => {
                    if let Err(close) = self.feed(Message::Ping(Bytes::new())).await {
                        return close;
                    }
                    fed = true;
                }
            }
        }
    }

    async fn feed(&mut self, message: Message) -> Result<(), Option<Close>> {
        deadline(self.write_timeout, self.sink.feed(message)).await
    }

    async fn flush(&mut self) -> Result<(), Option<Close>> {
        deadline(self.write_timeout, self.sink.flush()).await
    }
}

async fn deadline(
    limit: Duration,
    write: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), Option<Close>> {
    match timeout(limit, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(None),
        Err(_) => {
            measure::count(measure::SLOW_READERS, &[], 1);
            Err(Some(SLOW_READER))
        }
    }
}
