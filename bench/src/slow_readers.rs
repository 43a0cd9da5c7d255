//! B9: one conversation of 500 on sockets, and 5 % of them stop to read for a minute.

use std::{io, time::Duration};

use tokio::{
    runtime::Handle,
    select,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    database::Bench,
    delivery::{EVENTS, Room, SUBSCRIBERS, Side},
    fan_out::own_thread,
    report::{Report, Target},
    sockets::{Socket, Wanted, live_all},
};

/// 5 %.
const SLOW: usize = SUBSCRIBERS / 20;
const RATE: u32 = 100;
/// How long they do not read.
const STOPPED_SECONDS: usize = 60;
/// Of every window, so that a stall of the disk spoils one of many on either side alike.
const WINDOW_SECONDS: usize = 6;
/// Bytes that may wait for a socket (`socket_queue_bytes_max`), in KiB.
const QUEUE_KIB: u64 = 1024;
/// How long what waits in the network may take to be read to its end.
const READ_WITHIN: Duration = Duration::from_secs(10);
const SAMPLED_EVERY: Duration = Duration::from_millis(500);
const SLOW_READERS: &str = "confab_slow_readers_total";

pub async fn b9(bench: &Bench, rounds: usize) -> Report {
    let mut report = Report::new(
        "b9",
        "B1 with 5 % of the sockets not reading for 60 s; latencies are those of the other 475",
    );
    report.compare_latency();
    let room = Room::open(bench).await;
    let mut side = room.product(SLOW).await;
    let readers = own_thread();
    let (stop, readings) = open(&room, &readers).await;
    all_read(&mut report, &mut side, rounds).await;
    let slow_before = room.fleet.metric(SLOW_READERS).await;
    stop.send_replace(true);
    let (ended, end) = watch::channel(false);
    let stopped = async {
        let mut windows = Vec::new();
        for _ in 0..STOPPED_SECONDS / WINDOW_SECONDS {
            let round = side.run(messages(WINDOW_SECONDS), Some(RATE), 1).await;
            let round = round.expect("the others receive all");
            println!("5 % do not read: {round:?}");
            windows.push(round);
        }
        ended.send_replace(true);
        windows
    };
    let (windows, watched) = tokio::join!(stopped, Watched::until(&room, end));
    let closed = room.fleet.metric(SLOW_READERS).await - slow_before;
    let found = closes(readings).await;
    let others = open(&room, &readers).await;
    all_read(&mut report, &mut side, rounds).await;
    drop(others);
    if let Some(first) = windows.first() {
        report.note(format!(
            "The others' p99 in the first {WINDOW_SECONDS} s, while the slow sockets were still open: {:.1} ms.",
            first.p99.as_secs_f64() * 1e3
        ));
    }
    for round in windows {
        report.measured("475 of 500 read", round);
    }
    report.note(format!(
        "{closed:.0} of {SLOW} slow sockets were closed by the server. What they found when they read on: {found}."
    ));
    watched.note(&mut report);
    report.target(Target { reach: 1.3, dream: Some(1.1), p99_millis: None });
    room.fleet.stop().await;
    report
}

async fn all_read(report: &mut Report, side: &mut Side, windows: usize) {
    for _ in 0..windows {
        let round = side.run(messages(WINDOW_SECONDS), Some(RATE), 1).await.expect("all receive");
        println!("all read: {round:?}");
        report.calibration("all 500 read", round);
    }
}

fn messages(seconds: usize) -> usize {
    seconds * usize::try_from(RATE).unwrap_or(1)
}

type Readings = JoinSet<String>;

/// Sockets of the first users, which read until they are told to stop, and what each found in the end.
async fn open(room: &Room, readers: &Handle) -> (watch::Sender<bool>, Readings) {
    let (stop, stopped) = watch::channel(false);
    let port = room.fleet.ports()[0];
    let tokens: Vec<String> = room.users.iter().take(SLOW).map(|user| user.token.clone()).collect();
    let opening = async move {
        let wanted = tokens.into_iter().map(|token| Wanted { port, token, query: EVENTS, after: None });
        live_all(wanted.collect()).await.expect("live sockets")
    };
    let mut readings = JoinSet::new();
    for socket in readers.spawn(opening).await.expect("it ends well") {
        readings.spawn_on(read(socket, stopped.clone()), readers);
    }
    (stop, readings)
}

async fn read(mut socket: Socket, mut stopped: watch::Receiver<bool>) -> String {
    loop {
        select! {
            heard = socket.hear(|_| ()) => if let Err(error) = heard {
                return error.to_string();
            },
            changed = stopped.changed() => match changed {
                Ok(()) => break,
                Err(_) => return "left".to_owned(),
            },
        }
    }
    sleep(Duration::from_secs(STOPPED_SECONDS as u64)).await;
    let end = async {
        loop {
            if let Err(error) = socket.hear(|_| ()).await {
                return match error.kind() {
                    io::ErrorKind::Other => error.to_string(),
                    kind => format!("no close frame ({kind})"),
                };
            }
        }
    };
    timeout(READ_WITHIN, end).await.unwrap_or_else(|_| "still open".to_owned())
}

/// How often each end was found.
async fn closes(readings: Readings) -> String {
    let mut ends = readings.join_all().await;
    ends.sort();
    let counted = ends.chunk_by(|a, b| a == b).map(|same| format!("{} × {}", same.len(), same[0]));
    counted.collect::<Vec<_>>().join(", ")
}

/// What is seen of the node while some do not read.
#[derive(Default)]
struct Watched {
    first_kib: u64,
    most_kib: u64,
    /// When sockets were closed for not reading: the first of them, the last.
    first_closed: Option<Duration>,
    last_closed: Duration,
}

impl Watched {
    async fn until(room: &Room, end: watch::Receiver<bool>) -> Self {
        let slow = async || room.fleet.metric(SLOW_READERS).await;
        let memory = || room.fleet.cluster.resources(0).map_or(0, |resources| resources.memory_kib);
        let (begun, mut known) = (Instant::now(), slow().await);
        let mut watched = Self { first_kib: memory(), ..Self::default() };
        while !*end.borrow() {
            watched.most_kib = watched.most_kib.max(memory());
            let closed = slow().await;
            if closed > known {
                known = closed;
                watched.last_closed = begun.elapsed();
                watched.first_closed.get_or_insert(watched.last_closed);
            }
            sleep(SAMPLED_EVERY).await;
        }
        watched
    }

    fn note(&self, report: &mut Report) {
        report.note(format!(
            "Memory of the node: {} KiB when they stopped to read, at most {} KiB later: {} KiB more, of {} KiB that may wait for {SLOW} sockets.",
            self.first_kib,
            self.most_kib,
            self.most_kib.saturating_sub(self.first_kib),
            QUEUE_KIB * SLOW as u64
        ));
        if let Some(first) = self.first_closed {
            report.note(format!(
                "They were closed {:.1} to {:.1} s after they had stopped: until then the network took what was sent.",
                first.as_secs_f64(),
                self.last_closed.as_secs_f64()
            ));
        }
    }
}
