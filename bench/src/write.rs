//! B5, B5h, B5s: the write engine in process, without HTTP.

#![expect(clippy::disallowed_methods, reason = "a benchmark waits for its tasks by itself")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use domain::{
    Caller, Chat, ClientKey, ConversationId, Mentions, MessageText, service::send_message::SendMessage,
};
use tokio::time::Instant;

use crate::{
    database::{Bench, random},
    measure::{Round, Stopwatch, micros},
    raw,
    report::{Report, Target},
};

/// 200 bytes, as a chat message with some history has.
pub const BODY: &str = "Shall we meet at the station at half past seven, or is that too early for you? I could also take the \
    later train and be there by nine, which would give us time for breakfast before the others come in.";

pub struct Plan {
    pub rounds: usize,
    pub messages: usize,
    pub in_flight: usize,
}

const CONVERSATIONS: usize = 1000;
const MEMBERS: usize = 4;
/// What the hot conversation dreams of.
const ONE_LANE: &str = "raw one-lane batch, 1 × 256";

pub async fn b5(bench: &Bench, plan: &Plan) -> Report {
    let load = Load::new(bench, CONVERSATIONS).await;
    raw::create_table(bench).await;
    let mut report = Report::new(
        "b5",
        "Write engine, 256 in flight, 1,000 conversations (Zipf), MariaDB, flush on commit",
    );
    for _ in 0..plan.rounds {
        report.calibration(
            "raw multi-row insert, 4 × 200",
            raw::batched(bench, &load, plan.messages, 4, 200).await,
        );
        report.measured("send_message", load.run(bench, plan).await);
    }
    report.target(Target { reach: 0.5, dream: Some(0.7), p99_millis: Some((20.0, 10.0)) });
    report
}

pub async fn b5h(bench: &Bench, plan: &Plan) -> Report {
    let load = Load::new(bench, 1).await;
    raw::create_table(bench).await;
    let mut report = Report::new("b5h", "One hot conversation, 256 in flight, MariaDB, flush on commit");
    for _ in 0..plan.rounds {
        let single = raw::one_by_one(bench, &load, plan.messages / 10, 64).await;
        report.calibration("one transaction a message, 64 at once", single);
        report.also(ONE_LANE, raw::batched(bench, &load, plan.messages, 1, 256).await);
        report.measured("send_message", load.run(bench, plan).await);
    }
    report.target(Target { reach: 15.0, dream: None, p99_millis: None });
    report.dream_against(ONE_LANE, 0.7);
    report
}

pub async fn b5s(bench: &Bench, plan: &Plan) -> Report {
    let load = Load::new(bench, CONVERSATIONS).await;
    raw::create_table(bench).await;
    let mut report =
        Report::new("b5s", "Write engine on the embedded default, 256 in flight, WAL, synchronous=FULL");
    for _ in 0..plan.rounds {
        report.calibration("raw batched SQLite, 1 × 200", raw_sqlite(bench, &load, plan.messages).await);
        report.measured("send_message", load.run(bench, plan).await);
    }
    report.target(Target { reach: 0.6, dream: Some(0.8), p99_millis: None });
    report
}

async fn raw_sqlite(bench: &Bench, load: &Arc<Load>, rows: usize) -> Round {
    use sea_orm::ConnectionTrait as _;
    for pragma in ["synchronous = FULL", "wal_autocheckpoint = 8192"] {
        bench.raw.execute_unprepared(&format!("PRAGMA {pragma}")).await.expect("as the engine has it");
    }
    raw::batched(bench, load, rows, 1, 200).await
}

/// Conversations, and who sends where: the same for the engine and for the raw rows.
pub struct Load {
    pub conversations: Vec<(ConversationId, Vec<Caller>)>,
    /// Cumulative weights of a Zipf distribution with exponent 1.
    weights: Vec<f64>,
}

/// One message to send.
pub struct Draft {
    pub conversation: ConversationId,
    pub sender: Caller,
    pub key: String,
}

impl Load {
    pub async fn new(bench: &Bench, count: usize) -> Arc<Self> {
        let users = bench.users(200).await;
        let mut conversations = Vec::with_capacity(count);
        for index in 0..count {
            let members: Vec<Caller> =
                (0..MEMBERS).map(|member| users[(index + member * 31) % users.len()]).collect();
            conversations.push((bench.group(&members).await, members));
        }
        let mut sum = 0.0;
        #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
        let weights = (1..=count).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        let weights = weights.collect();
        Arc::new(Self { conversations, weights })
    }

    pub fn draft(&self, number: usize, prefix: &str) -> Draft {
        // A multiplicative hash instead of a random generator: every run sends to the same conversations.
        let mixed = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
        let point = (mixed >> 11) as f64 / (1_u64 << 53) as f64 * self.weights.last().copied().unwrap_or(1.0);
        let rank = self.weights.partition_point(|weight| *weight < point).min(self.conversations.len() - 1);
        let (conversation, members) = &self.conversations[rank];
        Draft {
            conversation: *conversation,
            sender: members[number % members.len()],
            key: format!("{prefix}{mixed:016x}"),
        }
    }

    async fn run(self: &Arc<Self>, bench: &Bench, plan: &Plan) -> Round {
        let prefix = format!("{:08x}", random());
        let next = Arc::new(AtomicUsize::new(0));
        let watch = Stopwatch::start(bench.server_process);
        let work = (0..plan.in_flight).map(|_| {
            let sender = Sender {
                chat: bench.chat.clone(),
                load: self.clone(),
                next: next.clone(),
                messages: plan.messages,
                prefix: prefix.clone(),
            };
            tokio::spawn(sender.run())
        });
        let done = futures_util::future::join_all(work.collect::<Vec<_>>()).await;
        let latencies = done.into_iter().flat_map(|latencies| latencies.expect("a sender ends well"));
        watch.stop_with(plan.messages, latencies)
    }
}

struct Sender {
    chat: Chat,
    load: Arc<Load>,
    next: Arc<AtomicUsize>,
    messages: usize,
    prefix: String,
}

impl Sender {
    async fn run(self) -> Vec<u64> {
        let mut latencies = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.messages {
                return latencies;
            }
            let draft = self.load.draft(number, &self.prefix);
            let command = SendMessage {
                conversation: draft.conversation,
                client_key: ClientKey::new(&[], draft.key).expect("a key"),
                text: MessageText::new(&[], BODY.to_owned()).expect("a text"),
                mentions: Mentions::default(),
            };
            let started = Instant::now();
            self.chat.send_message(&draft.sender, command).await.expect("a committed message");
            latencies.push(micros(started.elapsed()));
        }
    }
}
