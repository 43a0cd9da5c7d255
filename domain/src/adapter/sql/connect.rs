//! Connections: pools, what each session is set to, and the check that the schema fits this binary.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::{
        self, Connection, Executor as _,
        pool::PoolConnectionMetadata,
        sqlite::{SqliteJournalMode, SqliteSynchronous},
    },
};
use tokio::{net::TcpStream, time::timeout};

use super::{
    SqlStore,
    dialect::{Dialect, store_error},
    exchange::Exchange,
    gathering::Gathering,
    kept::Kept,
    pool::Pool,
    session::{self, check_bounds},
    statement::Sql,
    turns::Turns,
};
use crate::{LaneLayout, port::StoreError};

const KNOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Distinct statements kept prepared a connection: what writes a batch comes in some twenty sizes each.
const STATEMENTS_CACHED_MAX: usize = 256;

/// Idle connections are pinged before use after this long.
const PING_AFTER_IDLE: Duration = Duration::from_secs(5);
/// Well before MySQL ends an idle session that is for transactions; see `session`.
const MYSQL_PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// A third of what a statement may wait for a connection by default: one that answers no ping still leaves time to open another.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Pages of 4 KiB in the write-ahead log before they are moved into the database: 32 MiB. A batch writes some 300, and a page
/// that several batches wrote is moved once.
const SQLITE_CHECKPOINT_PAGES: &str = "8192";
/// `SQLite` readers beside the one writer.
const SQLITE_READERS: u32 = 4;

/// How many connections, and how long to wait for one.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// On `SQLite` unused: one writer and a few readers.
    pub connections_max: u32,
    pub acquire_timeout: Duration,
    /// How long a statement may take, `BEGIN` and `COMMIT` included; above what the servers let a session wait for locks (see `session`),
    /// so that their answer comes first. On `SQLite` unused.
    pub statement_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            connections_max: 24,
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(5),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the database URL must start with sqlite:, mysql: or postgres:")]
    UnknownScheme,
    #[error("cannot reach the database")]
    Connect(#[source] DbErr),
    #[error("cannot reach the database")]
    Unreachable(#[source] std::io::Error),
    #[error("the schema is not there yet or too old: run `confab migrate`")]
    SchemaMissing,
    #[error(
        "this binary is too old for the schema, which allows version {allowed} and later; this is {have}"
    )]
    BinaryTooOld { allowed: i32, have: i32 },
    #[error("the database cannot be written")]
    ReadOnly(#[source] StoreError),
    #[error("the server does not keep what it acknowledges: {0}")]
    NotDurable(String),
    #[error("the server lets a session hold what others wait for: {0}")]
    Unbounded(String),
    #[error("storage failed")]
    Store(#[from] StoreError),
}

impl SqlStore {
    /// Connects without looking at the schema: for migrations.
    pub async fn connect_raw(url: &str, settings: PoolSettings) -> Result<DatabaseConnection, ConnectError> {
        let dialect = Dialect::of_url(url).ok_or(ConnectError::UnknownScheme)?;
        connect(dialect, url, settings, 1, Use::Transactions).await
    }

    /// Connects and checks that schema and binary fit each other. `schema_version` is what this binary needs.
    pub async fn open(url: &str, settings: PoolSettings, schema_version: i32) -> Result<Self, ConnectError> {
        let dialect = Dialect::of_url(url).ok_or(ConnectError::UnknownScheme)?;
        let statements = Arc::new(AtomicU64::new(0));
        let counted = async |connections_max, usage| {
            let raw = connect(dialect, url, settings, connections_max, usage).await?;
            let pool = Pool::new(dialect, usage, raw, settings.statement_timeout, statements.clone());
            Ok::<_, ConnectError>(pool)
        };
        let half = (settings.connections_max / 2).max(1);
        let (writer, reader, snapshots) = if dialect == Dialect::Sqlite {
            let writer = counted(1, Use::Transactions).await?;
            let reader = counted(SQLITE_READERS, Use::Transactions).await?;
            (writer, reader.clone(), reader)
        } else {
            let writer = counted(half, Use::Transactions).await?;
            (writer.clone(), counted(half, Use::Statements).await?, writer)
        };
        let (lanes, installation) = check_schema(dialect, &reader, schema_version).await?;
        check_writable(dialect, &writer).await?;
        check_durability(dialect, &writer).await?;
        let exchange = match dialect {
            Dialect::MySql => Exchange::of_server(&writer).await?,
            Dialect::Postgres | Dialect::Sqlite => Exchange::Statements,
        };
        check_bounds(dialect, &writer, Use::Transactions).await?;
        if dialect != Dialect::Sqlite {
            check_bounds(dialect, &reader, Use::Statements).await?;
        }
        let layout = LaneLayout { count: lanes };
        // They share the pool of those who commit.
        let turns = Turns::below_half_of(if dialect == Dialect::Sqlite { SQLITE_READERS } else { half });
        let kept = Kept::of_pool(if dialect == Dialect::MySql { half } else { 0 });
        let gathering = Gathering::default();
        Ok(Self {
            dialect,
            writer,
            reader,
            snapshots,
            turns,
            gathering,
            kept,
            exchange,
            layout,
            installation,
            statements,
        })
    }

    /// A random id made with the schema: no other installation has it.
    pub fn installation(&self) -> &str {
        &self.installation
    }

    /// Closes the pools; statements under way finish.
    pub async fn close(&self) {
        self.kept.close();
        let _ = self.reader.raw().close_by_ref().await;
        let _ = self.writer.raw().close_by_ref().await;
        let _ = self.snapshots.raw().close_by_ref().await;
    }
}

/// What a pool's connections are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Single statements; nobody begins a transaction.
    Statements,
    /// Transactions too. A `begin` that was cancelled half way leaves one open on the connection, and what the next borrower
    /// writes would be lost with it (trap 1). Callers run in tasks that nobody cancels; a rollback at every release is the
    /// second guard.
    Transactions,
}

async fn connect(
    dialect: Dialect,
    url: &str,
    settings: PoolSettings,
    connections_max: u32,
    usage: Use,
) -> Result<DatabaseConnection, ConnectError> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections_max)
        .min_connections(u32::from(dialect == Dialect::Sqlite))
        .acquire_timeout(settings.acquire_timeout)
        .connect_timeout(settings.acquire_timeout)
        .test_before_acquire(false)
        .sqlx_logging(false);
    match dialect {
        Dialect::MySql => mysql(&mut options, usage),
        Dialect::Postgres => postgres(&mut options, usage),
        Dialect::Sqlite => sqlite(&mut options),
    }
    match Database::connect(options).await {
        Ok(pool) => Ok(pool),
        // A pool tries a refused connection again until its time is over, and then says no more than that.
        Err(error) => {
            Err(knock(url).await.err().map_or(ConnectError::Connect(error), ConnectError::Unreachable))
        }
    }
}

/// Whether somebody listens at the address of a server.
async fn knock(url: &str) -> std::io::Result<()> {
    let Ok(url) = url.parse::<url::Url>() else { return Ok(()) };
    let (Some(host), Some(port)) = (url.host_str(), url.port()) else { return Ok(()) };
    let host = host.trim_matches(['[', ']']);
    match timeout(KNOCK_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(connected) => connected.map(drop),
        Err(late) => Err(late.into()),
    }
}

/// No gap locks (trap 7).
const MYSQL_ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

fn mysql(options: &mut ConnectOptions, usage: Use) {
    let ping_after = if usage == Use::Transactions { MYSQL_PING_AFTER_IDLE } else { PING_AFTER_IDLE };
    options.map_sqlx_mysql_opts(|options| options.statement_cache_capacity(STATEMENTS_CACHED_MAX));
    options.map_sqlx_mysql_pool_opts(move |pool| {
        let bounds = session::mysql(usage);
        let pool = pool.after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(bounds).await?;
                connection.execute(MYSQL_ISOLATION).await?;
                Ok(())
            })
        });
        let pool = pool.before_acquire(move |connection, known| {
            Box::pin(async move { answers(connection, ping_after, known).await })
        });
        match usage {
            Use::Statements => pool,
            // How long it may take is `pool`'s.
            Use::Transactions => pool.after_release(|connection, _| {
                Box::pin(async move { Ok(connection.execute("ROLLBACK").await.is_ok()) })
            }),
        }
    });
}

fn postgres(options: &mut ConnectOptions, usage: Use) {
    options.map_sqlx_postgres_opts(|options| {
        options
            .statement_cache_capacity(STATEMENTS_CACHED_MAX)
            .application_name("confab")
            .options(session::POSTGRES)
    });
    options.map_sqlx_postgres_pool_opts(move |pool| {
        let pool = pool.before_acquire(|connection, known| {
            Box::pin(async move { answers(connection, PING_AFTER_IDLE, known).await })
        });
        match usage {
            Use::Statements => pool,
            // How long it may take is `pool`'s.
            Use::Transactions => pool.after_release(|connection, _| {
                Box::pin(async move { Ok(connection.execute("ROLLBACK").await.is_ok()) })
            }),
        }
    });
}

/// A connection that was idle is asked for a sign of life. An error makes the pool close it without another word over it, and open one
/// in its place.
async fn answers(
    connection: &mut impl Connection,
    after_idle: Duration,
    known: PoolConnectionMetadata,
) -> Result<bool, sqlx::Error> {
    if known.idle_for >= after_idle {
        timeout(PING_TIMEOUT, connection.ping()).await.map_err(std::io::Error::from)??;
    }
    Ok(true)
}

fn sqlite(options: &mut ConnectOptions) {
    // Trap 9: write-ahead log, and a sync of it at every commit.
    options.max_lifetime(None::<Duration>).idle_timeout(None::<Duration>);
    options.map_sqlx_sqlite_opts(|options| {
        options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(STATEMENTS_CACHED_MAX)
            .pragma("wal_autocheckpoint", SQLITE_CHECKPOINT_PAGES)
            .pragma("cache_size", "-65536")
            .pragma("temp_store", "memory")
    });
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.after_release(|connection, _| {
            Box::pin(async move {
                // Fails when no transaction is open, which is as it should be.
                let _ = connection.execute("ROLLBACK").await;
                Ok(true)
            })
        })
    });
}

/// The number of lanes and the installation's id, if binary and schema fit.
async fn check_schema(
    dialect: Dialect,
    on: &Pool,
    schema_version: i32,
) -> Result<(u16, String), ConnectError> {
    let applied = Sql::new(dialect, "SELECT COUNT(*) FROM seaql_migrations").one(on).await;
    let applied = match applied {
        Ok(Some(row)) => row.try_get_by_index::<i64>(0).unwrap_or(0),
        Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
        _ => return Err(ConnectError::SchemaMissing),
    };
    if applied < i64::from(schema_version) {
        return Err(ConnectError::SchemaMissing);
    }
    let meta = Sql::new(dialect, "SELECT lanes, binary_min, installation FROM confab_meta WHERE id = 1")
        .one(on)
        .await?;
    let meta = meta.ok_or(ConnectError::SchemaMissing)?;
    let column = |error| ConnectError::Store(store_error(error));
    let lanes: i16 = meta.try_get_by_index(0).map_err(column)?;
    let binary_min: i32 = meta.try_get_by_index(1).map_err(column)?;
    if schema_version < binary_min {
        return Err(ConnectError::BinaryTooOld { allowed: binary_min, have: schema_version });
    }
    Ok((lanes.unsigned_abs(), meta.try_get_by_index(2).map_err(column)?))
}

/// Servers look at rights, and at being a read-only copy, before they look for rows.
async fn check_writable(dialect: Dialect, writer: &Pool) -> Result<(), ConnectError> {
    match Sql::new(dialect, "UPDATE log_lane SET pos = pos WHERE id = -1").run(writer).await {
        Ok(_) => Ok(()),
        Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_))) => Err(error.into()),
        Err(error) => Err(ConnectError::ReadOnly(error)),
    }
}

impl SqlStore {
    /// Whether the server takes writes: one may become a read-only copy while it runs.
    pub async fn takes_writes(&self) -> Result<bool, StoreError> {
        let sql = match self.dialect {
            Dialect::MySql => "SELECT CAST(@@read_only AS SIGNED)",
            Dialect::Postgres => {
                "SELECT CAST(CAST(current_setting('transaction_read_only') AS boolean) AS bigint)"
            }
            // A file is looked at once, at the start.
            Dialect::Sqlite => return Ok(true),
        };
        let row = Sql::new(self.dialect, sql).one(&self.reader).await?;
        Ok(row.and_then(|row| row.try_get_by_index::<i64>(0).ok()) == Some(0))
    }
}

/// Acked is kept only on a server that flushes at commit (P1).
async fn check_durability(dialect: Dialect, on: &Pool) -> Result<(), ConnectError> {
    let problem = match dialect {
        Dialect::MySql => {
            let sql = "SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@sync_binlog AS SIGNED), \
                CAST(@@log_bin AS SIGNED)";
            let row = Sql::new(dialect, sql).one(on).await?;
            let number =
                |index| row.as_ref().and_then(|row| row.try_get_by_index::<i64>(index).ok()).unwrap_or(-1);
            mysql_durability(number(0), number(1), number(2))
        }
        Dialect::Postgres => {
            let on_off = async |name: &str| {
                let row = Sql::new(dialect, &format!("SELECT current_setting('{name}')")).one(on).await?;
                Ok::<_, StoreError>(row.and_then(|row| row.try_get_by_index::<String>(0).ok()))
            };
            let commit = on_off("synchronous_commit").await?;
            if on_off("fsync").await?.as_deref() != Some("on") {
                Some("fsync is not on")
            } else if commit.as_deref() == Some("off") {
                Some("synchronous_commit is off")
            } else {
                None
            }
        }
        Dialect::Sqlite => {
            let row = Sql::new(dialect, "PRAGMA synchronous").one(on).await?;
            let level = row.and_then(|row| row.try_get_by_index::<i32>(0).ok());
            (level != Some(2)).then_some("PRAGMA synchronous is not FULL")
        }
    };
    problem.map_or(Ok(()), |problem| Err(ConnectError::NotDurable(problem.to_owned())))
}

/// What is wrong with `innodb_flush_log_at_trx_commit`, `sync_binlog` and `log_bin`; -1 is a value that could not be read.
const fn mysql_durability(flush: i64, sync_binlog: i64, log_bin: i64) -> Option<&'static str> {
    if flush != 1 {
        Some("innodb_flush_log_at_trx_commit is not 1")
    } else if log_bin != 0 && sync_binlog != 1 {
        Some("sync_binlog is not 1")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mysql_that_does_not_flush_at_commit_is_refused_by_name() {
        for flush in [-1, 0, 2, 3] {
            let problem = mysql_durability(flush, 1, 0).expect("a problem");
            assert!(problem.starts_with("innodb_flush_log_at_trx_commit"), "{flush}: {problem}");
        }
        for (sync_binlog, log_bin) in [(0, 1), (100, 1), (-1, 1), (0, -1)] {
            assert_eq!(mysql_durability(1, sync_binlog, log_bin), Some("sync_binlog is not 1"));
        }
        // Without a binary log there is nothing to sync.
        for (sync_binlog, log_bin) in [(1, 1), (0, 0), (1, 0)] {
            assert_eq!(mysql_durability(1, sync_binlog, log_bin), None);
        }
    }
}
