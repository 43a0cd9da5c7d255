//! The bus: in this process, and over a real Redis when the environment names one.

#![expect(clippy::disallowed_methods, reason = "tests read the environment")]

use std::{sync::Arc, time::Duration};

use domain::{
    ConversationId, Event, Fact, LaneId, LaneLayout, LoggedBatch,
    adapter::{
        backlog::BACKLOG_BYTES_MAX,
        in_process::InProcessBus,
        redis::{RedisBus, RedisBusSetup},
    },
    lifeline::{Held, Lifeline},
    port::Bus,
};
use tokio::{
    sync::{Mutex, broadcast::Receiver},
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::harness::random_number;

const LAYOUT: LaneLayout = LaneLayout { count: 4 };

fn batch(pos: i64) -> Arc<LoggedBatch> {
    let fact = Fact::TitleChanged { conversation: ConversationId::group(7), rev: 1 };
    let event = Event { fact, conversation: None, message: None, member: None, trace: None };
    Arc::new(LoggedBatch { lane: LaneId(2), pos, events: vec![Arc::new(event)] })
}

async fn hear(receiver: &mut Receiver<Arc<LoggedBatch>>) -> LoggedBatch {
    let heard = timeout(Duration::from_secs(5), receiver.recv()).await.expect("in time").expect("open");
    (*heard).clone()
}

/// One test cuts the connections of all.
static ALONE: Mutex<()> = Mutex::const_new(());

fn server() -> Option<String> {
    let url = std::env::var("CONFAB_TEST_REDIS_URL").ok();
    if url.is_none() {
        eprintln!("SKIPPED on Redis: CONFAB_TEST_REDIS_URL is not set (scripts/test sets it)");
    }
    url
}

fn node(url: &str, installation: &str) -> (RedisBus, DropGuard) {
    let stop = CancellationToken::new();
    let setup = RedisBusSetup {
        url: url.to_owned(),
        installation: installation.to_owned(),
        layout: LAYOUT,
        node: random_number(),
        backlog_bytes_max: BACKLOG_BYTES_MAX,
        held: Held { tasks: TaskTracker::new(), stop: stop.clone(), lifeline: Lifeline::default() },
    };
    (RedisBus::start(setup).expect("an address"), stop.drop_guard())
}

/// Publishes until the other hears: connecting takes a moment, and the bus promises nothing before.
async fn meet(from: &RedisBus, to: &mut Receiver<Arc<LoggedBatch>>) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        from.publish(batch(0));
        if timeout(Duration::from_millis(100), to.recv()).await.is_ok() {
            break;
        }
        assert!(Instant::now() < end, "they never meet");
    }
    while timeout(Duration::from_millis(300), to.recv()).await.is_ok() {}
}

#[tokio::test]
async fn in_one_process_every_hub_hears_every_batch_once() {
    let bus = InProcessBus::default();
    let mut hubs = [bus.subscribe(), bus.subscribe()];
    for pos in 1..=3 {
        bus.publish(batch(pos));
    }
    for hub in &mut hubs {
        for pos in 1..=3 {
            assert_eq!(hear(hub).await, *batch(pos));
        }
        assert!(hub.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_redis_every_node_hears_every_batch_once_and_in_order() {
    let Some(url) = server() else { return };
    let _alone = ALONE.lock().await;
    let installation = format!("test-{:x}", random_number());
    let ((first, _a), (second, _b)) = (node(&url, &installation), node(&url, &installation));
    let (stranger, _c) = node(&url, &format!("{installation}-other"));
    let (mut here, mut there, mut elsewhere) = (first.subscribe(), second.subscribe(), stranger.subscribe());
    meet(&first, &mut there).await;
    while here.try_recv().is_ok() {}
    for pos in 1..=500 {
        first.publish(batch(pos));
    }
    for hub in [&mut here, &mut there] {
        for pos in 1..=500 {
            assert_eq!(hear(hub).await, *batch(pos));
        }
        assert!(timeout(Duration::from_millis(200), hub.recv()).await.is_err(), "each once");
    }
    assert!(elsewhere.try_recv().is_err(), "another installation hears nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_was_cut_off_hears_again() {
    let Some(url) = server() else { return };
    let _alone = ALONE.lock().await;
    let installation = format!("test-{:x}", random_number());
    let ((first, _a), (second, _b)) = (node(&url, &installation), node(&url, &installation));
    let mut there = second.subscribe();
    meet(&first, &mut there).await;
    let client = redis::Client::open(url).expect("an address");
    let mut admin = client.get_multiplexed_async_connection().await.expect("connects");
    for _ in 0..20 {
        let cut =
            redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query_async::<i64>(&mut admin).await;
        cut.expect("cuts");
        sleep(Duration::from_millis(20)).await;
    }
    let cut = Instant::now();
    meet(&first, &mut there).await;
    assert!(cut.elapsed() < Duration::from_secs(5), "{:?}", cut.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_publishing_never_waits_and_the_own_hub_still_hears() {
    // Nobody listens there.
    let (bus, _stop) = node("redis://127.0.0.1:1/0", "test");
    let mut hub = bus.subscribe();
    let started = Instant::now();
    for pos in 1..=5000 {
        bus.publish(batch(pos));
        assert_eq!(hear(&mut hub).await.pos, pos);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
