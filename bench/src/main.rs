//! Benchmarks: `cargo run --release -p bench -- b5`. Some start the `confab` and the `calibration` that were built beside this program.
//!
//! Absolute times on shared machines mean nothing, so every figure is a ratio to a calibration that does the same work by
//! the shortest way, interleaved with it round by round; the median of the rounds counts. CPU time stands beside it.
//! Each run prints a table, writes JSON and an SVG beside `RESULTS.md`, and replaces its section there.

mod closed_loop;
mod coalesced;
mod connection;
mod database;
mod delivery;
mod fan_out;
mod fleet;
mod general_log;
mod idle;
mod large_group;
mod list;
mod measure;
mod one_conversation;
mod peer;
mod presence;
mod push;
mod raw;
mod reconnect;
mod report;
mod send;
mod servers;
mod slow_readers;
mod small_groups;
mod sockets;
mod tally;
mod tax;
mod write;

use std::sync::Arc;

use clap::{Parser, ValueEnum};

use crate::{database::Bench, report::Report};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(about = "Benchmarks of Confab, each a ratio to a calibration of the same run")]
struct Arguments {
    #[arg(required = true)]
    names: Vec<Name>,
    /// Rounds of each; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Messages a round of the write benchmarks.
    #[arg(long, default_value_t = 60_000)]
    messages: usize,
    /// Sockets of B3.
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// Messages a second of B3.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Members online in B4; each takes a socket and, for the calibration, two more descriptors.
    #[arg(long, default_value_t = 5000)]
    online: usize,
    /// Sockets of B7 and B8.
    #[arg(long, default_value_t = 8000)]
    idle: usize,
    /// MariaDB for all but B5s, without a database name. Without it they run on `CONFAB_TEST_MARIADB_URL`.
    #[arg(long)]
    server: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// One conversation of 500 on sockets, one event at a time, against bare sends of the same bytes, and against Node.
    B1,
    /// The same at up to 1,000 messages/s, so that several go together.
    B2,
    /// Groups of ten on two nodes, from sending to every receipt.
    B3,
    /// A group of ten thousand, from sending to the last receipt.
    B4,
    /// The write engine against a raw multi-row insert of the same rows.
    B5,
    /// One hot conversation against one transaction a message.
    B5h,
    /// The write engine on the embedded default against raw batched `SQLite`.
    B5s,
    /// `sendMessage` over HTTP and WebSocket against a no-op while the database works as hard, and against Node.
    B6,
    /// A no-op `sendMessage` against a plain route of axum.
    B6t,
    /// What an idle socket holds of memory and takes of CPU.
    B7,
    /// A node with all sockets is killed; all resume on another, against as many bare connections.
    B8,
    /// B1 with 5 % of the sockets not reading for a minute.
    B9,
    /// From the outbox over Kafka and a worker to a push provider, against a producer alone.
    B10,
    /// Conversation list and history page over GraphQL against the same rows by plain SQL.
    B11,
    /// What presence takes: of an idle user, and of a change.
    Presence,
}

#[tokio::main]
async fn main() {
    // Without TLS; but in one build with others, its provider has to be chosen (see `workers`).
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    let server = arguments.server.clone().or_else(database::server_of_environment);
    for name in &arguments.names {
        let bench = Arc::new(match name {
            Name::B5s => database::embedded().await,
            _ => database::server(server.as_deref()).await,
        });
        let report = arguments.run(*name, &bench).await;
        report.print();
        report.save();
        bench.drop_database().await;
    }
}

impl Arguments {
    async fn run(&self, name: Name, bench: &Arc<Bench>) -> Report {
        let Self { rounds, sockets, rate, online, idle, .. } = *self;
        match name {
            Name::B1 => one_conversation::b1(bench, rounds).await,
            Name::B2 => coalesced::b2(bench, rounds).await,
            Name::B3 => small_groups::b3(bench, rounds, sockets, rate).await,
            Name::B4 => large_group::b4(bench, rounds, online).await,
            Name::B5 => write::b5(bench, &self.plan()).await,
            Name::B5h => write::b5h(bench, &self.plan()).await,
            Name::B5s => write::b5s(bench, &self.plan()).await,
            Name::B6 => send::b6(bench, rounds).await,
            Name::B6t => tax::b6t(bench, rounds).await,
            Name::B7 => idle::b7(bench, rounds, idle).await,
            Name::B8 => reconnect::b8(bench, rounds, idle).await,
            Name::B9 => slow_readers::b9(bench, rounds).await,
            Name::B10 => push::b10(bench, rounds).await,
            Name::B11 => list::b11(bench, rounds).await,
            Name::Presence => presence::presence(bench, rounds, idle).await,
        }
    }

    fn plan(&self) -> write::Plan {
        write::Plan { rounds: self.rounds, messages: self.messages, in_flight: 256 }
    }
}
