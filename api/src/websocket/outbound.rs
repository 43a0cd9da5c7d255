//! What waits to be written to one socket: bounded in count and bytes, written in the order in which places were taken.
//!
//! A place can be taken before its payload is known, so that the hub's order holds while events are still executed. The
//! writer takes whatever is ready and flushes once.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use bytes::Bytes;
use futures_util::future::{BoxFuture, Shared};
use serde_json::json;
use tokio::sync::Notify;

/// A result that will be there soon: the serialised execution result of one event.
pub type PendingResult = Shared<BoxFuture<'static, Bytes>>;

/// The body of a `next` message, shared between sockets.
#[derive(Clone)]
pub enum Payload {
    Ready(Bytes),
    Pending(PendingResult),
}

/// Bytes that a payload counts as while it is not known yet.
const PENDING_BYTES: usize = 512;

/// Close code when a client reads too slowly.
pub const SLOW_READER: (u16, &str) = (4290, "slow reader");

/// One operation of a socket.
pub struct Operation {
    /// `{"id":"…","type":"next","payload":`
    next_prefix: String,
    id: String,
    ended: AtomicBool,
}

impl Operation {
    pub fn new(id: String) -> Arc<Self> {
        let quoted = serde_json::Value::from(id.as_str());
        Arc::new(Self { next_prefix: format!(r#"{{"id":{quoted},"type":"next","payload":"#), id, ended: AtomicBool::new(false) })
    }

    /// From now on nothing of it is written, also not what waits already.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The socket is closed or closing.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

/// The way to one socket. Cheap to clone.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    messages_max: usize,
    bytes_max: usize,
    /// Something to write, or to close.
    filled: Notify,
    /// Room in the queue.
    drained: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Entry>,
    bytes: usize,
    close: Option<Close>,
}

#[derive(Clone)]
struct Close {
    code: u16,
    reason: Utf8Bytes,
    /// Write nothing more, also not what waits.
    at_once: bool,
}

enum Entry {
    Next { operation: Arc<Operation>, payload: Payload },
    /// The operation's last word.
    Last { operation: Arc<Operation>, message: Message },
    Control(Message),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Next { payload: Payload::Ready(bytes), .. } => bytes.len(),
            Self::Next { .. } => PENDING_BYTES,
            Self::Last { message, .. } | Self::Control(message) => match message {
                Message::Text(text) => text.len(),
                _ => 0,
            },
        }
    }
}

/// What the writer does next.
pub(super) enum Due {
    Write(Vec<Message>),
    Wait(PendingResult),
    Idle,
    Close(Option<CloseFrame>),
}

impl Outbound {
    pub fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            messages_max,
            bytes_max,
            filled: Notify::new(),
            drained: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next place for an event. Never waits: a queue without room closes the socket, whose reader is too slow.
    pub fn next(&self, operation: &Arc<Operation>, payload: Payload) -> Result<(), Closed> {
        self.push(Entry::Next { operation: operation.clone(), payload })
    }

    /// As [`Outbound::next`], but waits for room: for what the reader itself paces, such as a replay.
    pub async fn next_paced(&self, operation: &Arc<Operation>, payload: Bytes) -> Result<(), Closed> {
        loop {
            let drained = self.0.drained.notified();
            {
                let state = self.state();
                if state.close.is_some() {
                    return Err(Closed);
                }
                // Half of the queue stays free for what cannot wait.
                if state.queue.len() < self.0.messages_max / 2 && state.bytes < self.0.bytes_max / 2 {
                    drop(state);
                    return self.next(operation, Payload::Ready(payload));
                }
            }
            drained.await;
        }
    }

    /// Ends an operation with an `error` message.
    pub fn error(&self, operation: &Arc<Operation>, errors: &serde_json::Value) {
        let message = json!({ "id": operation.id, "type": "error", "payload": errors });
        let _ = self.push(Entry::Last { operation: operation.clone(), message: text(&message) });
    }

    /// Ends an operation with `complete`.
    pub fn complete(&self, operation: &Arc<Operation>) {
        let message = json!({ "id": operation.id, "type": "complete" });
        let _ = self.push(Entry::Last { operation: operation.clone(), message: text(&message) });
    }

    /// A message of the protocol or the WebSocket itself.
    pub fn control(&self, message: Message) {
        let _ = self.push(Entry::Control(message));
    }

    /// Closes the socket once what waits is written. The first reason given stays.
    pub fn close(&self, code: u16, reason: &str) {
        self.close_with(code, reason, false);
    }

    fn close_with(&self, code: u16, reason: &str, at_once: bool) {
        let mut state = self.state();
        if state.close.is_none() || at_once {
            let reason = state.close.take().map_or_else(|| reason.into(), |close| close.reason);
            state.close = Some(Close { code, reason, at_once });
        }
        drop(state);
        self.0.filled.notify_one();
        self.0.drained.notify_waiters();
    }

    pub fn is_closing(&self) -> bool {
        self.state().close.is_some()
    }

    fn push(&self, entry: Entry) -> Result<(), Closed> {
        let mut state = self.state();
        if state.close.is_some() {
            return Err(Closed);
        }
        let bytes = entry.bytes();
        let full = state.queue.len() >= self.0.messages_max || state.bytes + bytes > self.0.bytes_max;
        // One large message alone is let through, or it could never be sent.
        if full && !state.queue.is_empty() {
            drop(state);
            let (code, reason) = SLOW_READER;
            self.close_with(code, reason, true);
            return Err(Closed);
        }
        state.bytes += bytes;
        state.queue.push_back(entry);
        drop(state);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Waits until there may be something to do.
    pub(super) async fn filled(&self) {
        self.0.filled.notified().await;
    }

    /// Whether the socket is to be closed without writing what waits.
    pub(super) fn must_close_at_once(&self) -> bool {
        self.state().close.as_ref().is_some_and(|close| close.at_once)
    }

    /// Takes what can be written now.
    pub(super) fn due(&self) -> Due {
        let mut state = self.state();
        if let Some(close) = &state.close
            && (close.at_once || state.queue.is_empty())
        {
            return Due::Close(Some(CloseFrame { code: close.code, reason: close.reason.clone() }));
        }
        let mut messages = Vec::new();
        let mut waiting = None;
        while let Some(entry) = state.queue.front() {
            if let Entry::Next { operation, payload: Payload::Pending(pending) } = entry
                && !operation.has_ended()
                && pending.peek().is_none()
            {
                waiting = Some(pending.clone());
                break;
            }
            let Some(entry) = state.queue.pop_front() else { break };
            state.bytes = state.bytes.saturating_sub(entry.bytes());
            messages.extend(entry.into_message());
        }
        drop(state);
        if !messages.is_empty() {
            self.0.drained.notify_waiters();
            return Due::Write(messages);
        }
        waiting.map_or(Due::Idle, Due::Wait)
    }
}

impl Entry {
    /// The message to write; none for an operation that has ended.
    fn into_message(self) -> Option<Message> {
        match self {
            Self::Next { operation, .. } if operation.has_ended() => None,
            Self::Next { operation, payload } => {
                let result = match payload {
                    Payload::Ready(bytes) => bytes,
                    Payload::Pending(pending) => pending.peek().cloned()?,
                };
                let mut frame = Vec::with_capacity(operation.next_prefix.len() + result.len() + 1);
                frame.extend_from_slice(operation.next_prefix.as_bytes());
                frame.extend_from_slice(&result);
                frame.push(b'}');
                // Both parts come from a JSON serialiser, so this is UTF-8.
                Utf8Bytes::try_from(Bytes::from(frame)).ok().map(Message::Text)
            }
            Self::Last { operation, .. } if operation.has_ended() => None,
            Self::Last { operation, message } => {
                operation.end();
                Some(message)
            }
            Self::Control(message) => Some(message),
        }
    }
}

pub(super) fn text(message: &serde_json::Value) -> Message {
    Message::Text(message.to_string().into())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn written(outbound: &Outbound) -> Vec<String> {
        match outbound.due() {
            Due::Write(messages) => {
                messages.into_iter().filter_map(|message| message.into_text().ok()).map(|text| text.to_string()).collect()
            }
            _ => Vec::new(),
        }
    }

    #[tokio::test]
    async fn places_are_kept_while_a_payload_is_pending() {
        let outbound = Outbound::new(10, 10_000);
        let operation = Operation::new("a\"b".to_owned());
        let (send, receive) = tokio::sync::oneshot::channel::<Bytes>();
        let pending = async move { receive.await.unwrap_or_default() }.boxed().shared();
        assert_eq!(outbound.next(&operation, Payload::Pending(pending.clone())), Ok(()));
        assert_eq!(outbound.next(&operation, Payload::Ready(Bytes::from_static(b"2"))), Ok(()));
        assert!(matches!(outbound.due(), Due::Wait(_)));
        assert!(send.send(Bytes::from_static(b"1")).is_ok());
        pending.await;
        let prefix = r#"{"id":"a\"b","type":"next","payload":"#;
        assert_eq!(written(&outbound), vec![format!("{prefix}1}}"), format!("{prefix}2}}")]);
    }

    #[test]
    fn a_full_queue_closes_the_slow_reader() {
        let outbound = Outbound::new(2, 10_000);
        let operation = Operation::new("a".to_owned());
        let payload = Payload::Ready(Bytes::from_static(b"{}"));
        assert_eq!(outbound.next(&operation, payload.clone()), Ok(()));
        assert_eq!(outbound.next(&operation, payload.clone()), Ok(()));
        assert_eq!(outbound.next(&operation, payload), Err(Closed));
        assert!(matches!(outbound.due(), Due::Close(Some(frame)) if frame.code == 4290));
    }

    #[test]
    fn nothing_of_an_ended_operation_is_written() {
        let outbound = Outbound::new(10, 10_000);
        let operation = Operation::new("a".to_owned());
        assert_eq!(outbound.next(&operation, Payload::Ready(Bytes::from_static(b"{}"))), Ok(()));
        operation.end();
        outbound.complete(&operation);
        assert!(matches!(outbound.due(), Due::Idle));
    }
}
