//! Connections to MySQL and `MariaDB` that stay with the write path between its transactions.
//!
//! The pool rolls back and pings what it takes back, and opens a transaction apart from its first statement. A committer that has the
//! next batch ready sends all of it in one exchange with the server instead (`unsent`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sea_orm::ConnectionTrait as _;
use tokio::time::Instant;

use super::pool::Transaction;

/// After more silence the pool looks first whether the server is still there, as with any idle connection.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// After this long the pool has it back, and may find it too old.
const KEPT_FOR_MAX: Duration = Duration::from_mins(1);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Kept {
    /// `None` once closed.
    idle: Arc<Mutex<Option<Vec<Line>>>>,
    connections_max: usize,
}

/// A connection on which no transaction is open, whatever the type says: what ends it was sent as text. When it is dropped, a
/// rollback is sent and the pool has it back.
pub(super) struct Line {
    pub connection: Transaction,
    taken_from_pool: Instant,
    used: Instant,
}

impl Line {
    pub fn new(connection: Transaction) -> Self {
        let now = Instant::now();
        Self { connection, taken_from_pool: now, used: now }
    }
}

impl Kept {
    /// Keeps at most a third of a pool of so many, and so none of a pool of one or two.
    pub fn of_pool(connections: u32) -> Self {
        let connections_max = usize::try_from(connections / 3).unwrap_or(0);
        Self { idle: Arc::new(Mutex::new(Some(Vec::new()))), connections_max }
    }

    pub fn take(&self) -> Option<Line> {
        let now = Instant::now();
        let mut idle = self.idle();
        let line = idle.as_mut()?.pop()?;
        let fresh = now.duration_since(line.used) < SILENCE_MAX
            && now.duration_since(line.taken_from_pool) < KEPT_FOR_MAX;
        fresh.then_some(line)
    }

    /// One with a transaction open, if one is kept that is still sound.
    pub async fn begin(&self) -> Option<Line> {
        let line = self.take()?;
        line.connection.execute_unprepared("BEGIN").await.is_ok().then_some(line)
    }

    /// After a transaction has been committed or rolled back in so many words. After an error, or where the outcome is unknown,
    /// the connection is dropped instead.
    pub fn put(&self, line: Line) {
        let mut idle = self.idle();
        if let Some(idle) = idle.as_mut().filter(|idle| idle.len() < self.connections_max) {
            idle.push(Line { used: Instant::now(), ..line });
        }
    }

    /// Rolls back and keeps the connection; one that cannot even do that is closed by the pool, and the server rolls back then.
    pub async fn roll_back(&self, line: Line) {
        if line.connection.execute_unprepared("ROLLBACK").await.is_ok() {
            self.put(line);
        }
    }

    /// Gives all of them back to the pool, and keeps no more.
    pub fn close(&self) {
        self.idle().take();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Option<Vec<Line>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
