//! The servers that the product is measured against: its own edges with a mutation that does nothing, axum alone, and bare sockets.
//!
//! Each is a process of its own, so that its CPU time is, and says on its first line which port it has.

mod bare;
mod no_op;
mod plain;

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Parser, Subcommand};
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    server: Server,
}

#[derive(Subcommand)]
enum Server {
    /// The edges of the product, and a `sendMessage` that does nothing.
    NoOp {
        /// A database with users.
        #[arg(long)]
        database: String,
        /// The keys of their tokens.
        #[arg(long)]
        keys: PathBuf,
    },
    /// A route of axum that reads and answers JSON.
    Plain,
    /// Sockets that get the same bytes, by the shortest way.
    Bare {
        #[arg(long, default_value_t = 1)]
        frames_a_send: usize,
    },
}

#[tokio::main]
async fn main() {
    match Arguments::parse().server {
        Server::NoOp { database, keys } => {
            observe();
            no_op::serve(&database, &keys).await;
        }
        Server::Plain => plain::serve().await,
        Server::Bare { frames_a_send } => bare::serve(frames_a_send),
    }
}

/// Logs and metrics as the product has them, which every request pays for.
fn observe() {
    let lines = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
    tracing_subscriber::registry().with(EnvFilter::new("info")).with(lines.with_writer(io::stderr)).init();
    PrometheusBuilder::new().install_recorder().expect("a recorder");
}

/// Tells who started it.
fn listening(port: u16) {
    let mut out = io::stdout();
    writeln!(out, "{port}").and_then(|()| out.flush()).expect("somebody reads");
}
