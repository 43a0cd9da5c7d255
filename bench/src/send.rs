//! B6: `sendMessage` through the whole product, acknowledged after the commit.
//!
//! Held against the same request that does nothing while something else keeps the database exactly as busy: the work itself, and what
//! it costs to have it committed, is the difference. And against Node, which commits each message by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::ConversationId;

use crate::{
    closed_loop::{Client, Load, Transport},
    connection::Endpoint,
    database::{Bench, SignedIn, random},
    fleet::Fleet,
    measure::{Round, Servers, Stopwatch, histogram},
    peer, raw,
    report::{Report, Target},
    servers::no_op,
    write::{self, BODY},
};

/// How long the clients of one side ask.
pub const ROUND: Duration = Duration::from_millis(1200);
/// What is in an answer that is no error.
pub const SENT: &str = "\"seq\":";

/// Rows of the inserts that keep the database busy.
const BATCH: usize = 200;

const SEND: &str = "mutation Send($input: SendMessageInput!) { sendMessage(input: $input) { message { id seq createdAt } userErrors { code } } }";

/// Numbers of all calls, so that no key comes twice.
static NEXT: AtomicU64 = AtomicU64::new(1);

pub type Body = Box<dyn Fn(&mut String) + Send>;

/// A client's requests, each with a key of its own.
pub fn graphql_body(conversation: &str) -> Body {
    let before = format!(
        r#"{{"query":"{SEND}","variables":{{"input":{{"conversationId":"{conversation}","content":{{"text":{{"text":"{BODY}"}}}},"clientMessageId":""#
    );
    with_key(before, r#""}}}"#)
}

/// The same as a route that is no GraphQL has it.
pub fn rest_body(conversation: &str) -> Body {
    let before = format!(r#"{{"conversationId":"{conversation}","text":"{BODY}","clientMessageId":""#);
    with_key(before, r#""}"#)
}

fn with_key(before: String, after: &'static str) -> Body {
    use std::fmt::Write as _;
    let prefix = random();
    Box::new(move |text| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        text.push_str(&before);
        let _ = write!(text, "{prefix:08x}{number:012x}");
        text.push_str(after);
    })
}

/// The sides of each round, with what the report calls them.
const SIDES: [Side; 4] = [
    Side {
        transport: Transport::Http,
        clients: 256,
        sends: "sendMessage, HTTP, 256 clients",
        no_op: "no-op, HTTP, 256 clients",
    },
    Side {
        transport: Transport::Http,
        clients: 64,
        sends: "sendMessage, HTTP, 64 clients",
        no_op: "no-op, HTTP, 64 clients",
    },
    Side {
        transport: Transport::Socket,
        clients: 256,
        sends: "sendMessage, WebSocket, 256 clients",
        no_op: "no-op, WebSocket, 256 clients",
    },
    Side {
        transport: Transport::Socket,
        clients: 64,
        sends: "sendMessage, WebSocket, 64 clients",
        no_op: "no-op, WebSocket, 64 clients",
    },
];
/// Where the ratio of the page's heading comes from.
const FIRST: usize = 0;
const NODE: [(Transport, &str, usize); 2] =
    [(Transport::Http, "Node, HTTP, 256 clients", 0), (Transport::Socket, "Node, WebSocket, 256 clients", 2)];

struct Side {
    transport: Transport,
    clients: usize,
    sends: &'static str,
    no_op: &'static str,
}

pub async fn b6(bench: &Bench, rounds: usize) -> Report {
    let mut report = Report::new(
        "b6",
        "sendMessage on one API node, a conversation a client, MariaDB, ack after the commit; server CPU is the node's and the database's",
    );
    let setup = Setup::new(bench).await;
    let fleet = Fleet::start(bench, vec!["api"], Vec::new()).await;
    let edges = no_op(bench, None);
    let node = peer::start(bench).await;
    let database = Servers::from(bench.server_process);
    let with_database = |own| Servers::All(vec![own, database.clone()]);
    let committed = async || {
        let commits = fleet.metric("confab_commits_total").await;
        (
            commits,
            fleet.metric("confab_commit_items_total").await,
            fleet.metric("confab_commit_seconds_sum").await,
        )
    };
    let mut batches = vec![(0.0, 0.0, 0.0); SIDES.len()];
    for round in 0..rounds {
        for (index, side) in SIDES.iter().enumerate() {
            let load = setup.load(side, fleet.ports()[0], with_database(fleet.processes()), false);
            let before = committed().await;
            let (sent, cores) = with_cores_of(&database, load.run()).await;
            let (after, sum) = (committed().await, &mut batches[index]);
            *sum = (sum.0 + after.0 - before.0, sum.1 + after.1 - before.1, sum.2 + after.2 - before.2);
            let busy = raw::keep_busy(bench, &setup.raw, BATCH, cores);
            let load = setup.load(side, edges.port, edges.processes(), false);
            let (nothing, busy_cores) = with_cores_of(&database, load.run()).await;
            busy.stop().await;
            println!(
                "round {round}, {}: {:.0}/s, database {cores:.2} cores; no-op {:.0}/s, database {busy_cores:.2} cores",
                side.sends,
                sent.rate(),
                nothing.rate()
            );
            if index == FIRST {
                report.calibration(side.no_op, nothing);
                report.measured(side.sends, sent);
            } else {
                report.also(side.no_op, nothing);
                report.also(side.sends, sent);
            }
        }
        for (transport, label, side) in NODE {
            let side = Side { transport, ..SIDES[side] };
            let load = setup.load(&side, node.port, with_database(node.processes()), true);
            report.also(label, load.run().await);
        }
    }
    report.note(format!("MariaDB has {}.", bench.sizes_of_server().await));
    for (side, (commits, items, seconds)) in SIDES.iter().zip(batches) {
        report.note_rates(side.sends, side.no_op);
        report.note(format!(
            "{}: {:.1} messages a transaction, which takes {:.2} ms.",
            side.sends,
            items / commits,
            1000.0 * seconds / commits
        ));
    }
    for (_, label, side) in NODE {
        report.note_times(SIDES[side].sends, label);
    }
    report.target(Target { reach: 0.5, dream: Some(0.7), p99_millis: None });
    fleet.stop().await;
    report
}

struct Setup {
    /// One sends in each.
    senders: Vec<(SignedIn, ConversationId)>,
    raw: Arc<write::Load>,
}

impl Setup {
    async fn new(bench: &Bench) -> Self {
        let most = SIDES.iter().map(|side| side.clients).max().unwrap_or_default();
        let users = bench.signed_in(i64::try_from(most * 2).expect("few")).await;
        let groups = bench.groups_of(2, &users).await;
        let senders = users.into_iter().step_by(2).zip(groups).collect();
        let raw = write::Load::new(bench, 1000).await;
        raw::create_table(bench).await;
        Self { senders, raw }
    }

    fn load(&self, side: &Side, port: u16, servers: Servers, of_peer: bool) -> Load {
        let clients = self.senders.iter().take(side.clients).map(|(user, conversation)| {
            let token = if of_peer { peer::token(user.caller.user) } else { user.token.clone() };
            let endpoint = Endpoint { port, path: "/graphql", token: Some(token) };
            Client { endpoint, body: graphql_body(&conversation.to_string()) }
        });
        let clients = clients.collect();
        Load { clients, transport: side.transport, wanted: SENT, lasts: ROUND, servers, spins: false }
    }
}

/// What comes of something, and how many cores the servers used meanwhile.
async fn with_cores_of(servers: &Servers, work: impl Future<Output = Round>) -> (Round, f64) {
    let watch = Stopwatch::start(servers.clone());
    let round = work.await;
    let whole = watch.stop(1, &histogram());
    (round, whole.server_cpu.as_secs_f64() / whole.elapsed.as_secs_f64())
}
