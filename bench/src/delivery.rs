//! One conversation with everybody in it on a socket, and an open loop of messages: what B1, B2 and B9 measure, and two others that send
//! the same bytes to as many sockets.
//!
//! Servers have one core and the clients the other, so that CPU time is comparable. Sockets are read by one thread, and who sends has another.

use std::{io, ops::Range, sync::Arc, time::Duration};

use domain::ConversationId;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    runtime::Handle,
    select,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    database::{Bench, SignedIn},
    fan_out::{Board, intended, own_thread},
    fleet::Fleet,
    measure::{Round, Servers, Stopwatch},
    peer,
    send::{Body, SENT, graphql_body},
    servers::{ServerProcess, bare, stay_on},
    sockets::{Socket, Wanted, find, live_all, upgrade_all},
    tally,
};

pub const SUBSCRIBERS: usize = 500;
pub const AWAY: &str = "the same sends to 500 who are away, a message";
pub const SERVER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";
/// What a chat client shows of a message, in 19 fields.
pub const EVENTS: &str = "subscription { events { __typename cursor ... on ConversationEvent { rev conversation { id title lastSeq } } \
    ... on MessageSent { message { id seq clientMessageId createdAt sender { id username displayName } \
    content { ... on TextContent { text } } } } } }";
/// Messages that one side may be sent in a run.
const MESSAGES_MAX: usize = 200_000;
/// Sends under way on the author's socket, below what a socket may have open.
const IN_FLIGHT: usize = 96;
/// How long the last receipts may take.
const RECEIVED_WITHIN: Duration = Duration::from_secs(15);

/// Users, their conversation and the API node.
pub struct Room {
    pub fleet: Fleet,
    pub users: Vec<SignedIn>,
    conversation: ConversationId,
    /// A message as the first user gets it.
    pub text: String,
    threads: Threads,
}

/// Where sockets are read, and where messages are sent from.
#[derive(Clone)]
struct Threads {
    readers: Handle,
    author: Handle,
}

/// A server with sockets, and what makes it send to all of them.
pub struct Side {
    source: Option<Source>,
    readings: Readings,
    /// Of the message to come.
    next: usize,
    servers: Servers,
    threads: Threads,
    _process: Option<ServerProcess>,
}

/// Sockets that are read, each by a task, until this is dropped.
struct Readings {
    board: Arc<Board>,
    tasks: JoinSet<io::Error>,
}

enum Source {
    Author(Author),
    Lines(Lines),
}

impl Room {
    pub async fn open(bench: &Bench) -> Self {
        let users = bench.signed_in(i64::try_from(SUBSCRIBERS).expect("few")).await;
        let conversation = bench.large_group(&users).await;
        // What is started may run where its parent may.
        stay_on(SERVER_CORE);
        let fleet = Fleet::start(bench, vec!["api"], Vec::new()).await;
        stay_on(CLIENT_CORE);
        let threads = Threads { readers: own_thread(), author: own_thread() };
        let port = fleet.ports()[0];
        let wanted = Wanted { port, token: users[0].token.clone(), query: EVENTS, after: None };
        let mut witness = live_all(vec![wanted]).await.expect("a live socket").remove(0);
        let mut author = Author::open(port, &users[0].token, conversation).await.expect("a socket");
        author.send(&Board::new(1), 0..1, 1).await.expect("sent");
        let text =
            witness.hear(|text| String::from_utf8_lossy(text).into_owned()).await.expect("the message");
        Self { fleet, users, conversation, text, threads }
    }

    /// Everybody on a socket of the node, but for so many of the first users.
    pub async fn product(&self, without: usize) -> Side {
        let tokens = self.users.iter().skip(without).map(|user| user.token.clone()).collect();
        let readings = self.threads.subscribed(self.fleet.ports()[0], tokens).await;
        let author = self.author(&self.users[0], self.conversation).await;
        self.threads.side(Source::Author(author), readings, self.fleet.processes(), None)
    }

    /// The same sends to a conversation whose members are away.
    pub async fn away(&self, bench: &Bench) -> Side {
        let users = bench.signed_in(i64::try_from(SUBSCRIBERS).expect("few")).await;
        let conversation = bench.large_group(&users).await;
        let author = self.author(&users[0], conversation).await;
        self.threads.side(Source::Author(author), Readings::new(), self.fleet.processes(), None)
    }

    async fn author(&self, user: &SignedIn, conversation: ConversationId) -> Author {
        let (port, token) = (self.fleet.ports()[0], user.token.clone());
        let opened = async move { Author::open(port, &token, conversation).await };
        self.threads.author.spawn(opened).await.expect("it ends well").expect("a socket")
    }

    /// The same bytes by the shortest way, so many frames a send.
    pub async fn bare(&self, frames_a_send: usize) -> Side {
        let process = bare(Some(SERVER_CORE), frames_a_send);
        let (port, threads) = (process.port, self.threads.clone());
        let reading = async move {
            let sockets = upgrade_all(port, SUBSCRIBERS).await.expect("sockets");
            threads.read(sockets)
        };
        let readings = self.threads.readers.spawn(reading).await.expect("it ends well");
        self.lines(process, self.text.clone(), readings).await
    }

    /// graphql-ws on Node, which is told the same event.
    pub async fn node(&self) -> Side {
        let process = peer::live(Some(SERVER_CORE));
        let tokens = self.users.iter().map(|user| user.token.clone()).collect();
        let readings = self.threads.subscribed(process.port, tokens).await;
        self.lines(process, self.event(), readings).await
    }

    async fn lines(&self, process: ServerProcess, line: String, readings: Readings) -> Side {
        let port = process.port;
        let opened = self.threads.author.spawn(async move { Lines::open(port, &line).await });
        let lines = opened.await.expect("it ends well").expect("a connection");
        let servers = process.processes();
        self.threads.side(Source::Lines(lines), readings, servers, Some(process))
    }

    /// What the message is as data of its subscription.
    fn event(&self) -> String {
        let text: Value = serde_json::from_str(&self.text).expect("JSON");
        text["payload"]["data"].to_string()
    }

    /// How many bytes the peer makes of the message.
    pub async fn bytes_of_peer(&self) -> usize {
        let process = peer::live(Some(SERVER_CORE));
        let wanted = Wanted { port: process.port, token: String::new(), query: EVENTS, after: None };
        let mut witness = live_all(vec![wanted]).await.expect("a live socket").remove(0);
        let mut lines = Lines::open(process.port, &self.event()).await.expect("a connection");
        lines.send(&Board::new(1), 0..1, Some(1), 1).await.expect("sent");
        witness.hear(<[u8]>::len).await.expect("the message")
    }
}

impl Threads {
    /// Sockets that are live and counted.
    async fn subscribed(&self, port: u16, tokens: Vec<String>) -> Readings {
        let threads = self.clone();
        let reading = async move {
            let wanted = tokens.into_iter().map(|token| Wanted { port, token, query: EVENTS, after: None });
            threads.read(live_all(wanted.collect()).await.expect("live sockets"))
        };
        self.readers.spawn(reading).await.expect("it ends well")
    }

    fn read(&self, sockets: Vec<Socket>) -> Readings {
        let mut readings = Readings::new();
        for socket in sockets {
            readings.tasks.spawn_on(tally::count(readings.board.clone(), socket, 0), &self.readers);
        }
        readings
    }

    fn side(
        &self,
        source: Source,
        readings: Readings,
        servers: Servers,
        process: Option<ServerProcess>,
    ) -> Side {
        let (source, threads) = (Some(source), self.clone());
        Side { source, readings, next: 0, servers, threads, _process: process }
    }
}

impl Readings {
    fn new() -> Self {
        Self { board: Arc::new(Board::new(MESSAGES_MAX)), tasks: JoinSet::new() }
    }
}

impl Side {
    /// An open loop of so many messages, some of them at once; an operation is a delivery, or a message that goes to nobody. `None` when
    /// deliveries are missing long after the end; sockets may be closed then.
    pub async fn run(&mut self, messages: usize, rate: Option<u32>, at_once: usize) -> Option<Round> {
        let numbers = self.next..self.next + messages;
        self.next = numbers.end;
        let mut source = self.source.take().expect("it was put back");
        let Readings { board, tasks } = &self.readings;
        let each = u32::try_from(tasks.len()).expect("few");
        let (sent, times) = (numbers.clone(), board.clone());
        board.take();
        let watch = Stopwatch::start(self.servers.clone());
        let sending = self.threads.author.spawn(async move {
            match &mut source {
                Source::Author(author) => author.send(&times, sent, rate.unwrap_or(u32::MAX)).await,
                Source::Lines(lines) => lines.send(&times, sent, rate, at_once).await,
            }
            .map(|()| source)
        });
        self.source = Some(sending.await.expect("it ends well").expect("all are sent"));
        let all = board.until_received(numbers.clone(), each, RECEIVED_WITHIN).await;
        let round = watch.stop(messages * tasks.len().max(1), &board.take().since_sent);
        let exact = numbers.into_iter().all(|number| board.receipts(number) <= each);
        assert!(exact, "nobody gets a message twice");
        all.then_some(round)
    }
}

/// Sends over one socket, whose messages are committed in their order.
struct Author {
    socket: Socket,
    body: Body,
    operations: usize,
}

impl Author {
    async fn open(port: u16, token: &str, conversation: ConversationId) -> io::Result<Self> {
        let payload = json!({ "authorization": format!("Bearer {token}") });
        let socket = Socket::open(port, &payload).await?;
        Ok(Self { socket, body: graphql_body(&conversation.to_string()), operations: 0 })
    }

    /// Returns when all are acknowledged.
    async fn send(&mut self, board: &Board, numbers: Range<usize>, rate: u32) -> io::Result<()> {
        let begin = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        while answered < numbers.len() {
            let at = intended(begin, sent, rate);
            select! {
                heard = self.socket.hear(is_complete) => answered += usize::from(heard??),
                () = sleep_until(at), if sent < numbers.len() && sent - answered < IN_FLIGHT => {
                    board.send(numbers.start + sent, at);
                    let operation = self.operation();
                    self.socket.text(&operation).await?;
                    sent += 1;
                }
            }
        }
        Ok(())
    }

    fn operation(&mut self) -> String {
        self.operations += 1;
        let mut text = format!(r#"{{"id":"{}","type":"subscribe","payload":"#, self.operations);
        (self.body)(&mut text);
        text.push('}');
        text
    }
}

/// Whether this ends an operation, or is the answer that comes before; anything else is an error.
fn is_complete(text: &[u8]) -> io::Result<bool> {
    if find(text, SENT.as_bytes()).is_some() {
        Ok(false)
    } else if find(text, b"\"complete\"").is_some() {
        Ok(true)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(text).into_owned()))
    }
}

/// A request that stays open; each line of its body is sent to all sockets.
struct Lines {
    stream: TcpStream,
    line: String,
}

impl Lines {
    async fn open(port: u16, line: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let head = "POST /events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        Ok(Self { stream, line: format!("{line}\n") })
    }

    /// Without a rate as fast as it goes.
    async fn send(
        &mut self,
        board: &Board,
        numbers: Range<usize>,
        rate: Option<u32>,
        at_once: usize,
    ) -> io::Result<()> {
        let begin = Instant::now();
        let lines = self.line.repeat(at_once);
        for first in numbers.clone().step_by(at_once) {
            let at = match rate {
                Some(rate) => intended(begin, first - numbers.start, rate),
                None => Instant::now(),
            };
            sleep_until(at).await;
            (first..first + at_once).for_each(|number| board.send(number, at));
            self.stream.write_all(lines.as_bytes()).await?;
        }
        Ok(())
    }
}
