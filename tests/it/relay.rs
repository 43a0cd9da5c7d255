//! The relay of the outbox to Kafka, with workers that die, sleep and come back.

#![expect(clippy::disallowed_methods, reason = "tests start processes and read the environment")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use domain::{
    Fact, LaneId,
    contract::envelope::{self, Place},
};
use rdkafka::{
    ClientConfig, Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::server::{Server, ask, client, confab, mariadb, register, settings};

/// Longer than a lane's lease.
const LONG_SLEEP: Duration = Duration::from_secs(7);

struct Stage {
    folder: tempfile::TempDir,
    database: String,
    brokers: String,
    prefix: String,
}

impl Stage {
    /// `None`, loudly, without a MariaDB or a Kafka.
    fn new() -> Option<Self> {
        let Ok(brokers) = env::var("CONFAB_TEST_KAFKA_BROKERS") else {
            eprintln!("SKIPPED: CONFAB_TEST_KAFKA_BROKERS is not set (scripts/test sets it)");
            return None;
        };
        let database = mariadb()?;
        let prefix = database.rsplit('/').next().expect("a name").to_owned();
        let stage = Self { folder: tempfile::tempdir().expect("a folder"), database, brokers, prefix };
        for arguments in [&["migrate"][..], &["keys", "new"], &["doctor"]] {
            let mut command = stage.command();
            assert!(command.args(arguments).status().expect("runs").success(), "{arguments:?}");
        }
        Some(stage)
    }

    fn command(&self) -> Command {
        let mut command = confab();
        settings(&mut command, self.folder.path());
        command
            .env("CONFAB_DATABASE_URL", &self.database)
            .env("CONFAB_KEYS_DIR", self.folder.path().join("keys"))
            .env("CONFAB_KAFKA_BROKERS", &self.brokers)
            .env("CONFAB_KAFKA_TOPIC_PREFIX", &self.prefix);
        if let Ok(redis) = env::var("CONFAB_TEST_REDIS_URL") {
            command.env("CONFAB_REDIS_URL", redis);
        }
        command
    }

    fn api(&self) -> Server {
        let mut command = self.command();
        command.arg("api");
        Server::start(command)
    }

    fn worker(&self) -> Worker {
        let mut command = self.command();
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a log");
        Worker(
            command
                .arg("worker")
                .env("RUST_LOG", "debug")
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("starts"),
        )
    }

    fn log(&self) -> impl AsRef<Path> {
        self.folder.path().join("worker.log")
    }

    /// All records so far, in the order of each partition.
    fn records(&self) -> Vec<Record> {
        let topic = format!("{}.events", self.prefix);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "none")
            .create()
            .expect("a consumer");
        let wait = Duration::from_secs(10);
        let metadata = consumer.fetch_metadata(Some(&topic), wait).expect("metadata");
        let partitions = metadata.topics().first().expect("the topic").partitions().len();
        let mut records = Vec::new();
        for partition in 0..i32::try_from(partitions).expect("few") {
            let (low, high) = consumer.fetch_watermarks(&topic, partition, wait).expect("watermarks");
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, rdkafka::Offset::Offset(low)).expect("an offset");
            consumer.assign(&list).expect("assigns");
            for _ in low..high {
                // A poll also comes back for what is no record.
                let record = std::iter::repeat_with(|| consumer.poll(wait)).take(100).flatten().next();
                let record = record.expect("a record").expect("readable");
                let (event, place) = envelope::open(record.payload().expect("a payload")).expect("an event");
                records.push(Record { partition, event, place });
            }
        }
        records
    }
}

struct Record {
    partition: i32,
    event: domain::Event,
    place: Place,
}

struct Worker(Child);

impl Worker {
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends `count` messages into each of the groups; their places.
async fn chat(client: &reqwest::Client, url: &str, token: &str, groups: &[Value], round: &str, count: usize) {
    let send =
        "mutation($id: ID!, $key: String!) { sendMessage(input: { conversationId: $id, clientMessageId: $key,
        content: { text: { text: $key } } }) { message { seq } } }";
    let all =
        groups.iter().enumerate().flat_map(|(group, id)| (0..count).map(move |number| (group, id, number)));
    let sends = all.map(|(group, id, number)| {
        let variables = json!({ "id": id, "key": format!("{round}-{group}-{number}") });
        async move { ask(client, url, Some(token), send, variables).await.expect("sent") }
    });
    for answer in futures_util::future::join_all(sends).await {
        assert!(answer["sendMessage"]["message"]["seq"].is_i64(), "{answer}");
    }
}

/// What a reader keeps of the records: what it knows already by its place is a repeat.
fn without_repeats(records: Vec<Record>) -> Vec<Record> {
    let mut last: BTreeMap<(i32, LaneId), (i64, u32)> = BTreeMap::new();
    let new = move |record: &Record| {
        let at = (record.place.pos, record.place.index);
        let known = last.entry((record.partition, record.place.lane)).or_insert((0, 0));
        // Positions count from 1.
        let new = at > *known;
        *known = at.max(*known);
        new
    };
    records.into_iter().filter(new).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_in_order_over_killed_and_sleeping_workers() {
    let Some(stage) = Stage::new() else { return };
    let api = stage.api();
    let client = client();
    let (_, token) = register(&client, &api.url, "ada").await;
    let create = "mutation { createGroup(input: { title: \"t\", memberIds: [] }) { conversation { id } } }";
    let mut groups = Vec::new();
    for _ in 0..12 {
        let data = ask(&client, &api.url, Some(&token), create, json!({})).await.expect("a group");
        groups.push(data["createGroup"]["conversation"]["id"].clone());
    }
    let mut workers = vec![stage.worker(), stage.worker()];
    for round in 0..6 {
        chat(&client, &api.url, &token, &groups, &format!("kill{round}"), 10).await;
        sleep(Duration::from_millis(300 * (round % 3))).await;
        workers.remove(0);
        workers.push(stage.worker());
    }
    // One sleeps through its lease while another takes its lanes, and wakes up with work in its hands.
    chat(&client, &api.url, &token, &groups, "before", 10).await;
    workers[0].signal("-STOP");
    chat(&client, &api.url, &token, &groups, "asleep", 10).await;
    sleep(LONG_SLEEP).await;
    chat(&client, &api.url, &token, &groups, "later", 10).await;
    workers[0].signal("-CONT");
    chat(&client, &api.url, &token, &groups, "awake", 10).await;

    let wanted = 12 * 10 * 10;
    let begun = Instant::now();
    let events = loop {
        let events = without_repeats(tokio::task::block_in_place(|| stage.records()));
        let messages = events.iter().filter(|record| record.event.message.is_some()).count();
        if messages >= wanted {
            break events;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{messages} of {wanted} messages arrived");
        sleep(Duration::from_millis(500)).await;
    };
    let mut seqs: BTreeMap<_, Vec<i32>> = BTreeMap::new();
    for Record { event, .. } in &events {
        assert!(event.trace.is_some(), "{event:?}");
        if let Fact::MessageSent { conversation, seq, .. } = event.fact {
            seqs.entry(conversation).or_default().push(seq);
        }
    }
    assert_eq!(seqs.len(), groups.len());
    for (conversation, seqs) in seqs {
        assert_eq!(seqs, (1..=100).collect::<Vec<_>>(), "{conversation}");
    }
    let installations: BTreeSet<&str> =
        events.iter().map(|record| record.place.installation.as_str()).collect();
    assert_eq!(installations.len(), 1);
    let trace = events.last().and_then(|record| record.event.trace).expect("a trace").id.to_string();
    assert!(
        std::fs::read_to_string(stage.log()).expect("the log").contains(&trace),
        "a worker names the trace"
    );

    // Told to stop, a worker gives its lanes back at once and another has them without waiting for a lease.
    workers.truncate(1);
    workers[0].signal("-TERM");
    assert_eq!(workers[0].0.wait().expect("ends").code(), Some(0));
    let _next = stage.worker();
    let before = events.len();
    chat(&client, &api.url, &token, &groups, "last", 1).await;
    let begun = Instant::now();
    while without_repeats(tokio::task::block_in_place(|| stage.records())).len() < before + groups.len() {
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing arrives after a hand-over");
        sleep(Duration::from_millis(200)).await;
    }
}
