//! Breaks a running installation and looks whether Confab keeps its promises: `cargo run -p bench --bin faults -- --help`.
//!
//! Users chat over GraphQL with two of each role while processes and back ends are killed, stopped and emptied. Each client journals what
//! it asked, was told and saw; at the end the checker compares all that with SQL. Nothing here knows the inside of Confab.
//! Back ends come from `scripts/services` by way of its environment (`CONFAB_TEST_…`), nodes from the built binary.

mod actors;
mod checker;
mod client;
mod cluster;
mod journal;

use std::{
    error::Error,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use domain::{ConversationId, MessageId, UserId};
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    actors::Stage,
    client::Api,
    cluster::{Cluster, Setup, service},
    journal::{Moment, Row},
};

type Failure = Box<dyn Error + Send + Sync>;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients converge within this after a fault has healed (RELIABILITY).
const CONVERGED_WITHIN: Duration = Duration::from_secs(5);
/// How long the last deliveries may take before the checker is asked what is missing.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
const BETWEEN_FAULTS: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(about = "Breaks a running installation and checks what clients were told")]
struct Arguments {
    /// Which faults; all of them unless named.
    faults: Vec<Fault>,
    /// How often each.
    #[arg(long, default_value_t = 3)]
    cycles: usize,
    /// Seconds that a back end stays away.
    #[arg(long, default_value_t = 2)]
    down: u64,
    #[arg(long, default_value_t = 12)]
    users: usize,
    #[arg(long, default_value_t = 8)]
    groups: usize,
    /// Milliseconds between two sends of a user.
    #[arg(long, default_value_t = 200)]
    pause: u64,
    /// The binary under test.
    #[arg(long)]
    binary: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fault {
    KillApi,
    KillDomain,
    KillWorker,
    KillMariadb,
    KillRedis,
    KillKafka,
    StopApi,
    StopDomain,
    StopWorker,
    FlushRedis,
    RollingRestart,
}

impl Fault {
    /// Whether sends go on while it lasts.
    const fn lets_send(self) -> bool {
        !matches!(self, Self::KillMariadb)
    }
}

/// What a fault did to those who chat.
struct Done {
    fault: Fault,
    begun: Moment,
    ended: Moment,
    unknown: u64,
    back_after: Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Without TLS; but in one build with others, its provider has to be chosen (see `workers`).
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the harness is configured like the tests")]
fn from_environment(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| format!("{name} is not set: eval \"$(scripts/services env)\"").into())
}

async fn run(arguments: Arguments) -> Result<bool, Failure> {
    let server = from_environment("CONFAB_TEST_MARIADB_URL")?;
    let name = format!("confab_faults_{}", std::process::id());
    let connection = Database::connect(format!("{}/confab_dev", server.trim_end_matches('/'))).await?;
    connection.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
    let folder = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&folder)?;
    let setup = Setup {
        binary: std::fs::canonicalize(&arguments.binary)?,
        folder: folder.clone(),
        database: format!("{}/{name}", server.trim_end_matches('/')),
        redis: from_environment("CONFAB_TEST_REDIS_URL")?,
        brokers: from_environment("CONFAB_TEST_KAFKA_BROKERS")?,
    };
    let database = setup.database.clone();
    let redis = setup.redis.clone();
    let mut cluster = Cluster::start(setup).await?;
    let outcome = break_things(&arguments, &mut cluster, &database, &redis).await;
    drop(cluster);
    connection.execute_unprepared(&format!("DROP DATABASE {name}")).await?;
    match &outcome {
        Ok(true) => std::fs::remove_dir_all(&folder)?,
        _ => println!("logs: {}", folder.display()),
    }
    outcome
}

async fn break_things(
    arguments: &Arguments,
    cluster: &mut Cluster,
    database: &str,
    redis: &str,
) -> Result<bool, Failure> {
    let api = Api::new(cluster.api_urls())?;
    let pause = Duration::from_millis(arguments.pause);
    let stage = Stage::set(api, "user", arguments.users, arguments.groups, pause).await?;
    let (tasks, stop_sending, stop) =
        (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    stage.play(&tasks, &stop_sending, &stop);
    sleep(BETWEEN_FAULTS).await;
    let resources: Vec<_> = (0..cluster.nodes.len()).map(|node| cluster.resources(node)).collect();

    let faults =
        if arguments.faults.is_empty() { Fault::value_variants().to_vec() } else { arguments.faults.clone() };
    let mut done = Vec::new();
    for fault in faults {
        println!("{fault:?} × {}", arguments.cycles);
        let (mut worst, unknown) = (Duration::ZERO, stage.unknowns.load(Ordering::Relaxed));
        let begun = stage.now();
        for cycle in 0..arguments.cycles {
            let acks = stage.acks.load(Ordering::Relaxed);
            inject(fault, cycle, Duration::from_secs(arguments.down), cluster, redis).await?;
            if fault.lets_send() && stage.acks.load(Ordering::Relaxed) == acks {
                stage.complain(format!("{fault:?}: nothing was acked while it lasted"));
            }
            worst = worst.max(back_after(&stage).await);
            sleep(BETWEEN_FAULTS).await;
        }
        if worst > CONVERGED_WITHIN {
            stage
                .complain(format!("{fault:?}: {:.1} s until every node answered again", worst.as_secs_f64()));
        }
        let unknown = stage.unknowns.load(Ordering::Relaxed) - unknown;
        done.push(Done { fault, begun, ended: stage.now(), unknown, back_after: worst });
    }
    stop_sending.cancel();
    let begun = Instant::now();
    let mut late = Vec::new();
    loop {
        let behind = stage.behind();
        if behind.is_empty() || begun.elapsed() > SETTLED_WITHIN {
            break;
        }
        if late.is_empty() && begun.elapsed() > CONVERGED_WITHIN {
            late = behind;
        }
        sleep(Duration::from_millis(100)).await;
    }
    println!("all delivered {:.1} s after the last send", begun.elapsed().as_secs_f64());
    for who in late {
        stage.complain(format!("{who} {} s after the last send", CONVERGED_WITHIN.as_secs()));
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    for (node, before) in resources.into_iter().enumerate() {
        let role = cluster.nodes[node].role;
        if let (Some((memory, open)), Some((memory_then, open_then))) = (cluster.resources(node), before) {
            println!(
                "{role}: {} MiB, {open} descriptors (first {}, {open_then})",
                memory / 1024,
                memory_then / 1024
            );
        }
    }
    stage.fetch_all().await;
    relay_is_done(cluster, &stage).await;
    let mut journal = stage.journal().clone();
    journal.rows = rows(database).await?;
    let violations = checker::check(&journal);
    println!("{:<16} {:>10} {:>12} {:>18}", "fault", "unknown", "back after", "slowest delivery");
    for Done { fault, begun, ended, unknown, back_after } in done {
        let slowest = journal.slowest_delivery(begun, ended).as_secs_f64();
        let (fault, back_after) = (format!("{fault:?}"), back_after.as_secs_f64());
        println!("{fault:<16} {unknown:>10} {back_after:>10.1} s {slowest:>16.1} s");
    }
    let acked = stage.acks.load(Ordering::Relaxed);
    println!(
        "{acked} acked, {} tries, {} deliveries, {} rows",
        journal.attempts.len(),
        journal.seen.len(),
        journal.rows.len()
    );
    for violation in violations.iter().take(50) {
        println!("VIOLATION {}: {}", violation.invariant, violation.what);
    }
    println!("{} violations", violations.len());
    Ok(violations.is_empty())
}

/// Breaks something, and mends it.
async fn inject(
    fault: Fault,
    cycle: usize,
    down: Duration,
    cluster: &mut Cluster,
    redis: &str,
) -> Result<(), Failure> {
    let one_of = |cluster: &Cluster, role: &str| {
        let nodes = cluster.of_role(role);
        nodes[cycle % nodes.len()]
    };
    match fault {
        Fault::KillApi | Fault::KillDomain | Fault::KillWorker => {
            let role = match fault {
                Fault::KillApi => "api",
                Fault::KillDomain => "domain",
                _ => "worker",
            };
            let node = one_of(cluster, role);
            cluster.kill(node)?;
            sleep(down).await;
            cluster.begin(node)?;
        }
        Fault::KillMariadb | Fault::KillRedis | Fault::KillKafka => {
            let name = match fault {
                Fault::KillMariadb => "mariadb",
                Fault::KillRedis => "redis",
                _ => "kafka",
            };
            let script = PathBuf::from("scripts/services");
            let call = async |verb: &'static str| {
                let script = script.clone();
                tokio::task::spawn_blocking(move || service(&script, verb, name)).await
            };
            call("kill").await??;
            sleep(down).await;
            call("up").await??;
        }
        Fault::StopApi | Fault::StopDomain | Fault::StopWorker => {
            let role = match fault {
                Fault::StopApi => "api",
                Fault::StopDomain => "domain",
                _ => "worker",
            };
            let node = one_of(cluster, role);
            cluster.signal(node, "-STOP")?;
            // Longer than a lane's lease and than a call's deadline.
            sleep(down.max(Duration::from_secs(7))).await;
            cluster.signal(node, "-CONT")?;
        }
        Fault::FlushRedis => {
            let mut connection = redis::connect(redis).await?;
            connection.flush().await?;
            sleep(down).await;
        }
        Fault::RollingRestart => {
            for node in 0..cluster.nodes.len() {
                let code = cluster.terminate(node).await?;
                if code != Some(0) {
                    return Err(format!("{} ended with {code:?}", cluster.nodes[node].role).into());
                }
                cluster.begin(node)?;
                cluster.ready(node).await?;
            }
        }
    }
    Ok(())
}

/// How long until each node answers again.
async fn back_after(stage: &Arc<Stage>) -> Duration {
    let begun = Instant::now();
    for at in 0..stage.api.urls.len() {
        let (conversation, members) = &stage.groups[0];
        let token = &stage.users[members[0]].token;
        while stage.api.page(at, token, conversation, None).await.is_none() {
            sleep(Duration::from_millis(50)).await;
        }
    }
    begun.elapsed()
}

/// Everything committed has gone to Kafka.
async fn relay_is_done(cluster: &Cluster, stage: &Stage) {
    let begun = Instant::now();
    let mut waiting = String::new();
    while begun.elapsed() < SETTLED_WITHIN {
        waiting.clear();
        for node in cluster.of_role("worker") {
            let url = format!("http://127.0.0.1:{}/metrics", cluster.nodes[node].admin);
            let Ok(answer) = reqwest::get(url).await else { continue };
            let Ok(text) = answer.text().await else { continue };
            let backlog =
                text.lines().filter(|line| line.starts_with("confab_relay_backlog") && !line.ends_with(" 0"));
            waiting.extend(backlog);
        }
        if waiting.is_empty() {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
    stage.complain(format!("the relay is not done: {waiting}"));
}

/// All messages in SQL, with the names that clients know them by.
async fn rows(database: &str) -> Result<Vec<Row>, Failure> {
    let connection = Database::connect(database).await?;
    let sql = "SELECT conversation_id, seq, id, sender_id, client_message_id FROM message";
    let found = connection.query_all_raw(Statement::from_string(DbBackend::MySql, sql)).await?;
    let rows = found.into_iter().map(|row| {
        let conversation: Vec<u8> = row.try_get_by_index(0)?;
        let conversation =
            <[u8; 16]>::try_from(conversation).map_err(|_| "a conversation's id has 16 bytes")?;
        let sender: Option<i64> = row.try_get_by_index(3)?;
        let key: Option<Vec<u8>> = row.try_get_by_index(4)?;
        Ok(Row {
            conversation: ConversationId::from_bytes(conversation)?.to_string(),
            seq: row.try_get_by_index::<i32>(1)?.into(),
            id: MessageId(row.try_get_by_index(2)?).to_string(),
            sender: sender.map(|sender| UserId(sender).to_string()),
            key: key.map(|key| String::from_utf8_lossy(&key).into_owned()),
        })
    });
    rows.collect()
}

/// The few words of Redis that a fault needs.
mod redis {
    use std::io;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    pub struct Connection(TcpStream);

    pub async fn connect(url: &str) -> io::Result<Connection> {
        let place = url.trim_start_matches("redis://").split('/').next().unwrap_or_default();
        TcpStream::connect(place).await.map(Connection)
    }

    impl Connection {
        /// Empties the server.
        pub async fn flush(&mut self) -> io::Result<()> {
            self.0.write_all(b"FLUSHALL\r\n").await?;
            let mut answer = [0; 5];
            self.0.read_exact(&mut answer).await?;
            if &answer == b"+OK\r\n" { Ok(()) } else { Err(io::Error::other("FLUSHALL is refused")) }
        }
    }
}
