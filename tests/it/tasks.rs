//! Tasks from Kafka: what cannot be done, workers that die and sleep, backlogs, and the members of large groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use domain::{Message, contract::envelope::open_task};
use futures_util::{StreamExt as _, stream};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::{
    broker::Broker,
    crowd::Crowd,
    installation::Installation,
    people::Site,
    providers::{Answer, DEADLINE, Kind, Providers, Push},
};

const KAFKA_WAIT: Duration = Duration::from_secs(10);

/// Longer than a worker may be silent before its work goes to others.
const LONG_SLEEP: Duration = Duration::from_secs(12);

/// What is left of a dead worker's leases at least: they last 5 s and are prolonged each second.
const LEASES_LEFT: Duration = Duration::from_secs(4);

/// Each push that was taken, as (device, message), with the ids under which it was.
fn seen(providers: &Providers) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut seen: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for Push { device, message, id, .. } in providers.taken() {
        seen.entry((device, message)).or_default().insert(id);
    }
    seen
}

/// Waits until so many were seen; each once.
async fn until_seen_once(providers: &Providers, within: Duration, count: usize) {
    let begun = Instant::now();
    loop {
        let now = block_in_place(|| seen(providers));
        if now.len() >= count {
            assert_eq!(now.len(), count, "nobody is pushed what is not due");
            let twice: Vec<_> = now.iter().filter(|(_, ids)| ids.len() != 1).collect();
            assert!(twice.is_empty(), "seen more than once: {twice:?}");
            return;
        }
        assert!(begun.elapsed() < within, "{} of {count} pushes within {within:?}", now.len());
        sleep(Duration::from_millis(200)).await;
    }
}

fn put(installation: &Installation, topic: &str, key: &[u8], payloads: &[&[u8]]) {
    let (brokers, prefix) = installation.kafka.as_ref().expect("a Kafka");
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a producer");
    for payload in payloads {
        let topic = format!("{prefix}.{topic}");
        let record = BaseRecord::to(&topic).key(key).payload(*payload);
        producer.send(record).map_err(|(error, _)| error).expect("sends");
    }
    producer.flush(KAFKA_WAIT).expect("delivers");
}

/// The payloads of a topic's records, with their header `reason`.
fn records(installation: &Installation, topic: &str) -> Vec<(Vec<u8>, String)> {
    let (brokers, prefix) = installation.kafka.as_ref().expect("a Kafka");
    let topic = format!("{prefix}.{topic}");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "none");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(&topic), KAFKA_WAIT).expect("metadata");
    let mut records = Vec::new();
    for partition in metadata.topics().first().expect("the topic").partitions() {
        let (low, high) = consumer.fetch_watermarks(&topic, partition.id(), KAFKA_WAIT).expect("watermarks");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition.id(), Offset::Offset(low)).expect("an offset");
        consumer.assign(&list).expect("assigns");
        for _ in low..high {
            // A poll also comes back for what is no record.
            let record = std::iter::repeat_with(|| consumer.poll(KAFKA_WAIT)).take(100).flatten().next();
            let record = record.expect("a record").expect("readable");
            let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
            let mut reasons =
                headers.filter(|header| header.key == "reason").filter_map(|header| header.value);
            let reason = String::from_utf8_lossy(reasons.next().unwrap_or_default()).into_owned();
            records.push((record.payload().unwrap_or_default().to_vec(), reason));
        }
    }
    records.sort();
    records
}

async fn until_records(installation: &Installation, topic: &str, count: usize) -> Vec<(Vec<u8>, String)> {
    let begun = Instant::now();
    loop {
        let found = block_in_place(|| records(installation, topic));
        if found.len() >= count {
            assert_eq!(found.len(), count, "{topic}: {found:?}");
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "{topic} has {} of {count} records", found.len());
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_task_goes_to_the_dead_with_the_reason_and_the_others_are_done() {
    let providers = &Providers::start().await;
    let Some(installation) = Installation::on_kafka(providers.settings()) else { return };
    let api = installation.start("api");
    let site = &Site::new(&api.url);
    let ada = site.join("ada").await;
    let bob = site.join_with(providers, Kind::Fcm, "bob").await;
    let mut groups = Vec::new();
    // Over all partitions, so that some come behind the poison.
    for _ in 0..8 {
        groups.push(site.group(&ada, "t", &[&bob]).await);
    }
    let poison: [&[u8]; 3] = [b"\xff\xff\xff", b"", b"{\"task\": \"push\"}"];
    for _ in 0..4 {
        block_in_place(|| put(&installation, "task.push", b"k", &poison));
    }
    for group in &groups {
        site.send(&ada, group, "hello").await;
    }
    let mut worker = installation.start("worker");
    until_seen_once(providers, DEADLINE, groups.len()).await;
    let dead = until_records(&installation, "task.push.dead", 12).await;
    let mut wanted: Vec<&[u8]> = poison.repeat(4);
    wanted.sort_unstable();
    assert_eq!(dead.iter().map(|(payload, _)| payload.as_slice()).collect::<Vec<_>>(), wanted);
    assert!(dead.iter().all(|(_, reason)| reason.starts_with("no task")), "{dead:?}");
    assert!(worker.runs());

    let listed = block_in_place(|| installation.run(&["worker", "dead"]));
    assert!(listed.contains("\n12 dead\n") && listed.contains("task.push"), "{listed}");
    assert_eq!(listed.matches("no task:").count(), 12, "{listed}");
    let replayed = block_in_place(|| installation.run(&["worker", "replay"]));
    assert!(replayed.contains("12 sent again"), "{replayed}");
    // They come again, and die again.
    until_records(&installation, "task.push.dead", 24).await;
    let listed = block_in_place(|| installation.run(&["worker", "dead"]));
    assert!(listed.contains("\n12 dead\n"), "those sent again are not listed: {listed}");
    for group in &groups {
        site.send(&ada, group, "still there").await;
    }
    until_seen_once(providers, DEADLINE, 2 * groups.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_one_worker_is_killed_and_one_sleeps_longer_than_its_session() {
    let providers = &Providers::start().await;
    let Some(installation) = Installation::on_kafka(providers.settings()) else { return };
    let api = installation.start("api");
    let site = &Site::new(&api.url);
    let ada = site.join("ada").await;
    let mut members = Vec::new();
    for kind in Kind::ALL {
        members.push(site.join_with(providers, kind, &format!("{kind:?}").to_lowercase()).await);
    }
    let mut groups = Vec::new();
    for _ in 0..6 {
        groups.push(site.group(&ada, "t", &members.iter().collect::<Vec<_>>()).await);
    }
    providers.answer(|_| Answer::Slowly(Duration::from_millis(30)));
    let mut workers =
        [installation.start("worker"), installation.start("worker"), installation.start("worker")];
    let mut sent = 0;
    let send_all = async |what: &str| {
        let all = groups.iter().flat_map(|group| (0..5).map(move |number| (group, number)));
        let ada = &ada;
        let sends = all
            .map(|(group, number)| async move { site.send(ada, group, &format!("{what} {number}")).await });
        futures_util::future::join_all(sends).await.len()
    };
    sent += send_all("all are there").await;
    until_seen_once(providers, DEADLINE, sent * members.len()).await;
    sent += send_all("on its way").await;
    let half = (sent - 15) * members.len();
    providers.until(DEADLINE, "half of it is pushed", |asked| asked.len() >= half).await;
    workers[0].kill();
    workers[1].signal("-STOP");
    let stopped = Instant::now();
    sent += send_all("one is there").await;
    sleep(LONG_SLEEP.saturating_sub(stopped.elapsed())).await;
    sent += send_all("it is long ago").await;
    workers[1].signal("-CONT");
    sent += send_all("it is back").await;
    until_seen_once(providers, DEADLINE, sent * members.len()).await;
    assert!(workers[1].runs() && workers[2].runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_killed_has_its_work_back_under_its_name_before_its_leases_run_out() {
    let providers = &Providers::start().await;
    let mut settings = providers.settings();
    settings.push(("CONFAB_WORKER_NAME", "worker-0".to_owned()));
    let Some(installation) = Installation::on_kafka(settings) else { return };
    let api = installation.start("api");
    let site = &Site::new(&api.url);
    let ada = site.join("ada").await;
    let bob = site.join_with(providers, Kind::Fcm, "bob").await;
    let mut groups = Vec::new();
    // Over all lanes and partitions.
    for _ in 0..8 {
        groups.push(site.group(&ada, "t", &[&bob]).await);
    }
    let mut worker = installation.start("worker");
    for group in &groups {
        site.send(&ada, group, "before").await;
    }
    until_seen_once(providers, DEADLINE, groups.len()).await;
    worker.kill();
    let killed = Instant::now();
    let _same = installation.start("worker");
    for group in &groups {
        site.send(&ada, group, "after").await;
    }
    until_seen_once(providers, LEASES_LEFT.saturating_sub(killed.elapsed()), 2 * groups.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_larger_than_any_queue_is_worked_off() {
    const TASKS: usize = 2000;
    let providers = &Providers::start().await;
    let Some(installation) = Installation::on_kafka(providers.settings()) else { return };
    let crowd = Crowd::of(&installation).await;
    let people = crowd.people(3).await;
    crowd.want_pushes("member", &people[1..2]).await;
    let mut groups = Vec::new();
    for _ in 0..8 {
        groups.push(crowd.group(&people[0], "t", &people[1..]).await);
    }
    let sends = (0..TASKS).map(|number| {
        let (crowd, people, group) = (&crowd, &people, groups[number % groups.len()]);
        async move { crowd.send(&people[0], group, &format!("k{number}")).await }
    });
    let begun = Instant::now();
    let sent: Vec<Message> = stream::iter(sends).buffer_unordered(256).collect().await;
    println!("{TASKS} messages in {:?}", begun.elapsed());
    let begun = Instant::now();
    let _worker = installation.start("worker");
    until_seen_once(providers, Duration::from_secs(90), TASKS).await;
    println!("{TASKS} pushes in {:?}", begun.elapsed());
    // What a device is told last is what it shows.
    let seqs: BTreeMap<String, i32> = sent.iter().map(|one| (one.id.to_string(), one.seq)).collect();
    let mut last: BTreeMap<String, i32> = BTreeMap::new();
    for Push { conversation, message, .. } in providers.taken() {
        let before = last.insert(conversation, seqs[&message]);
        assert!(before < Some(seqs[&message]), "{message} after {before:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_more_than_once_is_pushed_once() {
    const MESSAGES: usize = 5;
    let providers = &Providers::start().await;
    let Some(installation) = Installation::on_kafka(providers.settings()) else { return };
    let crowd = Crowd::of(&installation).await;
    let people = crowd.people(2).await;
    crowd.want_pushes("member", &people[1..]).await;
    let group = crowd.group(&people[0], "t", &people[1..]).await;
    let mut worker = installation.start("worker");
    for number in 0..MESSAGES {
        crowd.send(&people[0], group, &format!("k{number}")).await;
    }
    until_seen_once(providers, DEADLINE, MESSAGES).await;
    worker.terminate();
    // As a worker leaves them that died after it had asked the providers, and a relay that died before it noted how far it had come.
    installation.sql("DELETE FROM push_mark");
    let mut tasks = block_in_place(|| records(&installation, "task.push"));
    tasks.sort_by_key(|(payload, _)| open_task(payload).expect("a task").place.pos);
    let again: Vec<&[u8]> = tasks.iter().flat_map(|(payload, _)| [payload.as_slice(); 3]).collect();
    assert_eq!(again.len(), 3 * MESSAGES);
    block_in_place(|| put(&installation, "task.push", &group.as_bytes()[..], &again));
    let _worker = installation.start("worker");
    providers.until(DEADLINE, "all are pushed again", |asked| asked.len() >= 2 * MESSAGES).await;
    let last = crowd.send(&people[0], group, "last").await;
    providers.until_shown(&last.id.to_string(), 1).await;
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for push in providers.taken() {
        *times.entry(push.message).or_default() += 1;
    }
    assert_eq!(times.remove(&last.id.to_string()), Some(1));
    assert!(times.values().all(|times| *times == 2), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_group_is_pushed_to_once_over_a_kill_in_the_middle() {
    const MEMBERS: i64 = 700;
    let providers = &Providers::start().await;
    let mut settings = providers.settings();
    settings.push(("CONFAB_FANOUT_INLINE_MEMBERS_MAX", "50".to_owned()));
    let Some(installation) = Installation::on_kafka(settings) else { return };
    let crowd = Crowd::of(&installation).await;
    let people = crowd.people(MEMBERS).await;
    crowd.want_pushes("member", &people).await;
    let group = crowd.group(&people[0], "large", &people[1..]).await;
    providers.answer(|_| Answer::Slowly(Duration::from_millis(10)));
    let mut worker = installation.start("worker");
    crowd.send(&people[0], group, "hello").await;
    // Some are pushed, some on their way and most not begun.
    providers.until(DEADLINE, "some are pushed", |asked| asked.len() >= 100).await;
    worker.kill();
    let before = seen(providers).len();
    assert!(before < 600, "{before} were pushed before the kill");
    let _next = installation.start("worker");
    let others = usize::try_from(MEMBERS - 1).expect("some");
    until_seen_once(providers, Duration::from_mins(1), others).await;
    assert!(!records(&installation, "task.fanout").is_empty(), "it went through the topic for large groups");
    assert!(providers.taken().iter().all(|push| push.device != "member-0"), "not to the sender");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_when_it_is_told_to_though_its_brokers_are_away() {
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    let Some(broker) = Broker::start(folder.path().to_owned()) else { return };
    let providers = &Providers::start().await;
    let Some(installation) = Installation::on_broker(broker.address(), providers.settings()) else { return };
    let crowd = Crowd::of(&installation).await;
    let people = crowd.people(2).await;
    crowd.want_pushes("member", &people[1..]).await;
    let group = crowd.group(&people[0], "t", &people[1..]).await;
    // A consumer may wait for its brokers as long as a drain takes, and no longer.
    let mut worker = installation.start_with("worker", &[("CONFAB_DRAIN_TIMEOUT_MS", "2000")]);
    crowd.send(&people[0], group, "before").await;
    until_seen_once(providers, DEADLINE, 1).await;
    assert!(broker.service("kill"), "the broker is gone");
    crowd.send(&people[0], group, "after").await;
    worker.signal("-TERM");
    assert_eq!(worker.ends().await, Some(Some(0)), "{}", worker.said());
}
