//! Presence: what an idle user takes of CPU because of it, and what a change does, watched by nobody and by somebody on another node.

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
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    database::{Bench, SignedIn},
    fleet::{Fleet, from_environment},
    measure::{Round, Stopwatch, histogram},
    report::Report,
    sockets::{Socket, find, subscribe_all},
};

const MEMBERS: usize = 10;
/// Of each user in a round. Faster ones of the same user would be told together.
const CHANGES: usize = 3;
const BETWEEN_CHANGES: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(15);
/// What connecting took is over.
const SETTLED_AFTER: Duration = Duration::from_secs(12);

const ACTIVITY: &str = "subscription($ids: [ID!]) { activity(conversationIds: $ids) { __typename ... on PresenceChanged { user { id } presence { state } } } }";

/// CPU time and commands of Redis.
#[derive(Clone, Copy)]
struct OfRedis {
    micros: f64,
    commands: f64,
}

pub async fn presence(bench: &Bench, rounds: usize, sockets: usize) -> Report {
    let mut report = Report::new(
        "presence",
        "setPresence over WebSocket, two API nodes and Redis: changes against the same mutation that changes nothing",
    );
    report.compare_server_cpu();
    let users = bench.signed_in(i64::try_from(sockets).expect("few")).await;
    let groups = bench.groups_of(MEMBERS, &users).await;
    for switch in ["off", "on"] {
        let more = vec![("CONFAB_PRESENCE_ENABLED", switch.to_owned())];
        let fleet = Fleet::start(bench, vec!["api", "api"], more).await;
        let mut there = arrive(&fleet, &users).await;
        sleep(SETTLED_AFTER).await;
        idle(&mut report, &fleet, users.len(), switch).await;
        if switch == "on" {
            for _ in 0..rounds {
                let (same, ..) = changes(&fleet, &mut there, false).await;
                report.calibration("setPresence that changes nothing", same);
                let (alone, of_redis, _) = changes(&fleet, &mut there, true).await;
                note(&mut report, "watched by nobody", of_redis);
                report.measured("a change that nobody watches", alone);
            }
            let told = Arc::new(AtomicUsize::new(0));
            for (members, group) in users.chunks(MEMBERS).zip(&groups) {
                let port = fleet.ports()[1];
                watch(port, &members[0], group.to_string(), told.clone()).await.expect("opens");
            }
            for _ in 0..rounds {
                let before = told.load(Ordering::Relaxed);
                let (watched, of_redis, count) = changes(&fleet, &mut there, true).await;
                note(&mut report, "watched on the other node", of_redis);
                report.also("a change that one other watches on the other node", watched);
                let told = told.load(Ordering::Relaxed) - before;
                report.note(format!("{told} of {count} changes were told to a watcher each."));
            }
        }
        fleet.stop().await;
    }
    report
}

/// Sockets with a subscription to events, on the first node.
async fn arrive(fleet: &Fleet, users: &[SignedIn]) -> Vec<Socket> {
    let tokens: Vec<&str> = users.iter().map(|user| user.token.as_str()).collect();
    subscribe_all(&fleet.ports()[..1], &tokens).await.expect("live sockets")
}

async fn idle(report: &mut Report, fleet: &Fleet, users: usize, switch: &str) {
    let seconds = users * usize::try_from(IDLE.as_secs()).expect("few");
    let (watch, before) = (Stopwatch::start(fleet.processes()), of_redis().await);
    sleep(IDLE).await;
    let round = watch.stop(seconds, &histogram());
    let redis = since(before, of_redis().await, seconds);
    report.note(format!(
        "An idle user's second with presence {switch}: both nodes {:.2} µs, Redis {:.3} µs and {:.4} commands ({users} users).",
        round.server_cpu_micros(),
        redis.micros,
        redis.commands
    ));
}

/// Every user says so many times that they are away, or not; or what is so already.
async fn changes(fleet: &Fleet, there: &mut Vec<Socket>, real: bool) -> (Round, OfRedis, usize) {
    let count = there.len() * CHANGES;
    let (watch, before, begun) = (Stopwatch::start(fleet.processes()), of_redis().await, Instant::now());
    let all = there.len();
    let changing = there.drain(..).enumerate().map(|(number, mut socket)| {
        let offset = BETWEEN_CHANGES.mul_f64(
            f64::from(u32::try_from(number).expect("few")) / f64::from(u32::try_from(all).expect("few")),
        );
        tokio::spawn(async move {
            for change in 0..CHANGES {
                let turns = u32::try_from(change).expect("few");
                sleep_until(begun + offset + BETWEEN_CHANGES * turns).await;
                // The last one of a round leaves them there.
                let away = real && change % 2 == 0 && change + 1 < CHANGES;
                say(&mut socket, change, away).await?;
            }
            Ok::<_, io::Error>(socket)
        })
    });
    let changed = try_join_all(changing).await.expect("no task panics");
    *there = changed.into_iter().collect::<io::Result<_>>().expect("sockets stay open");
    // What is told goes on for a moment.
    sleep(Duration::from_secs(2)).await;
    let real = if real { there.len() * (CHANGES - 1) } else { count };
    let round = watch.stop(count, &histogram());
    (round, since(before, of_redis().await, real), real)
}

async fn say(socket: &mut Socket, number: usize, away: bool) -> io::Result<()> {
    let query = "mutation($away: Boolean!) { setPresence(input: { away: $away }) { userErrors { code } } }";
    let payload = json!({ "query": query, "variables": { "away": away } });
    let id = format!("m{number}");
    socket.text(&json!({ "id": id, "type": "subscribe", "payload": payload }).to_string()).await?;
    while !socket.hear(|text| find(text, b"\"complete\"").is_some()).await? {}
    Ok(())
}

async fn watch(port: u16, user: &SignedIn, group: String, told: Arc<AtomicUsize>) -> io::Result<()> {
    let authorization = format!("Bearer {}", user.token);
    let mut socket = Socket::open(port, &json!({ "authorization": authorization })).await?;
    let payload = json!({ "query": ACTIVITY, "variables": { "ids": [group] } });
    socket.text(&json!({ "id": "1", "type": "subscribe", "payload": payload }).to_string()).await?;
    while !socket.hear(|text| find(text, b"ActivityOpened").is_some()).await? {}
    tokio::spawn(async move {
        while let Ok(is_change) = socket.hear(|text| find(text, b"PresenceChanged").is_some()).await {
            told.fetch_add(usize::from(is_change), Ordering::Relaxed);
        }
    });
    Ok(())
}

async fn of_redis() -> OfRedis {
    let mut connection = redis::connect(&from_environment("CONFAB_TEST_REDIS_URL")).await.expect("Redis");
    let text = [connection.info("cpu").await.expect("CPU"), connection.info("stats").await.expect("counts")]
        .concat();
    let figure = |name: &str| -> f64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}"))
    };
    let seconds = figure("used_cpu_sys") + figure("used_cpu_user");
    OfRedis { micros: seconds * 1e6, commands: figure("total_commands_processed") }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
fn since(before: OfRedis, after: OfRedis, operations: usize) -> OfRedis {
    let each = |sum: f64| sum / operations as f64;
    OfRedis { micros: each(after.micros - before.micros), commands: each(after.commands - before.commands) }
}

fn note(report: &mut Report, what: &str, redis: OfRedis) {
    let OfRedis { micros, commands } = redis;
    report.note(format!("Redis for a change {what}: {micros:.1} µs, {commands:.2} commands."));
}
