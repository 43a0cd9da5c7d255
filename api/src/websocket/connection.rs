//! One socket from its first message to its last, as `graphql-transport-ws` has it.
//!
//! Reading and writing go on side by side in one task, so that a reader that does not read keeps nobody waiting but
//! itself, and its own pongs are still seen.

use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use domain::{
    Caller, ErrorCode,
    trace::{self, TraceContext},
};
use futures_util::{SinkExt, StreamExt, stream::SplitStream};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    close::{
        BINARY, Close, DUPLICATE_ID, EXPIRED, FORBIDDEN, INIT_TIMEOUT, RESTARTING, SECOND_INIT, TOO_LARGE,
        TRY_AGAIN, UNAUTHORIZED,
    },
    halves,
    message::{self, Authorization, ClientMessage},
    operation::Opener,
    outbound::Outbound,
    queue::Queue,
    sockets::{Place, Sockets},
    writer::{Sink, Writer},
};
use crate::{
    connection::ConnectionRenewal,
    edge::{Edge, bearer},
    parameters::Parameters,
    server::ConnectionPlace,
};

/// How long the peer may take to answer a close before the connection is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves a socket until it is closed, in a task of its own: the one that opened it would keep room for what that took.
///
/// A task keeps room for all that it ever holds at once, for as long as the socket is open, and thousands are. So what is large and seldom
/// needed is allocated when it is, and what is large and needed once is done before the task begins.
pub(super) fn serve(
    edge: Arc<Edge>,
    sockets: &Sockets,
    socket: WebSocket,
    connection: Arc<ConnectionPlace>,
    address: Option<IpAddr>,
    trace: TraceContext,
) {
    let tasks = edge.tasks.clone();
    let settings = &edge.settings.sockets;
    let queue = Arc::new(Queue::new(settings.queue_messages_max, settings.queue_bytes_max));
    let place = match sockets.admit(address, &queue) {
        Ok(place) => place,
        Err(refused) => {
            tasks.spawn(refuse(socket, refused));
            return;
        }
    };
    let (mut sink, mut stream) = socket.split();
    tasks.spawn(async move {
        let close = {
            let mut writer = Writer::new(&mut sink, &queue, &place, &edge.settings);
            let mut reader = Connection::new(&edge, &queue, &place, address, trace);
            halves::first(pin!(reader.run(&mut stream)), pin!(writer.run())).await
        };
        queue.close_now(close.unwrap_or(TRY_AGAIN));
        drop(queue.end_all());
        connection.say_last_words();
        Box::pin(part(&mut sink, &mut stream, close)).await;
    });
}

/// Closes a socket that is not served at all, with a code the client can read.
pub(super) async fn refuse(socket: WebSocket, close: Close) {
    let (mut sink, mut stream) = socket.split();
    part(&mut sink, &mut stream, Some(close)).await;
}

async fn part(sink: &mut Sink, stream: &mut SplitStream<WebSocket>, close: Option<Close>) {
    if let Some(close) = close
        && timeout(CLOSE_TIMEOUT, sink.send(Message::Close(Some(close.into())))).await.is_err()
    {
        return;
    }
    linger(stream).await;
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
    SignedIn(Caller),
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
    async fn run(&mut self, stream: &mut SplitStream<WebSocket>) -> Option<Close> {
        loop {
            let (deadline, on_deadline) = self.next_wake();
            tokio::select! {
                biased;
                () = self.place.told.changed() => {
                    if self.place.told.is_draining() {
                        return Box::pin(self.drain()).await;
                    }
                    if let Some(caller) = self.place.told.take_renewed() {
                        self.sign_in(caller);
                    }
                }
                () = sleep_until(deadline) => {
                    if let Some(end) = self.overdue(on_deadline) {
                        return end;
                    }
                }
                message = stream.next() => {
                    self.heard_at = Instant::now();
                    match self.receive(message?) {
                        Ok(None) => {}
                        Ok(Some((id, parameters))) => {
                            let opening = self.opener.open(&id, parameters);
                            Box::pin(trace::scope(self.trace, opening)).await;
                        }
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
                let left = caller.expires_at.since(self.edge.clock.now());
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
            (Overdue::Expiry, Phase::SignedIn(caller)) if caller.expires_at <= self.edge.clock.now() => {
                Some(Some(EXPIRED))
            }
            (Overdue::Dead, _) => Some(None),
            _ => None,
        }
    }

    /// Acts on a message; the operation to open, if it asks for one.
    fn receive(
        &mut self,
        message: Result<Message, axum::Error>,
    ) -> Result<Option<(Box<str>, Parameters)>, Option<Close>> {
        match message {
            Ok(Message::Text(text)) if text.len() > self.edge.settings.sockets.message_bytes_max => {
                Err(Some(TOO_LARGE))
            }
            Ok(Message::Text(text)) => {
                let message = ClientMessage::read(&text, self.edge.documents.limits()).map_err(Some)?;
                self.act(message).map_err(Some)
            }
            Ok(Message::Binary(_)) => Err(Some(BINARY)),
            // The WebSocket implementation answers pings by itself, when it reads on.
            Ok(Message::Ping(_) | Message::Pong(_)) => Ok(None),
            Ok(Message::Close(_)) => Err(None),
            Err(error) => Err(message::close_for(&error)),
        }
    }

    fn act(&mut self, message: ClientMessage) -> Result<Option<(Box<str>, Parameters)>, Close> {
        match (message, &self.phase) {
            (ClientMessage::ConnectionInit { authorization }, Phase::Opened) => self.init(&authorization)?,
            (ClientMessage::ConnectionInit { .. }, _) => return Err(SECOND_INIT),
            (ClientMessage::Ping { payload }, _) => self.queue.control(message::pong(payload.as_deref())),
            (ClientMessage::Pong, _) => {}
            (ClientMessage::Subscribe { .. }, Phase::Opened) => return Err(UNAUTHORIZED),
            (ClientMessage::Subscribe { id, .. }, _) if self.queue.is_open(&id) => return Err(DUPLICATE_ID),
            (ClientMessage::Subscribe { id, parameters }, _) => return Ok(Some((id, parameters))),
            (ClientMessage::Complete { id }, _) => drop(self.queue.end(&id)),
        }
        Ok(None)
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
                self.opener.renewed_by(ConnectionRenewal(Arc::clone(&self.place.told)));
                self.sign_in(caller);
            }
        }
        tracing::debug!(trace_id = %self.trace.id, anonymous = token.is_none(), "a socket is initialised");
        self.queue.control(message::ACK);
        Ok(())
    }

    fn sign_in(&mut self, caller: Caller) {
        self.phase = Phase::SignedIn(caller);
        self.opener.sign_in(caller);
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
