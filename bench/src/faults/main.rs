//! Breaks a running installation and looks whether Confab keeps its promises: `cargo run -p bench --bin faults -- --help`.
//!
//! Users chat over GraphQL with two of each role, and others are removed and brought back, while processes and back ends are killed,
//! stopped and emptied, and the links between them spoiled. Each client journals what it asked, was told and saw; at the end the checker
//! compares all that with SQL. Nothing here knows the inside of Confab.
//! Back ends come from `scripts/services` by way of its environment (`CONFAB_TEST_…`, `SERVICES_DIR`), nodes from the built binary.

mod actors;
mod checker;
mod client;
mod disconnects;
mod fault;
mod fetch;
mod fold;
mod journal;
mod listener;
mod movers;
mod report;
mod revocations;
mod soak;
mod storm;

use std::{
    error::Error,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bench::cluster::{Cluster, Setup};
use clap::{Parser, ValueEnum as _};
use domain::{ConversationId, MessageId, UserId};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    actors::{Cast, Stage},
    client::Api,
    fault::Fault,
    journal::{Holding, Row},
    report::{Tally, report},
};

type Failure = Box<dyn Error + Send + Sync>;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Clients converge within this after the last fault has healed (RELIABILITY).
const CONVERGED_WITHIN: Duration = Duration::from_secs(5);
/// How long the last deliveries may take before the checker is asked what is missing.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
const GIVEN_UP_AFTER: Duration = Duration::from_mins(1);
/// Before the first look at what processes hold.
const SETTLED_AT_FIRST: Duration = Duration::from_secs(2);
/// A transaction is idle for less than this, or the server ends it.
const TRANSACTION_SECONDS_MAX: u64 = 5;

#[derive(Parser)]
#[command(about = "Breaks a running installation and checks what clients were told")]
struct Arguments {
    /// Which faults; all of them unless named.
    faults: Vec<Fault>,
    /// How often each, in turns.
    #[arg(long, default_value_t = 3)]
    cycles: usize,
    /// Seconds that something stays away.
    #[arg(long, default_value_t = 2)]
    down: u64,
    /// How often each fault of a back end instead.
    #[arg(long)]
    back_end_cycles: Option<usize>,
    /// Seconds that a back end stays away instead.
    #[arg(long)]
    back_end_down: Option<u64>,
    /// No further fault after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    #[arg(long, default_value_t = 12)]
    users: usize,
    /// Members who are removed and brought back all the time.
    #[arg(long, default_value_t = 4)]
    movers: usize,
    #[arg(long, default_value_t = 8)]
    groups: usize,
    /// Senders in each group, and one of those who come and go; half of the senders and all who move unless set.
    #[arg(long)]
    members: Option<usize>,
    /// All faults in turns, however often it takes until so many messages and other changes were committed.
    #[arg(long)]
    events: Option<u64>,
    /// No faults but clients that come and go for so many minutes, and at the end nothing may have grown.
    #[arg(long, conflicts_with_all = ["faults", "cycles", "events"])]
    soak: Option<u64>,
    /// Milliseconds between two sends of a user.
    #[arg(long, default_value_t = 200)]
    pause: u64,
    /// Seconds without a fault after each.
    #[arg(long, default_value_t = 2)]
    rest: u64,
    /// The binary under test.
    #[arg(long)]
    binary: PathBuf,
}

impl Arguments {
    fn cycles_of(&self, fault: Fault) -> usize {
        self.back_end_cycles.filter(|_| fault.is_of_back_end()).unwrap_or(self.cycles)
    }

    fn down_of(&self, fault: Fault) -> Duration {
        Duration::from_secs(self.back_end_down.filter(|_| fault.is_of_back_end()).unwrap_or(self.down))
    }

    /// In turns, so that a run that ends early has seen them all.
    fn schedule(&self) -> impl Iterator<Item = (Fault, usize)> {
        let faults = if self.faults.is_empty() { Fault::value_variants() } else { &self.faults };
        let most = faults.iter().map(|fault| self.cycles_of(*fault)).max().unwrap_or(0);
        let most = if self.events.is_some() { usize::MAX } else { most };
        (0..most)
            .flat_map(|cycle| faults.iter().map(move |fault| (*fault, cycle)))
            .filter(|(fault, cycle)| self.events.is_some() || *cycle < self.cycles_of(*fault))
    }
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
        keys: None,
        roles: vec!["domain", "domain", "api", "api", "worker", "worker"],
        environment: Vec::new(),
        proxied: true,
    };
    let database = setup.database.clone();
    let services = from_environment("SERVICES_DIR").unwrap_or_else(|_| "/tmp/confab-services".to_owned());
    let mut cluster = Cluster::start(setup, services.into()).await?;
    let outcome = break_things(&arguments, &mut cluster, &database).await;
    drop(cluster);
    // Its server may have been killed meanwhile, and the connection with it.
    let connection = Database::connect(format!("{}/confab_dev", server.trim_end_matches('/'))).await?;
    connection.execute_unprepared(&format!("DROP DATABASE {name}")).await?;
    match &outcome {
        Ok(true) => std::fs::remove_dir_all(&folder)?,
        _ => println!("logs: {}", folder.display()),
    }
    outcome
}

async fn break_things(arguments: &Arguments, cluster: &mut Cluster, database: &str) -> Result<bool, Failure> {
    let api = Api::new(cluster.api_urls())?;
    let pause = Duration::from_millis(arguments.pause);
    let Arguments { users: senders, movers, groups, members, .. } = *arguments;
    let cast = Cast { senders, movers, groups, members };
    let stage = Stage::set(api, "user", &cast, pause).await?;
    let (acting, stop_acting) = (TaskTracker::new(), CancellationToken::new());
    let (listening, stop_listening) = (TaskTracker::new(), CancellationToken::new());
    stage.play((&acting, &stop_acting), (&listening, &stop_listening));
    sleep(SETTLED_AT_FIRST).await;
    let first: Vec<_> = (0..cluster.nodes.len()).map(|node| cluster.resources(node)).collect();

    let tallies = match arguments.soak {
        Some(minutes) => soak::soak(cluster, &stage, Duration::from_mins(minutes)).await,
        None => inject_all(arguments, cluster, &stage).await?,
    };

    stop_acting.cancel();
    acting.close();
    acting.wait().await;
    settle(&stage).await;
    stop_listening.cancel();
    listening.close();
    listening.wait().await;
    for (node, first) in first.into_iter().enumerate() {
        let process = format!("{} {}", cluster.nodes[node].role, cluster.nodes[node].port);
        if let (Some(first), Some(last)) = (first, cluster.resources(node)) {
            stage.journal().holdings.push(Holding { process, first, last });
        }
    }
    stage.fetch_all().await;
    relay_is_done(cluster, &stage).await;
    let connection = Database::connect(database).await?;
    no_transaction_is_open(&connection, &stage).await?;
    let mut journal = stage.journal().clone();
    journal.rows = rows(&connection).await?;
    let is_clean = report(&stage, &journal, &tallies);
    if !is_clean {
        std::fs::write(cluster.folder().join("journal"), format!("{journal:#?}"))?;
    }
    Ok(is_clean)
}

async fn inject_all(
    arguments: &Arguments,
    cluster: &mut Cluster,
    stage: &Arc<Stage>,
) -> Result<Vec<Tally>, Failure> {
    let mut tallies: Vec<Tally> = Vec::new();
    let until = arguments.minutes.map(|minutes| Instant::now() + Duration::from_mins(minutes));
    for (fault, cycle) in arguments.schedule() {
        if until.is_some_and(|until| Instant::now() > until) {
            println!("the time is over before {fault:?} {cycle}");
            break;
        }
        if arguments.events.is_some_and(|events| stage.events() >= events) {
            break;
        }
        let place = tallies.iter().position(|tally| tally.fault == fault).unwrap_or_else(|| {
            let (spans, unknown, back_after) = (Vec::new(), 0, Duration::ZERO);
            tallies.push(Tally { fault, spans, unknown, back_after });
            tallies.len() - 1
        });
        let tally = &mut tallies[place];
        let counts = || (stage.acks.load(Ordering::Relaxed), stage.unknowns.load(Ordering::Relaxed));
        let ((acks, unknown), begun) = (counts(), stage.now());
        fault.inject(cycle, arguments.down_of(fault), cluster, stage).await?;
        if fault.lets_send() && counts().0 == acks {
            stage.complain(format!("{fault:?} {cycle}: nothing was acked while it lasted"));
        }
        let mended = Instant::now();
        answer_again(stage).await.map_err(|error| format!("{fault:?} {cycle}: {error}"))?;
        if fault.stops_relay() {
            relays_again(cluster).await;
        }
        let back_after = mended.elapsed();
        if back_after > fault.back_within() {
            let seconds = back_after.as_secs_f64();
            stage.complain(format!("{fault:?} {cycle}: {seconds:.1} s until everything worked again"));
        }
        println!(
            "{fault:?} {cycle}: back after {:.1} s; {} events committed, {} disconnects",
            back_after.as_secs_f64(),
            stage.events(),
            stage.disconnects.load(Ordering::Relaxed)
        );
        tally.back_after = tally.back_after.max(back_after);
        sleep(Duration::from_secs(arguments.rest)).await;
        tally.spans.push((begun, stage.now()));
        tally.unknown += counts().1 - unknown;
    }
    Ok(tallies)
}

/// Waits until everybody has all that was acked, or no longer.
async fn settle(stage: &Stage) {
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
}

/// Waits until each node answers; one that does not within a minute never will.
async fn answer_again(stage: &Arc<Stage>) -> Result<(), Failure> {
    let begun = Instant::now();
    for at in 0..stage.api.urls.len() {
        let (conversation, members) = &stage.groups[0];
        let token = &stage.users[members[0]].token;
        while stage.api.page(at, token, conversation, None).await.is_none() {
            if begun.elapsed() > GIVEN_UP_AFTER {
                return Err(format!("{} does not answer any more", stage.api.urls[at]).into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Records that the living workers have relayed since each began.
async fn relayed(cluster: &Cluster) -> u64 {
    let values = metrics(cluster, "worker", "confab_relayed_total").await;
    values.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Waits until the relay goes on.
async fn relays_again(cluster: &Cluster) {
    let (begun, before) = (Instant::now(), relayed(cluster).await);
    while relayed(cluster).await <= before && begun.elapsed() < SETTLED_WITHIN {
        sleep(Duration::from_millis(50)).await;
    }
}

/// The lines of a metric in all processes of a role.
async fn metrics(cluster: &Cluster, role: &str, name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for node in cluster.of_role(role) {
        let url = format!("http://127.0.0.1:{}/metrics", cluster.nodes[node].admin);
        let Ok(answer) = reqwest::get(url).await else { continue };
        let Ok(text) = answer.text().await else { continue };
        lines.extend(text.lines().filter(|line| line.starts_with(name)).map(str::to_owned));
    }
    lines
}

/// Everything committed has gone to Kafka.
async fn relay_is_done(cluster: &Cluster, stage: &Stage) {
    let begun = Instant::now();
    let mut waiting = Vec::new();
    while begun.elapsed() < SETTLED_WITHIN {
        waiting = metrics(cluster, "worker", "confab_relay_backlog").await;
        waiting.retain(|line| !line.ends_with(" 0"));
        if waiting.is_empty() {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
    stage.complain(format!("the relay is not done: {waiting:?}"));
}

/// A client that went away, or a process, leaves no transaction behind.
async fn no_transaction_is_open(connection: &DatabaseConnection, stage: &Stage) -> Result<(), Failure> {
    let sql = format!(
        "SELECT t.trx_started, t.trx_state, p.command FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
         ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE() AND t.trx_started < NOW() - INTERVAL {TRANSACTION_SECONDS_MAX} SECOND"
    );
    let open = connection.query_all_raw(Statement::from_string(DbBackend::MySql, sql)).await?;
    if !open.is_empty() {
        stage.complain(format!("{} transactions are open: {open:?}", open.len()));
    }
    Ok(())
}

/// All messages in SQL, with the names that clients know them by.
async fn rows(connection: &DatabaseConnection) -> Result<Vec<Row>, Failure> {
    let sql = "SELECT conversation_id, seq, id, sender_id, client_message_id, created_rev FROM message";
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
            rev: row.try_get_by_index::<i32>(5)?.into(),
            id: MessageId(row.try_get_by_index(2)?).to_string(),
            sender: sender.map(|sender| UserId(sender).to_string()),
            key: key.map(|key| String::from_utf8_lossy(&key).into_owned()),
        })
    });
    rows.collect()
}
