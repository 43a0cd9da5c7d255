//! B3: many small groups on two API nodes, through the commit, Redis and a socket each.

#![expect(clippy::disallowed_methods, reason = "a benchmark waits for its tasks by itself")]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bench::redis;
use domain::ConversationId;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    database::{Bench, SignedIn, random},
    fan_out::{Bare, Board, intended, key_of},
    fleet::{Fleet, from_environment},
    measure::{Round, Stopwatch},
    report::{Report, Target},
    sockets::subscribe_all,
    write::BODY,
};

const MEMBERS: usize = 10;
const MESSAGES: usize = 5000;
/// Calls under way at the most; an intended time waits for its turn, and the wait counts.
const IN_FLIGHT: usize = 128;
/// An event of B3 as it is framed.
const EVENT_BYTES: usize = 700;
/// How long the last receipts may take.
const RECEIVED_WITHIN: Duration = Duration::from_secs(20);

struct Load {
    fleet: Fleet,
    users: Vec<SignedIn>,
    groups: Vec<ConversationId>,
    board: Arc<Board>,
    prefix: String,
    /// Messages a second.
    rate: u32,
}

pub async fn b3(bench: &Bench, rounds: usize, sockets: usize, rate: u32) -> Report {
    let mut report = Report::new(
        "b3",
        "Groups of 10 on 2 API nodes through Redis, an open loop of messages over HTTP, MariaDB",
    );
    report.compare_latency();
    let users = bench.signed_in(i64::try_from(sockets).expect("few")).await;
    let groups = bench.groups_of(MEMBERS, &users).await;
    let fleet = Fleet::start(bench, vec!["api", "api"], Vec::new()).await;
    let board = Arc::new(Board::new(MESSAGES * rounds));
    let tokens: Vec<&str> = users.iter().map(|user| user.token.as_str()).collect();
    for socket in subscribe_all(&fleet.ports(), &tokens).await.expect("live sockets") {
        let board = board.clone();
        tokio::spawn(async move { board.listen(socket).await });
    }
    let prefix = format!("{:08x}", random());
    let load = Arc::new(Load { fleet, users, groups, board, prefix, rate });
    let raw = Arc::new(Board::new(MESSAGES * rounds));
    let mut bare = Bare::open(&raw, MEMBERS * 100, EVENT_BYTES).await.expect("bare sockets");
    let (mut commands, mut since_acked) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let calibrated = calibrate(&raw, &mut bare, round, rate).await.expect("bare sockets");
        report.calibration("bare loopback sends to 10, same rate", calibrated);
        let before = commands_of_redis().await.expect("Redis counts");
        let (measured, acked) = load.run(round).await;
        let after = commands_of_redis().await.expect("Redis counts");
        report.measured("sendMessage to each receipt", measured.clone());
        report.also("from the ack to each receipt", acked.clone());
        since_acked.push((acked.p50, acked.p99));
        // Asking is a command too.
        commands.push(after.saturating_sub(before + 1));
        println!("round {round}: {measured:?}");
    }
    let per_message: Vec<String> = commands.iter().map(|count| per(*count, MESSAGES)).collect();
    report.note(format!(
        "{sockets} sockets, {} groups, {rate} messages/s. Commit → receipt lies between the two lines: the commit is after the intended send and before the ack.",
        load.groups.len()
    ));
    report.note(format!(
        "Redis commands a message, heartbeats and presence included: {} (reach nodes + 1 = 3).",
        per_message.join(", ")
    ));
    let repeats = load.board.repeats.load(Ordering::Relaxed);
    report.note(format!("{repeats} repeats among {} deliveries.", MESSAGES * rounds * MEMBERS));
    report.target(Target { reach: 0.0, dream: None, p99_millis: Some((50.0, 20.0)) });
    report
}

fn per(count: u64, messages: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
    let ratio = count as f64 / messages as f64;
    format!("{ratio:.2}")
}

/// Commands that Redis has done since it started.
async fn commands_of_redis() -> io::Result<u64> {
    let mut connection = redis::connect(&from_environment("CONFAB_TEST_REDIS_URL")).await?;
    let text = connection.info("commandstats").await?;
    let calls =
        text.lines().filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok());
    Ok(calls.sum())
}

async fn calibrate(board: &Arc<Board>, bare: &mut Bare, round: usize, rate: u32) -> io::Result<Round> {
    board.take();
    let watch = Stopwatch::start(None);
    let begin = Instant::now();
    for number in round * MESSAGES..(round + 1) * MESSAGES {
        let intended = intended(begin, number % MESSAGES, rate);
        sleep_until(intended).await;
        board.send(number, intended);
        let first = number % 100 * MEMBERS;
        bare.send(number, first..first + MEMBERS).await?;
    }
    let each = u32::try_from(MEMBERS).unwrap_or(0);
    let all = board.until_received(round * MESSAGES..(round + 1) * MESSAGES, each, RECEIVED_WITHIN).await;
    assert!(all, "bare sockets lose nothing");
    Ok(watch.stop(MESSAGES * MEMBERS, &board.take().since_sent))
}

impl Load {
    /// An open loop: each message has its time, whatever became of the ones before.
    async fn run(self: &Arc<Self>, round: usize) -> (Round, Round) {
        sleep(Duration::from_secs(1)).await;
        self.board.take();
        let next = Arc::new(AtomicUsize::new(0));
        let watch = Stopwatch::start(self.fleet.processes());
        let other = Stopwatch::start(Some("mariadbd"));
        let begin = Instant::now();
        let senders = (0..IN_FLIGHT).map(|_| {
            let (load, next) = (self.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= MESSAGES {
                        return;
                    }
                    let intended = intended(begin, number, load.rate);
                    sleep_until(intended).await;
                    load.send(round * MESSAGES + number, intended).await;
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.expect("a sender ends well");
        }
        let numbers = round * MESSAGES..(round + 1) * MESSAGES;
        let each = u32::try_from(MEMBERS).unwrap_or(0);
        let all = self.board.until_received(numbers.clone(), each, RECEIVED_WITHIN).await;
        assert!(all, "every member receives every message");
        assert!(numbers.into_iter().all(|number| self.board.receipts(number) == each), "and nobody else");
        let receipts = self.board.take();
        let operations = MESSAGES * MEMBERS;
        (watch.stop(operations, &receipts.since_sent), other.stop(operations, &receipts.since_acked))
    }

    async fn send(&self, number: usize, intended: Instant) {
        self.board.send(number, intended);
        // Neighbours in time are strangers to each other.
        let group = number * 617 % self.groups.len();
        let sender = &self.users[group * MEMBERS + number % MEMBERS];
        let key = key_of(&self.prefix, number);
        self.fleet.send(number, &sender.token, self.groups[group], &key, BODY).await;
        self.board.ack(number);
    }
}
