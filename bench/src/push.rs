//! B10: from the outbox over Kafka and a worker to a push provider, which is here: a sink that speaks as FCM does.

#![expect(clippy::disallowed_methods, reason = "a benchmark waits for its tasks by itself")]

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State, routing::post, serve::ListenerExt as _};
use bench::cluster::service;
use domain::{
    ClientKey, ConversationId, Mentions, MessageText, PushAddress, service::send_message::SendMessage,
};
use futures_util::{StreamExt as _, stream};
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use rsa::{RsaPrivateKey, pkcs8::EncodePrivateKey as _, pkcs8::LineEnding};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    database::{Bench, SignedIn},
    fleet::{Fleet, from_environment},
    measure::{Round, Stopwatch, histogram, micros},
    report::{Report, Target},
    write::BODY,
};

const CONVERSATIONS: usize = 500;
/// Messages that wait for the worker in a round of throughput.
const BACKLOG: usize = 60_000;
/// Messages that wait for a worker in place of one that was killed.
const LEFT_BEHIND: usize = 500;
const PACED: u32 = 400;
const PACE: Duration = Duration::from_millis(20);
const IN_FLIGHT: usize = 64;
/// A task's record is about this long, envelope included.
const RECORD_BYTES: usize = 150;
const PUSHED_WITHIN: Duration = Duration::from_mins(2);

/// When each message was pushed first, and how often: by its number.
type Pushed = HashMap<u32, (Instant, u32)>;

/// By the prefix that the text of a message begins with, before its number.
#[derive(Default)]
struct Sink(Mutex<HashMap<String, Pushed>>);

struct Load {
    bench: Arc<Bench>,
    sink: Arc<Sink>,
    people: Vec<SignedIn>,
    conversations: Vec<ConversationId>,
    account: PathBuf,
    address: String,
    _folder: TempDir,
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pushed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages with a prefix.
    fn pushed(&self, prefix: &str) -> Pushed {
        self.lock().get(prefix).cloned().unwrap_or_default()
    }

    fn count(&self, prefix: &str) -> usize {
        self.lock().get(prefix).map_or(0, HashMap::len)
    }

    /// When the first and the last of them were pushed.
    fn span(&self, prefix: &str) -> Option<(Instant, Instant)> {
        let pushed = self.pushed(prefix);
        let times = || pushed.values().map(|(at, _)| *at);
        times().min().zip(times().max())
    }

    async fn until(&self, prefix: &str, count: usize) -> usize {
        let begun = Instant::now();
        while self.count(prefix) < count && begun.elapsed() < PUSHED_WITHIN {
            sleep(Duration::from_millis(20)).await;
        }
        self.count(prefix)
    }
}

/// Looks for no more than it needs: what it costs is not what is measured.
async fn take(State(sink): State<Arc<Sink>>, body: String) -> &'static str {
    let now = Instant::now();
    // `sender: prefix-number and so on`.
    let (_, text) = body.split_once(r#""body":""#).expect("a text");
    let (prefix, number) = text.split(' ').nth(1).and_then(|name| name.split_once('-')).expect("a name");
    let number = number.parse().expect("a number");
    let mut all = sink.lock();
    let pushed = match all.get_mut(prefix) {
        Some(pushed) => pushed,
        None => all.entry(prefix.to_owned()).or_default(),
    };
    pushed.entry(number).or_insert((now, 0)).1 += 1;
    r#"{"name":"projects/bench/messages/1"}"#
}

async fn token() -> String {
    json!({ "access_token": "sink", "expires_in": 3600 }).to_string()
}

impl Load {
    async fn new(bench: &Arc<Bench>) -> Self {
        let sink = Arc::new(Sink::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let router = Router::new()
            .route("/token", post(token))
            .route("/v1/projects/bench/messages:send", post(take))
            .with_state(sink.clone());
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().expect("a folder");
        let account = folder.path().join("account.json");
        let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).expect("a key");
        let file = json!({
            "project_id": "bench",
            "client_email": "bench@example.invalid",
            "private_key": key.to_pkcs8_pem(LineEnding::LF).expect("PEM").as_str(),
            "token_uri": format!("{address}/token"),
        });
        std::fs::write(&account, file.to_string()).expect("writes");
        // In each conversation the first writes, and the second has a device and is away.
        let people = bench.signed_in(i64::try_from(CONVERSATIONS * 2).expect("few")).await;
        let conversations = bench.groups_of(2, &people).await;
        for (number, pair) in people.chunks(2).enumerate() {
            let address = PushAddress::Fcm(format!("device-{number}"));
            bench.chat.register_device(&pair[1].caller, address).await.expect("a device");
        }
        Self { bench: bench.clone(), sink, people, conversations, account, address, _folder: folder }
    }

    async fn fleet(&self, roles: Vec<&'static str>) -> Fleet {
        self.named(roles, "").await
    }

    async fn named(&self, roles: Vec<&'static str>, worker: &str) -> Fleet {
        let environment = vec![
            ("CONFAB_PUSH_FCM_ACCOUNT", self.account.display().to_string()),
            ("CONFAB_PUSH_FCM_URL", self.address.clone()),
            ("CONFAB_WORKER_NAME", worker.to_owned()),
        ];
        Fleet::start(&self.bench, roles, environment).await
    }

    /// Messages that no worker has seen yet.
    async fn commit(&self, prefix: &str, count: usize) {
        let sends = (0..count).map(|number| {
            let (conversation, sender) =
                (self.conversations[number % CONVERSATIONS], &self.people[number % CONVERSATIONS * 2]);
            let name = format!("{prefix}-{number}");
            let client_key = ClientKey::new(&[], name.clone()).expect("a key");
            let text = MessageText::new(&[], format!("{name} {BODY}")).expect("a text");
            let command = SendMessage { conversation, client_key, text, mentions: Mentions::default() };
            async move { self.bench.chat.send_message(&sender.caller, command).await.expect("sent") }
        });
        stream::iter(sends).buffer_unordered(IN_FLIGHT).for_each(async |_| {}).await;
    }

    /// From the start of a worker to the last push of what waited for it.
    async fn drain(&self, round: usize) -> (Round, f64) {
        let prefix = format!("drain{round}");
        self.commit(&prefix, BACKLOG).await;
        let fleet = self.fleet(vec!["worker"]).await;
        let watch = Stopwatch::start(fleet.processes());
        let begun = Instant::now();
        let pushed = self.sink.until(&prefix, BACKLOG).await;
        assert_eq!(pushed, BACKLOG, "every message is pushed");
        // From the first push on: taking lanes and partitions is no part of the rate.
        let (first, last) = self.sink.span(&prefix).expect("pushed");
        let mut round = watch.stop(BACKLOG, &histogram());
        round.elapsed = last - first;
        fleet.stop().await;
        (round, (first - begun).as_secs_f64())
    }

    /// From the start of a worker in place of one that was killed to the last push of what waited, in seconds.
    async fn take_over(&self, worker: &str) -> f64 {
        let (before, after) = (format!("before{worker}"), format!("after{worker}"));
        let fleet = self.named(vec!["worker"], worker).await;
        self.commit(&before, LEFT_BEHIND).await;
        assert_eq!(self.sink.until(&before, LEFT_BEHIND).await, LEFT_BEHIND);
        // Killed.
        drop(fleet);
        self.commit(&after, LEFT_BEHIND).await;
        let fleet = self.named(vec!["worker"], worker).await;
        let begun = Instant::now();
        assert_eq!(self.sink.until(&after, LEFT_BEHIND).await, LEFT_BEHIND, "nothing is lost");
        let (_, last) = self.sink.span(&after).expect("pushed");
        fleet.stop().await;
        (last - begun).as_secs_f64()
    }

    /// From the ack of each message to its push, one at a time in an open loop.
    async fn paced(&self, fleet: &Fleet, prefix: &str, count: u32) -> Round {
        let watch = Stopwatch::start(fleet.processes());
        let begin = Instant::now();
        let acks: Vec<(u32, Instant)> = stream::iter(0..count)
            .map(|number| async move {
                sleep_until(begin + PACE * number).await;
                let place = number as usize % CONVERSATIONS;
                let name = format!("{prefix}-{number}");
                let sender = &self.people[place * 2];
                let text = format!("{name} {BODY}");
                fleet.send(0, &sender.token, self.conversations[place], &name, &text).await;
                (number, Instant::now())
            })
            .buffer_unordered(IN_FLIGHT)
            .collect()
            .await;
        self.sink.until(prefix, acks.len()).await;
        let pushed = self.sink.pushed(prefix);
        let mut latencies = histogram();
        for (number, acked) in &acks {
            if let Some((at, _)) = pushed.get(number) {
                latencies.saturating_record(micros(at.saturating_duration_since(*acked)));
            }
        }
        watch.stop(acks.len(), &latencies)
    }

    /// How many of the messages of a prefix were never pushed, and how many more than once.
    fn missed(&self, prefix: &str, count: u32) -> (usize, usize) {
        let pushed = self.sink.pushed(prefix);
        let times = |number: u32| pushed.get(&number).map_or(0, |(_, times)| *times);
        (
            (0..count).filter(|number| times(*number) == 0).count(),
            (0..count).filter(|number| times(*number) > 1).count(),
        )
    }
}

pub async fn b10(bench: &Arc<Bench>, rounds: usize) -> Report {
    let mut report = Report::new("b10", "Outbox → Kafka → worker → push sink, against a producer alone");
    let load = Load::new(bench).await;
    // Topics are there once somebody has migrated.
    load.fleet(vec!["worker"]).await.stop().await;
    let mut beginnings = Vec::new();
    for round in 0..rounds {
        report.calibration("producer alone, a record a message", produce(bench).await);
        let (drained, beginning) = load.drain(round).await;
        println!("round {round}: {drained:?}");
        report.measured("committed to pushed, backlog of one worker", drained);
        beginnings.push(format!("{beginning:.1}"));
    }
    let (another, same) = (load.take_over("").await, load.take_over("worker").await);
    let fleet = load.fleet(vec!["api", "worker"]).await;
    // Leases and partitions find their owner.
    load.paced(&fleet, "warm", 100).await;
    for round in 0..rounds {
        let paced = load.paced(&fleet, &format!("paced{round}"), PACED).await;
        println!("round {round}: {paced:?}");
        report.also("ack to push, 50 messages/s", paced);
    }
    let count = u32::try_from(CONVERSATIONS).expect("few");
    let script = PathBuf::from("scripts/services");
    let killed = async {
        sleep(Duration::from_secs(3)).await;
        let broken = tokio::task::spawn_blocking(move || {
            service(&script, "kill", "kafka")?;
            service(&script, "up", "kafka")
        });
        broken.await.expect("the script runs").expect("Kafka is back");
    };
    tokio::join!(load.paced(&fleet, "killed", count), killed);
    let (lost, twice) = load.missed("killed", count);
    report.note(format!(
        "Broker killed under {count} messages at 50/s: {lost} lost, {twice} pushed more than once."
    ));
    report
        .note(format!("First push after the start of a worker with a backlog: {} s.", beginnings.join(", ")));
    report.note(format!(
        "From the start of a worker after another was killed until {LEFT_BEHIND} messages that waited were pushed: {another:.1} s; \
         with the name of the one that was killed {same:.1} s."
    ));
    report.note("p99 of ack to push, to reach linger (2 ms) + 20 ms.".to_owned());
    report.target(Target { reach: 0.5, dream: Some(0.7), p99_millis: None });
    report
}

/// Records of the same size to a topic of its own with as many partitions, acknowledged as the relay's are.
async fn produce(bench: &Bench) -> Round {
    let brokers = from_environment("CONFAB_TEST_KAFKA_BROKERS");
    let prefix = bench.url.rsplit('/').next().unwrap_or_default();
    let topic = format!("{prefix}.task.push.dead");
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .create()
        .expect("a producer");
    let payload = vec![b'x'; RECORD_BYTES];
    let send = |number: usize| {
        let (producer, topic, payload) = (producer.clone(), topic.clone(), payload.clone());
        async move {
            let key = number.to_be_bytes();
            let record = FutureRecord::to(&topic).key(&key).payload(&payload);
            producer.send(record, Timeout::Never).await.expect("delivered");
        }
    };
    send(0).await;
    let watch = Stopwatch::start(Some("java"));
    // As many at once as the relay takes of the outbox.
    stream::iter(0..BACKLOG).map(send).buffer_unordered(256).for_each(async |()| {}).await;
    watch.stop(BACKLOG, &histogram())
}
