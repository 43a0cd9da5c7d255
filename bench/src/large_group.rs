//! B4: one group of ten thousand, thousands of them online on two nodes; one message at a time.

#![expect(clippy::disallowed_methods, reason = "a benchmark waits for its tasks by itself")]

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bench::redis;
use domain::ConversationId;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use crate::{
    database::{Bench, SignedIn, random},
    fan_out::{Bare, Board, key_of, own_thread},
    fleet::{Fleet, from_environment},
    measure::{Round, Stopwatch, histogram, micros},
    report::{Report, Target},
    sockets::subscribe_all,
    write::BODY,
};

const MEMBERS: usize = 10_000;
const SMALL: usize = 10;
const EVENTS: usize = 20;
/// An event of B4 as it is framed.
const EVENT_BYTES: usize = 700;
/// Between one message and the next, for the group of 10 as well: who writes to it right after the last answer finds everything awake and
/// warm, which says nothing of the size of a group.
const PAUSE: Duration = Duration::from_millis(50);
const RECEIVED_WITHIN: Duration = Duration::from_secs(30);
/// How long nothing is sent, to see what Redis does by itself: its own timer, heartbeats, presence.
const QUIET: Duration = Duration::from_secs(2);

struct Load {
    bench: Arc<Bench>,
    fleet: Arc<Fleet>,
    users: Vec<SignedIn>,
    online: u32,
    board: Arc<Board>,
    prefix: String,
    /// Where messages are sent from.
    sender: Handle,
}

/// What the back ends did in a span.
struct Effort {
    rows: u64,
    redis_micros: u64,
    span: Duration,
}

pub async fn b4(bench: &Arc<Bench>, rounds: usize, online: usize) -> Report {
    let mut report = Report::new(
        "b4",
        "A group of 10,000 on 2 API nodes, one message at a time to the last recipient, MariaDB",
    );
    report.compare_latency();
    let users = bench.signed_in(i64::try_from(MEMBERS).expect("few")).await;
    let large = bench.large_group(&users).await;
    // In the same run, of users who are offline: the sender's side alone.
    let small = bench.groups_of(SMALL, &users[MEMBERS - SMALL..]).await[0];
    let fleet = Fleet::start(bench, vec!["api", "api"], Vec::new()).await;
    let board = Arc::new(Board::new(EVENTS * rounds * 2));
    let tokens: Vec<&str> = users.iter().take(online).map(|user| user.token.as_str()).collect();
    for socket in subscribe_all(&fleet.ports(), &tokens).await.expect("live sockets") {
        let board = board.clone();
        tokio::spawn(async move { board.listen(socket).await });
    }
    let raw = Arc::new(Board::new(EVENTS * rounds));
    let mut bare = Bare::open(&raw, online, EVENT_BYTES).await.expect("bare sockets");
    let recipients = u32::try_from(online).expect("few");
    let prefix = format!("{:08x}", random());
    let sender = own_thread();
    let load = Load {
        bench: bench.clone(),
        fleet: Arc::new(fleet),
        users,
        online: recipients,
        board,
        prefix,
        sender,
    };
    let (mut large_effort, mut small_effort) = (Vec::new(), Vec::new());
    let (mut large_acks, mut small_acks) = (Vec::new(), Vec::new());
    let mut quiet = Vec::new();
    for round in 0..rounds {
        let first = round * EVENTS;
        report
            .calibration("bare loopback sends, to the last", calibrate(&raw, &mut bare, first, online).await);
        quiet.push(load.quiet().await);
        let (last, ack, effort) = load.run(large, first, load.online).await;
        println!("round {round}: {last:?}");
        report.measured("sendMessage, to the last recipient", last);
        large_acks.push(ack.p50);
        report.also("ack, group of 10,000", ack);
        large_effort.push(effort);
        let (_, ack, effort) = load.run(small, (rounds + round) * EVENTS, 0).await;
        small_acks.push(ack.p50);
        report.also("ack, group of 10", ack);
        small_effort.push(effort);
    }
    report.note(format!(
        "{online} of {MEMBERS} online; each got each message once after dropping repeats, {} repeats.",
        load.board.repeats.load(Ordering::Relaxed)
    ));
    report.note_ratio(
        "Ack in the group of 10,000 against the group of 10",
        "ack, group of 10,000",
        "ack, group of 10",
    );
    report.note(format!(
        "Acks by rounds, p50: group of 10,000 {large_acks:.1?}; group of 10 {small_acks:.1?}."
    ));
    for (name, efforts) in [("10,000", &large_effort), ("10", &small_effort)] {
        let rows: Vec<String> = efforts.iter().map(|effort| per_event(effort.rows)).collect();
        let redis: Vec<String> = efforts.iter().map(|effort| per_event(effort.redis_micros)).collect();
        let own = efforts.iter().zip(&quiet).map(|(effort, quiet)| {
            // What it takes in as long a time without any message.
            let beside = Duration::from_micros(quiet.redis_micros)
                .mul_f64(effort.span.as_secs_f64() / quiet.span.as_secs_f64());
            per_event(effort.redis_micros.saturating_sub(micros(beside)))
        });
        report.note(format!(
            "Group of {name}: SQL rows written a message {}; Redis CPU µs a message {} (reach 300), and {} without what Redis takes in that time anyway.",
            rows.join(", "),
            redis.join(", "),
            own.collect::<Vec<_>>().join(", ")
        ));
    }
    report.target(Target { reach: 2.0, dream: Some(1.4), p99_millis: None });
    report
}

fn per_event(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
    let ratio = count as f64 / EVENTS as f64;
    format!("{ratio:.1}")
}

async fn calibrate(board: &Arc<Board>, bare: &mut Bare, first: usize, online: usize) -> Round {
    let watch = Stopwatch::start(None);
    let mut last = histogram();
    for number in first..first + EVENTS {
        board.send(number, Instant::now());
        bare.send(number, 0..online).await.expect("sends");
        let recipients = u32::try_from(online).expect("few");
        assert!(board.until_received(number..number + 1, recipients, RECEIVED_WITHIN).await, "all receive");
        last.saturating_record(board.last_after(number));
    }
    watch.stop(EVENTS, &last)
}

impl Load {
    /// To the last recipient, and to the ack.
    async fn run(
        &self,
        conversation: ConversationId,
        first: usize,
        recipients: u32,
    ) -> (Round, Round, Effort) {
        let (before, begun) = (self.effort().await, Instant::now());
        let watch = Stopwatch::start(self.fleet.processes());
        let acks = Stopwatch::start(Some("mariadbd"));
        let (mut last, mut acked) = (histogram(), histogram());
        // A member of both groups: the last user, who has made the small one among them.
        let sender = &self.users[self.users.len() - SMALL];
        for number in first..first + EVENTS {
            sleep(PAUSE).await;
            self.board.send(number, Instant::now());
            let key = key_of(&self.prefix, number);
            let (fleet, board, token) = (self.fleet.clone(), self.board.clone(), sender.token.clone());
            let sending = self.sender.spawn(async move {
                fleet.send(number, &token, conversation, &key, BODY).await;
                board.ack(number);
            });
            sending.await.expect("sent");
            let all = self.board.until_received(number..number + 1, recipients, RECEIVED_WITHIN).await;
            assert!(all, "{} of {recipients} received {number}", self.board.receipts(number));
            acked.saturating_record(self.board.acked_after(number));
            last.saturating_record(self.board.last_after(number));
        }
        let rounds = (watch.stop(EVENTS, &last), acks.stop(EVENTS, &acked));
        // Late repeats, and what is written a little later.
        sleep(Duration::from_millis(500)).await;
        let effort = before.until(&self.effort().await, begun.elapsed());
        let exact = (first..first + EVENTS).all(|number| self.board.receipts(number) == recipients);
        assert!(exact, "each member, and nobody else, gets each message once");
        (rounds.0, rounds.1, effort)
    }

    /// While nothing is sent.
    async fn quiet(&self) -> Effort {
        let (before, begun) = (self.effort().await, Instant::now());
        sleep(QUIET).await;
        before.until(&self.effort().await, begun.elapsed())
    }

    /// Since the servers started.
    async fn effort(&self) -> Effort {
        // MariaDB has no longer the counters of InnoDB's rows.
        let sql =
            "SHOW GLOBAL STATUS WHERE Variable_name IN ('Handler_write', 'Handler_update', 'Handler_delete')";
        let found = self.bench.raw.query_all_raw(Statement::from_string(DbBackend::MySql, sql)).await;
        let found = found.expect("the server counts");
        let count = |row: &sea_orm::QueryResult| row.try_get_by_index::<String>(1).ok()?.parse::<u64>().ok();
        assert_eq!(found.len(), 3, "the server has these counters");
        let rows = found.iter().filter_map(count).sum();
        let redis_micros = cpu_of_redis().await.expect("Redis counts");
        Effort { rows, redis_micros, span: Duration::ZERO }
    }
}

impl Effort {
    fn until(&self, later: &Self, span: Duration) -> Self {
        Self { rows: later.rows - self.rows, redis_micros: later.redis_micros - self.redis_micros, span }
    }
}

/// Microseconds of CPU that Redis has taken since it started.
async fn cpu_of_redis() -> io::Result<u64> {
    let mut connection = redis::connect(&from_environment("CONFAB_TEST_REDIS_URL")).await?;
    let text = connection.info("cpu").await?;
    let seconds = text.lines().filter_map(|line| {
        let (name, value) = line.trim().split_once(':')?;
        if matches!(name, "used_cpu_sys" | "used_cpu_user") { value.parse::<f64>().ok() } else { None }
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and far from the end"
    )]
    let micros = (seconds.sum::<f64>() * 1e6) as u64;
    Ok(micros)
}
