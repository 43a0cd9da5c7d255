//! B7: thousands of sockets that are signed in, subscribed and silent: what each holds of memory, and takes of CPU.

use std::{fs, io, sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::sleep};

use crate::{
    database::Bench,
    delivery::EVENTS,
    fan_out::{Board, own_thread},
    fleet::Fleet,
    measure::{Servers, Stopwatch, histogram},
    peer,
    report::{Report, Target, median},
    sockets::{Wanted, live_all},
    tally,
};

const MEMBERS: usize = 10;
/// Opened and closed before memory is looked at: what the first of all make a server take, such as pages of its program and of its allocator,
/// is not what the next one costs.
const SOCKETS_AT_FIRST: usize = 200;
/// Of the peer: enough to divide by.
const SOCKETS_OF_PEER: usize = 2000;
/// Before memory is read: what connecting took is given back, and the first pings have gone round.
const SETTLED_AFTER: Duration = Duration::from_secs(12);
const ROUND: Duration = Duration::from_secs(20);

/// KiB of a process.
#[derive(Clone, Copy, Debug)]
struct Memory {
    resident: f64,
    proportional: f64,
}

/// A server, its process and its idle sockets.
struct Idle {
    process: u32,
    sockets: usize,
    /// When it had just started, and when the first sockets had come and gone.
    cold: Memory,
    before: Memory,
}

pub async fn b7(bench: &Bench, rounds: usize, sockets: usize) -> Report {
    let mut report = Report::new(
        "b7",
        "Idle sockets, signed in and subscribed, on one of two API nodes; an operation is a socket's second",
    );
    report.compare_server_cpu();
    let users = bench.signed_in(i64::try_from(sockets).expect("few")).await;
    bench.groups_of(MEMBERS, &users).await;
    // The second node has no sockets, and does all else that the first does.
    let fleet = Fleet::start(bench, vec!["api", "api"], Vec::new()).await;
    let node = peer::live(None);
    let readers = own_thread();
    let ids = [fleet.cluster.id(0), fleet.cluster.id(1)].map(|id| id.expect("it runs"));
    let tokens: Vec<String> = users.into_iter().map(|user| user.token).collect();
    let theirs = tokens.iter().take(SOCKETS_OF_PEER).cloned().collect();
    sleep(SETTLED_AFTER / 4).await;
    let mine = Idle::open(&readers, ids[0], fleet.ports()[0], tokens).await;
    let theirs = Idle::open(&readers, node.ids()[0], node.port, theirs).await;
    let before = memory_of(ids[1]).expect("it runs");
    let without = Idle { process: ids[1], sockets, cold: before, before };
    sleep(SETTLED_AFTER).await;
    report.note(format!("Memory of a socket: {}; on Node {}.", mine.grown(), theirs.grown()));
    let mut own = Vec::new();
    for round in 0..rounds {
        let watches = [&mine, &theirs, &without].map(Idle::watch);
        sleep(ROUND).await;
        let [mine, theirs, without] = watches.map(|(watch, operations)| watch.stop(operations, &histogram()));
        println!("round {round}: {mine:?}");
        own.push(mine.server_cpu_micros() - without.server_cpu_micros());
        report.also("the node without sockets, for as many", without);
        report.calibration("Node graphql-ws, 2,000 sockets", theirs);
        report.measured("idle sockets", mine);
    }
    report.note(format!(
        "CPU µs a second of a socket: the whole node's (reach 1.5, dream 0.5); without what the node takes that has no sockets **{:.2}**.",
        median(own.into_iter())
    ));
    report.note(format!(
        "Memory of a socket after the rounds: {}; on Node {}.",
        mine.grown(),
        theirs.grown()
    ));
    report.note("Memory to reach 8 KB, to dream of 4 KB. The ratio is to Node's CPU.".to_owned());
    let live = fleet.metric("confab_subscriptions").await;
    report.note(format!("{live:.0} subscriptions were live at the end."));
    report.target(Target { reach: 1.0, dream: None, p99_millis: None });
    fleet.stop().await;
    report
}

impl Idle {
    async fn open(readers: &Handle, process: u32, port: u16, tokens: Vec<String>) -> Self {
        let sockets = tokens.len();
        let thread = readers.clone();
        let opening = async move {
            let live = async |tokens: Vec<String>| {
                let wanted =
                    tokens.into_iter().map(|token| Wanted { port, token, query: EVENTS, after: None });
                live_all(wanted.collect()).await.expect("live sockets")
            };
            let cold = memory_of(process).expect("it runs");
            drop(live(tokens.iter().take(SOCKETS_AT_FIRST).cloned().collect()).await);
            sleep(SETTLED_AFTER / 4).await;
            let before = memory_of(process).expect("it runs");
            let board = Arc::new(Board::new(0));
            for socket in live(tokens).await {
                // Answers pings.
                drop(thread.spawn(tally::count(board.clone(), socket, 0)));
            }
            (cold, before)
        };
        let (cold, before) = readers.spawn(opening).await.expect("all are live");
        Self { process, sockets, cold, before }
    }

    fn watch(&self) -> (Stopwatch, usize) {
        let seconds = usize::try_from(ROUND.as_secs()).unwrap_or(1);
        (Stopwatch::start(Servers::Processes(vec![self.process])), self.sockets * seconds)
    }

    /// By what the process has grown since the first sockets had gone, and since its start.
    fn grown(&self) -> String {
        let now = memory_of(self.process).expect("it runs");
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
        let each = |kib: f64, sockets: usize| kib / sockets as f64;
        // What the first have left behind may serve as many again.
        let more = self.sockets.saturating_sub(SOCKETS_AT_FIRST).max(1);
        format!(
            "{:.2} KiB RSS, {:.2} KiB PSS ({} sockets; with what the first of all made it take {:.2} and {:.2})",
            each(now.resident - self.before.resident, more),
            each(now.proportional - self.before.proportional, more),
            self.sockets,
            each(now.resident - self.cold.resident, self.sockets),
            each(now.proportional - self.cold.proportional, self.sockets)
        )
    }
}

fn memory_of(process: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    match (kib("Rss:"), kib("Pss:")) {
        (Some(resident), Some(proportional)) => Ok(Memory { resident, proportional }),
        _ => Err(io::Error::other("smaps_rollup has other names")),
    }
}
