//! Storage in SQL: `MariaDB` and MySQL, PostgreSQL, `SQLite`. One adapter; what differs between them is in `dialect`.
//!
//! `transaction` is the write path's hands, `kept` its connections, `unsent`, `exchange` and `batch_text` how it speaks on them, `log` the lanes and outbox, `conversations`, `missed`, `gathered` and `gathering` the read side, `accounts`
//! users and sessions, `contacts`, `devices` and `pushes` what their names say, `relays` the leases of the outbox, `session` what servers are told
//! of our sessions, `pool` the deadlines of all that, `turns` how many snapshots are read at once. Statements are text with bound
//! values (`statement`), because the hot ones are shaped by hand.

mod accounts;
mod batch_text;
mod connect;
mod contacts;
mod conversations;
mod devices;
mod dialect;
mod exchange;
mod gathered;
mod gathering;
mod kept;
mod log;
mod missed;
mod pool;
mod pushes;
mod relays;
mod rows;
mod session;
mod statement;
mod transaction;
mod turns;
mod unsent;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sea_orm::DatabaseConnection;

use crate::LaneLayout;

pub use connect::{ConnectError, PoolSettings};
use dialect::Dialect;
use exchange::Exchange;
use gathering::Gathering;
use kept::Kept;
use pool::Pool;
use turns::Turns;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct SqlStore {
    dialect: Dialect,
    /// On `SQLite` the one connection that writes; elsewhere the same pool as `reader`.
    writer: Pool,
    reader: Pool,
    /// Where reading transactions are opened. Not among the readers of a server, which never see a transaction and so need
    /// no rollback when they are released.
    snapshots: Pool,
    /// How many of them are open at once.
    turns: Turns,
    /// Who waits for one.
    gathering: Gathering,
    /// What the write path keeps between its transactions.
    kept: Kept,
    /// How it speaks on it.
    exchange: Exchange,
    layout: LaneLayout,
    installation: String,
    statements: Arc<AtomicU64>,
}

impl SqlStore {
    /// For migrations and checks, which work below the ports and without a deadline.
    pub const fn connection(&self) -> &DatabaseConnection {
        self.writer.raw()
    }

    /// Whether batches travel as blocks, which are answered once.
    pub fn has_blocks(&self) -> bool {
        self.exchange == Exchange::Block
    }

    /// As with MySQL, which has none: for tests, where there is `MariaDB` alone.
    #[must_use]
    pub fn without_blocks(self) -> Self {
        Self { exchange: Exchange::Statements, ..self }
    }

    /// How many statements were sent since it was opened, for those who promise to send few.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }
}
