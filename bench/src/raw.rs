//! Calibrations: the same rows by the shortest way there is.

#![expect(clippy::disallowed_methods, reason = "a benchmark waits for its tasks by itself")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait as _, Value};
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    database::Bench,
    measure::{Round, Servers, Stopwatch, micros},
    write::Load,
};

const COLUMNS: &str = "conversation_id, seq, id, sender_id, client_message_id, content_hash, kind, body, created_at, \
    countable, rev, created_rev, pos";

/// Rows of the raw table, numbered through all rounds so that no key comes twice.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// A table like `message`, with the same keys, for the raw rows.
pub async fn create_table(bench: &Bench) {
    let sql: &[&str] = match bench.raw.get_database_backend() {
        DbBackend::MySql => {
            &["CREATE TABLE bench_message LIKE message", "CREATE TABLE bench_conversation LIKE conversation"]
        }
        _ => &[
            "CREATE TABLE bench_message AS SELECT * FROM message WHERE 1 = 0",
            "CREATE UNIQUE INDEX b1 ON bench_message (conversation_id, seq)",
            "CREATE UNIQUE INDEX b2 ON bench_message (id)",
            "CREATE UNIQUE INDEX b3 ON bench_message (sender_id, client_message_id)",
            "CREATE INDEX b4 ON bench_message (conversation_id, created_at)",
        ],
    };
    for statement in sql {
        bench.raw.execute_unprepared(statement).await.expect("a table for the calibration");
    }
}

/// The row that the engine would write for this message, but for `seq`, which counts through all conversations.
fn row(load: &Load, number: i64) -> [Value; 13] {
    let draft = load.draft(usize::try_from(number).unwrap_or(0), "raw-keys");
    let seq = i32::try_from(number).unwrap_or(i32::MAX);
    [
        draft.conversation.as_bytes().to_vec().into(),
        seq.into(),
        number.into(),
        draft.sender.user.0.into(),
        draft.key.into_bytes().into(),
        vec![7_u8; 16].into(),
        0_i16.into(),
        crate::write::BODY.into(),
        number.into(),
        seq.into(),
        seq.into(),
        seq.into(),
        number.into(),
    ]
}

fn insert(backend: DbBackend, load: &Load, rows: usize) -> Statement {
    let first = NEXT.fetch_add(i64::try_from(rows).unwrap_or(i64::MAX), Ordering::Relaxed);
    let mut text = format!("INSERT INTO bench_message ({COLUMNS}) VALUES ");
    let mut values = Vec::with_capacity(rows * 13);
    for number in (first..).take(rows) {
        text.push_str(if number > first { ",(" } else { "(" });
        let place = values.len();
        let marks = (1..=13).map(|mark| match backend {
            DbBackend::Postgres => format!("${}", place + mark),
            _ => "?".to_owned(),
        });
        text.push_str(&marks.collect::<Vec<_>>().join(","));
        text.push(')');
        values.extend(row(load, number));
    }
    Statement::from_sql_and_values(backend, text, values)
}

/// Multi-row inserts by some writers at once, each its own transaction, flushed at commit.
pub async fn batched(bench: &Bench, load: &Arc<Load>, rows: usize, writers: usize, batch: usize) -> Round {
    let work = rows / writers / batch;
    run(bench, load, writers, work, work * writers * batch, move |raw, load| async move {
        raw.execute_raw(insert(raw.get_database_backend(), &load, batch)).await.expect("inserts");
    })
    .await
}

/// Inserts that go on beside something else.
pub struct Busy {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Busy {
    /// Returns when the last is done.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Multi-row inserts by two writers, as many as keep the server's process busy for so many cores in the mean, until stopped. What the
/// server does after its answers, as it writes pages, counts as well.
pub fn keep_busy(bench: &Bench, load: &Arc<Load>, batch: usize, cores: f64) -> Busy {
    let busy = Busy { stop: CancellationToken::new(), tasks: TaskTracker::new() };
    let watch = Arc::new(Stopwatch::start(Servers::from(bench.server_process).of_now()));
    for _ in 0..2 {
        let (stop, watch, raw, load) = (busy.stop.clone(), watch.clone(), bench.raw.clone(), load.clone());
        busy.tasks.spawn(async move {
            while !stop.is_cancelled() {
                if watch.cores_of_servers() > cores {
                    sleep(Duration::from_millis(2)).await;
                } else {
                    let rows = insert(raw.get_database_backend(), &load, batch);
                    raw.execute_raw(rows).await.expect("inserts");
                }
            }
        });
    }
    busy
}

/// One transaction a message in one conversation: lock and move its counter, insert, commit.
pub async fn one_by_one(bench: &Bench, load: &Arc<Load>, rows: usize, writers: usize) -> Round {
    let work = rows / writers;
    run(bench, load, writers, work, work * writers, |raw, load| async move { one(&raw, &load).await }).await
}

async fn run<F: Future<Output = ()> + Send>(
    bench: &Bench,
    load: &Arc<Load>,
    writers: usize,
    turns: usize,
    rows: usize,
    turn: impl Fn(DatabaseConnection, Arc<Load>) -> F + Copy + Send + Sync + 'static,
) -> Round {
    let watch = Stopwatch::start(bench.server_process);
    let work = (0..writers).map(|_| {
        let (raw, load) = (bench.raw.clone(), load.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::with_capacity(turns);
            for _ in 0..turns {
                let started = Instant::now();
                turn(raw.clone(), load.clone()).await;
                latencies.push(micros(started.elapsed()));
            }
            latencies
        })
    });
    let done = futures_util::future::join_all(work.collect::<Vec<_>>()).await;
    watch.stop_with(rows, done.into_iter().flat_map(|latencies| latencies.expect("a writer ends well")))
}

async fn one(raw: &DatabaseConnection, load: &Load) {
    let backend = raw.get_database_backend();
    let transaction = raw.begin().await.expect("begins");
    let update = "UPDATE conversation SET countable = countable + 1 WHERE id = ?";
    let update =
        Statement::from_sql_and_values(backend, update, [load.conversations[0].0.as_bytes().to_vec().into()]);
    transaction.execute_raw(update).await.expect("moves the counter");
    transaction.execute_raw(insert(backend, load, 1)).await.expect("inserts");
    transaction.commit().await.expect("commits");
}
