//! B8: the node that holds all sockets is killed; all resume on the other one, while messages go on.

use std::{
    io,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::ConversationId;
use hdrhistogram::Histogram;
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    database::{Bench, SignedIn, random},
    fan_out::{intended, key_of, own_thread},
    fleet::Fleet,
    general_log::GeneralLog,
    measure::{Round, Servers, Stopwatch, histogram, micros},
    report::{Report, Target, median},
    servers::bare,
    sockets::{CONNECTING_AT_ONCE, Socket, Wanted, address_of, find, is_live, upgrade_all},
    write::BODY,
};

const MEMBERS: usize = 10;
/// Messages a second over all conversations.
const RATE: u32 = 200;
/// Before the node is killed, and after all are live again.
const CALM: Duration = Duration::from_secs(1);
const LIVE_WITHIN: Duration = Duration::from_mins(1);
/// Before a client tries again where nobody listened.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// What a chat client shows of a message, from where it left off.
const EVENTS: &str = "subscription($after: EventCursor) { events(after: $after) { __typename cursor \
    ... on ConversationEvent { rev conversation { id title lastSeq } } \
    ... on MessageSent { message { id seq clientMessageId createdAt sender { id username displayName } \
    content { ... on TextContent { text } } } } } }";

const BARE: &str = "connect and upgrade alone, bare listener";
const PRODUCT: &str = "from the kill until live on the other node";

/// What all clients know and write down.
struct Shared {
    /// Of the node that clients connect to.
    port: AtomicU16,
    turns: Semaphore,
    live: AtomicUsize,
    repeats: AtomicUsize,
    faults: Mutex<Vec<String>>,
    lost_at: Mutex<Instant>,
    /// From the kill until live.
    waits: Mutex<Histogram<u64>>,
}

struct Storm {
    fleet: Fleet,
    users: Arc<Vec<SignedIn>>,
    groups: Arc<Vec<ConversationId>>,
    shared: Arc<Shared>,
    /// The newest `seq` of each group that was acknowledged; and that each client has seen.
    acked: Arc<Vec<AtomicI32>>,
    seen: Arc<Vec<AtomicI32>>,
    sender: Handle,
    prefix: String,
    sent: Arc<AtomicUsize>,
    /// They try again and again, until this is dropped.
    _clients: JoinSet<()>,
}

/// What a kill cost.
struct Outcome {
    round: Round,
    /// Servers and database, of the same time of messages alone.
    calm_cpu: Duration,
    node_cpu: Duration,
    conversations: usize,
}

pub async fn b8(bench: &Bench, rounds: usize, sockets: usize) -> Report {
    let mut report = Report::new(
        "b8",
        "All sockets of an API node resume on another under 200 messages/s after SIGKILL, MariaDB and Redis; server CPU is the node's and the database's",
    );
    report.compare_elapsed();
    let mut storm = Storm::begin(bench, sockets).await;
    let (mut calm, mut nodes) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        report.calibration(BARE, connect(sockets).await);
        let outcome = storm.kill(bench, round % 2).await;
        println!("round {round}: {:?}", outcome.round);
        calm.push(micros_of(outcome.calm_cpu) / micros_of(outcome.round.elapsed));
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
        nodes.push(micros_of(outcome.node_cpu) / sockets as f64);
        report.measured(PRODUCT, outcome.round);
    }
    // Once more, with every statement written down, which costs time of its own.
    match GeneralLog::start() {
        Ok(log) => {
            let outcome = storm.kill(bench, rounds % 2).await;
            let counted = log.stop().expect("the log is read");
            report.note(format!(
                "Of one more kill with the server's general log: {} statements read message rows (of {} in all), {:.2} for each of {} conversations that had messages meanwhile (reach 2).",
                counted.of_messages,
                counted.all,
                f64::from(counted.of_messages) / f64::from(u32::try_from(outcome.conversations).unwrap_or(1)),
                outcome.conversations
            ));
        }
        Err(error) => report.note(format!("Statements were not counted: {error}.")),
    }
    report.note(format!(
        "Of the CPU time of a client (reach 200 µs, dream 130) the node's own part is {:.0} µs; the messages alone keep {:.2} cores of node and database busy.",
        median(nodes.into_iter()),
        median(calm.into_iter())
    ));
    let faults = storm.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
    report.note(format!(
        "{} messages: {} faults (lost, reordered, resynchronised){}; {} repeats, which clients drop.",
        storm.sent.load(Ordering::Relaxed),
        faults.len(),
        faults.first().map_or_else(String::new, |first| format!(", the first: {first}")),
        storm.shared.repeats.load(Ordering::Relaxed)
    ));
    report.target(Target { reach: 2.5, dream: Some(1.5), p99_millis: None });
    storm.fleet.stop().await;
    report
}

fn micros_of(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// As many sockets as there are clients, connected and upgraded, to a listener that has none yet.
async fn connect(sockets: usize) -> Round {
    let listener = bare(None, 1);
    let watch = Stopwatch::start(listener.processes());
    let connected = upgrade_all(listener.port, sockets).await.expect("sockets");
    let round = watch.stop(sockets, &histogram());
    drop(connected);
    round
}

impl Storm {
    /// Everybody live on the first node, each in a group of ten.
    async fn begin(bench: &Bench, sockets: usize) -> Self {
        let users = Arc::new(bench.signed_in(i64::try_from(sockets).expect("few")).await);
        let groups = Arc::new(bench.groups_of(MEMBERS, &users).await);
        let fleet = Fleet::start(bench, vec!["api", "api"], Vec::new()).await;
        let shared = Arc::new(Shared {
            port: fleet.ports()[0].into(),
            turns: Semaphore::new(CONNECTING_AT_ONCE),
            live: AtomicUsize::new(0),
            repeats: AtomicUsize::new(0),
            faults: Mutex::default(),
            lost_at: Mutex::new(Instant::now()),
            waits: Mutex::new(histogram()),
        });
        let seqs = |count: usize| Arc::new((0..count).map(|_| AtomicI32::new(0)).collect::<Vec<_>>());
        let (seen, readers) = (seqs(sockets), own_thread());
        let mut clients = JoinSet::new();
        for number in 0..sockets {
            let client = Client {
                number,
                users: users.clone(),
                shared: shared.clone(),
                seen: seen.clone(),
                after: None,
            };
            clients.spawn_on(client.run(), &readers);
        }
        let (acked, prefix) = (seqs(groups.len()), format!("{:08x}", random()));
        let (sender, sent) = (own_thread(), Arc::default());
        let storm =
            Self { fleet, users, groups, shared, acked, seen, sender, prefix, sent, _clients: clients };
        storm.until_live().await;
        storm
    }

    async fn until_live(&self) {
        let live = async {
            while self.shared.live.load(Ordering::Acquire) < self.users.len() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIVE_WITHIN, live).await.unwrap_or_else(|_| {
            panic!("{} of {} are live", self.shared.live.load(Ordering::Acquire), self.users.len())
        });
    }

    /// Kills the node where everybody is; they go to the other, and it is started again.
    async fn kill(&mut self, bench: &Bench, victim: usize) -> Outcome {
        let other = 1 - victim;
        let node = Servers::Processes(self.fleet.cluster.id(other).into_iter().collect());
        let servers = Servers::All(vec![node.clone(), Servers::from(bench.server_process).of_now()]);
        let stop = CancellationToken::new();
        let first = self.sent.load(Ordering::Relaxed);
        let sending = self.sender.spawn(self.messages(other, stop.clone()));
        sleep(CALM).await;
        let alone = Stopwatch::start(servers.clone());
        sleep(CALM).await;
        let alone = alone.stop(1, &histogram());
        let before = self.sent.load(Ordering::Relaxed);
        self.shared.begin_again(self.fleet.ports()[other]);
        let (watch, own) = (Stopwatch::start(servers), Stopwatch::start(node));
        self.fleet.cluster.kill(victim).expect("it ends");
        self.until_live().await;
        let own = own.stop(1, &histogram());
        let round =
            watch.stop(self.users.len(), &self.shared.waits.lock().unwrap_or_else(PoisonError::into_inner));
        let during = before..self.sent.load(Ordering::Relaxed);
        sleep(CALM).await;
        stop.cancel();
        sending.await.expect("it ends well");
        self.check().await;
        self.fleet.cluster.begin(victim).expect("it starts");
        self.fleet.cluster.ready(victim).await.expect("it is ready");
        println!(
            "{} messages, {} of them meanwhile",
            self.sent.load(Ordering::Relaxed) - first,
            during.len()
        );
        Outcome {
            calm_cpu: alone.server_cpu.mul_f64(round.elapsed.as_secs_f64() / alone.elapsed.as_secs_f64()),
            node_cpu: own.server_cpu,
            conversations: self.distinct(during),
            round,
        }
    }

    /// An open loop over all groups, to one node, until it is stopped; returns when all are acknowledged.
    fn messages(&self, node: usize, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        let sender = self.fleet.sender();
        let (users, groups, acked) = (self.users.clone(), self.groups.clone(), self.acked.clone());
        let (prefix, sent, thread) = (self.prefix.clone(), self.sent.clone(), self.sender.clone());
        async move {
            let (begin, mut under_way) = (Instant::now(), JoinSet::new());
            for number in 0.. {
                sleep_until(intended(begin, number, RATE)).await;
                if stop.is_cancelled() {
                    break;
                }
                let message = sent.fetch_add(1, Ordering::Relaxed);
                let key = key_of(&prefix, message);
                let (sender, users, groups, acked) =
                    (sender.clone(), users.clone(), groups.clone(), acked.clone());
                let one = async move {
                    let group = group_of(message, groups.len());
                    let token = &users[group * MEMBERS + message % MEMBERS].token;
                    let seq = sender.send(node, token, groups[group], &key, BODY).await;
                    acked[group].fetch_max(seq, Ordering::Release);
                };
                under_way.spawn_on(one, &thread);
            }
            under_way.join_all().await;
        }
    }

    fn distinct(&self, messages: Range<usize>) -> usize {
        let mut groups: Vec<usize> = messages.map(|message| group_of(message, self.groups.len())).collect();
        groups.sort_unstable();
        groups.dedup();
        groups.len()
    }

    /// Everybody has all that was acknowledged.
    async fn check(&self) {
        let complete = |client: usize| {
            let acked = self.acked[client / MEMBERS].load(Ordering::Acquire);
            self.seen[client].load(Ordering::Acquire) >= acked
        };
        let begun = Instant::now();
        for client in 0..self.users.len() {
            while !complete(client) {
                if begun.elapsed() > LIVE_WITHIN {
                    self.shared.fault(format!("client {client} lost messages"));
                    return;
                }
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// Neighbours in time are strangers to each other.
fn group_of(message: usize, groups: usize) -> usize {
    message * 617 % groups
}

impl Shared {
    fn begin_again(&self, port: u16) {
        self.port.store(port, Ordering::Release);
        self.live.store(0, Ordering::Release);
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).reset();
        *self.lost_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_live(&self) {
        let since = self.lost_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros(since));
        self.live.fetch_add(1, Ordering::AcqRel);
    }

    fn fault(&self, what: String) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

/// Somebody with a socket, who comes back after the last cursor when it breaks.
struct Client {
    number: usize,
    users: Arc<Vec<SignedIn>>,
    shared: Arc<Shared>,
    /// Its own is the newest `seq` that it has seen.
    seen: Arc<Vec<AtomicI32>>,
    after: Option<String>,
}

impl Client {
    async fn run(mut self) {
        loop {
            // Whatever broke, the client comes back: at once, unless nobody listens.
            if let Err(error) = self.live().await
                && error.kind() == io::ErrorKind::ConnectionRefused
            {
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn live(&mut self) -> io::Result<()> {
        let shared = self.shared.clone();
        let turn = shared.turns.acquire().await.map_err(io::Error::other)?;
        let (port, token) = (shared.port.load(Ordering::Acquire), self.users[self.number].token.clone());
        let wanted = Wanted { port, token, query: EVENTS, after: self.after.clone() };
        let mut socket = Socket::subscribe(address_of(self.number), &wanted).await?;
        let mut turn = Some(turn);
        loop {
            let is_live = socket.hear(|text| self.note(text)).await?;
            if is_live && turn.take().is_some() {
                shared.is_live();
            }
        }
    }

    /// Whether it is live now.
    fn note(&mut self, text: &[u8]) -> bool {
        if let Some(cursor) = value_of(text, b"\"cursor\":\"") {
            self.after = Some(cursor.to_owned());
        }
        if let Some(seq) = value_of(text, b"\"seq\":").and_then(|seq| seq.parse().ok()) {
            let seen = self.seen[self.number].load(Ordering::Relaxed);
            match seq {
                seq if seq <= seen => drop(self.shared.repeats.fetch_add(1, Ordering::Relaxed)),
                seq if seq == seen + 1 => self.seen[self.number].store(seq, Ordering::Release),
                seq => self.shared.fault(format!("client {} got {seq} after {seen}", self.number)),
            }
        } else if find(text, b"\"ResyncRequired\"").is_some() || find(text, b"\"error\"").is_some() {
            self.shared.fault(String::from_utf8_lossy(text).into_owned());
        }
        is_live(text)
    }
}

/// Up to the end of a text or number.
fn value_of<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let value = &text[find(text, name)? + name.len()..];
    let value = value.split(|byte| matches!(byte, b'"' | b',' | b'}')).next()?;
    std::str::from_utf8(value).ok()
}
