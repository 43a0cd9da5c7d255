//! One socket from its first message to its last, as `graphql-transport-ws` has it.
//!
//! Reading and writing go on side by side in one task, so that a reader that does not read keeps nobody waiting but
//! itself, and its own pongs are still seen.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use domain::{Caller, ErrorCode, trace::TraceContext};
use futures_util::{
    FutureExt, SinkExt, StreamExt,
    stream::{FuturesUnordered, SplitStream},
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    close::{
        BINARY, Close, DUPLICATE_ID, EXPIRED, FORBIDDEN, INIT_TIMEOUT, RESTARTING, SECOND_INIT, TOO_LARGE,
        TRY_AGAIN, UNAUTHORIZED,
    },
    message::{self, Authorization, ClientMessage},
    operation::Opener,
    outbound::Outbound,
    queue::Queue,
    sockets::{Place, Sockets},
    writer::Writer,
};
use crate::{
    edge::{Edge, bearer},
    server::ConnectionPlace,
};

/// How long the peer may take to answer a close before the connection is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves a socket until it is closed. Its two halves are allocated apart, so that what wraps this future may move it about.
pub(super) async fn serve(
    edge: Arc<Edge>,
    sockets: Sockets,
    socket: WebSocket,
    connection: &ConnectionPlace,
    address: Option<IpAddr>,
    trace: TraceContext,
) {
    let settings = &edge.settings.sockets;
    let queue = Arc::new(Queue::new(settings.queue_messages_max, settings.queue_bytes_max));
    let place = match sockets.admit(address, &queue) {
        Ok(place) => place,
        Err(refused) => return refuse(socket, refused).await,
    };
    let (mut sink, mut stream) = socket.split();
    let close = {
        let writer = Writer {
            sink: &mut sink,
            queue: &queue,
            write_timeout: settings.write_timeout,
            payload_timeout: edge.settings.operation_timeout,
            made_until: None,
            ping_interval: settings.ping_interval,
        };
        let reader = Connection::new(&edge, &queue, &place, address, trace);
        // Not a `select!`: of the two only the one that was woken is polled, and an event wakes only the writer.
        let mut halves = FuturesUnordered::from_iter([reader.run(&mut stream).boxed(), writer.run().boxed()]);
        halves.next().await.flatten()
    };
    queue.close_now(close.unwrap_or(TRY_AGAIN));
    drop(queue.end_all());
    connection.say_last_words();
    if let Some(close) = close
        && timeout(CLOSE_TIMEOUT, sink.send(Message::Close(Some(close.into())))).await.is_err()
    {
        return;
    }
    linger(&mut stream).await;
}

/// Closes a socket that is not served at all, with a code the client can read.
pub(super) async fn refuse(socket: WebSocket, close: Close) {
    let (mut sink, mut stream) = socket.split();
    if timeout(CLOSE_TIMEOUT, sink.send(Message::Close(Some(close.into())))).await.is_ok() {
        linger(&mut stream).await;
    }
}

/// Reads on until the peer has closed its side: what is unread would make the network drop our close frame. A close of
/// the peer's own is answered by reading on, too.
async fn linger(stream: &mut SplitStream<WebSocket>) {
    let end = Instant::now() + CLOSE_TIMEOUT;
    while let Ok(Some(message)) = tokio::time::timeout_at(end, stream.next()).await {
        if message.is_err() {
            // It cannot be read to its end; give the frame time to arrive.
            sleep_until(end).await;
        }
    }
}

struct Connection<'a> {
    edge: &'a Arc<Edge>,
    queue: &'a Arc<Queue>,
    place: &'a Place,
    trace: TraceContext,
    phase: Phase,
    opener: Opener,
    opened_at: Instant,
    heard_at: Instant,
}

enum Phase {
    /// No `connection_init` yet.
    Opened,
    Anonymous,
    SignedIn(watch::Receiver<Caller>),
}

impl<'a> Connection<'a> {
    fn new(
        edge: &'a Arc<Edge>,
        queue: &'a Arc<Queue>,
        place: &'a Place,
        address: Option<IpAddr>,
        trace: TraceContext,
    ) -> Self {
        let outbound = Outbound { queue: Arc::clone(queue) };
        let permits = Arc::new(Semaphore::new(edge.settings.sockets.operations_max));
        let opener = Opener::new(Arc::clone(edge), outbound, permits, address);
        let now = Instant::now();
        Self { edge, queue, place, trace, phase: Phase::Opened, opener, opened_at: now, heard_at: now }
    }

    /// Reads until there is a reason to close; `None` when the peer has closed or is gone.
    async fn run(mut self, stream: &mut SplitStream<WebSocket>) -> Option<Close> {
        let drain: CancellationToken = self.place.drain.clone();
        loop {
            let (deadline, on_deadline) = self.next_wake();
            tokio::select! {
                biased;
                () = drain.cancelled() => return self.drain().await,
                () = sleep_until(deadline) => {
                    if let Some(end) = self.overdue(on_deadline) {
                        return end;
                    }
                }
                renewed = renewed(&mut self.phase) => self.opener.sign_in(renewed),
                message = stream.next() => {
                    self.heard_at = Instant::now();
                    match self.receive(message?).await {
                        Ok(()) => {}
                        Err(end) => return end,
                    }
                }
            }
        }
    }

    /// The next moment at which the passing of time alone may close the socket.
    fn next_wake(&self) -> (Instant, Overdue) {
        let settings = &self.edge.settings.sockets;
        let dead = (self.heard_at + settings.ping_interval * 2 + settings.write_timeout, Overdue::Dead);
        let other = match &self.phase {
            Phase::Opened => (self.opened_at + settings.init_timeout, Overdue::Init),
            Phase::Anonymous => dead,
            Phase::SignedIn(caller) => {
                let left = caller.borrow().expires_at.since(self.edge.clock.now());
                // The clock that counts may be another than the timer's: look again before long.
                (Instant::now() + left.min(Duration::from_mins(1)), Overdue::Expiry)
            }
        };
        if other.0 < dead.0 { other } else { dead }
    }

    /// What follows from a deadline that has passed.
    #[expect(clippy::option_option, reason = "nothing, an end without a close frame, an end with one")]
    fn overdue(&self, overdue: Overdue) -> Option<Option<Close>> {
        match (overdue, &self.phase) {
            (Overdue::Init, Phase::Opened) => Some(Some(INIT_TIMEOUT)),
            (Overdue::Expiry, Phase::SignedIn(caller))
                if caller.borrow().expires_at <= self.edge.clock.now() =>
            {
                Some(Some(EXPIRED))
            }
            (Overdue::Dead, _) => Some(None),
            _ => None,
        }
    }

    async fn receive(&mut self, message: Result<Message, axum::Error>) -> Result<(), Option<Close>> {
        match message {
            Ok(Message::Text(text)) if text.len() > self.edge.settings.sockets.message_bytes_max => {
                Err(Some(TOO_LARGE))
            }
            Ok(Message::Text(text)) => {
                let message = ClientMessage::read(&text, self.edge.documents.limits()).map_err(Some)?;
                self.act(message).await.map_err(Some)
            }
            Ok(Message::Binary(_)) => Err(Some(BINARY)),
            // The WebSocket implementation answers pings by itself, when it reads on.
            Ok(Message::Ping(_) | Message::Pong(_)) => Ok(()),
            Ok(Message::Close(_)) => Err(None),
            Err(error) => Err(message::close_for(&error)),
        }
    }

    async fn act(&mut self, message: ClientMessage) -> Result<(), Close> {
        match (message, &self.phase) {
            (ClientMessage::ConnectionInit { authorization }, Phase::Opened) => self.init(&authorization),
            (ClientMessage::ConnectionInit { .. }, _) => Err(SECOND_INIT),
            (ClientMessage::Ping { payload }, _) => {
                self.queue.control(message::pong(payload.as_deref()));
                Ok(())
            }
            (ClientMessage::Pong, _) => Ok(()),
            (ClientMessage::Subscribe { .. }, Phase::Opened) => Err(UNAUTHORIZED),
            (ClientMessage::Subscribe { id, .. }, _) if self.queue.is_open(&id) => Err(DUPLICATE_ID),
            (ClientMessage::Subscribe { id, parameters }, _) => {
                // On the heap while it opens, or every idle socket would keep room for it.
                Box::pin(self.opener.open(&id, parameters)).await;
                Ok(())
            }
            (ClientMessage::Complete { id }, _) => {
                drop(self.queue.end(&id));
                Ok(())
            }
        }
    }

    fn init(&mut self, authorization: &Authorization) -> Result<(), Close> {
        let token = match authorization {
            Authorization::None => None,
            Authorization::Text(text) => Some(bearer(text).ok_or(FORBIDDEN)?),
            Authorization::Invalid => return Err(FORBIDDEN),
        };
        match token {
            None => self.phase = Phase::Anonymous,
            Some(token) => {
                let caller = self.authenticate(token)?;
                self.place.identify(caller)?;
                // A revocation between the two would have found no socket to close.
                let caller = self.authenticate(token)?;
                self.phase = Phase::SignedIn(self.opener.start(caller));
            }
        }
        tracing::debug!(trace_id = %self.trace.id, anonymous = token.is_none(), "a socket is initialised");
        self.queue.control(message::ACK);
        Ok(())
    }

    fn authenticate(&self, token: &str) -> Result<Caller, Close> {
        self.edge.authenticate(token).map_err(|refusal| match refusal.code {
            ErrorCode::Unauthenticated => FORBIDDEN,
            _ => TRY_AGAIN,
        })
    }

    /// Lets what runs be answered, then says that the service restarts.
    async fn drain(&mut self) -> Option<Close> {
        drop(self.queue.end_subscriptions());
        tokio::select! {
            () = self.opener.idle() => {}
            () = sleep(self.edge.settings.operation_timeout) => {}
        }
        self.queue.close_when_empty(RESTARTING);
        // The writer closes once all is written.
        std::future::pending().await
    }
}

/// Which deadline comes first.
#[derive(Clone, Copy)]
enum Overdue {
    Init,
    Expiry,
    /// Two pings without a sign of life.
    Dead,
}

/// Whom the socket speaks for from now on; never returns unless `renewConnection` was called.
async fn renewed(phase: &mut Phase) -> Caller {
    if let Phase::SignedIn(caller) = phase
        && caller.changed().await.is_ok()
    {
        return *caller.borrow_and_update();
    }
    std::future::pending().await
}
