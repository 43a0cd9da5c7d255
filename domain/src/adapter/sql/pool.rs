//! Connections on which nobody waits for ever.
//!
//! A link whose packets vanish says nothing, so only a deadline tells that the other side is gone. sqlx has one for the wait for a
//! connection; a statement, and the look at a connection that is given back, wait as long as TCP does, and keep their place in the pool.
//! Here each has its deadline, and past it the connection is closed by dropping it: nothing more is said over it, and its place is free
//! at once. A connection whose statement did not come to its end is never lent again where there are transactions: one may be open
//! (trap 1), and an answer may still come. (sqlx 0.9 reads past an answer that nobody waited for, but not past that of a MySQL statement
//! it was just preparing: there it waits for an answer that never comes, until the deadline here.)
//!
//! What works below this, through [`Pool::raw`], has no deadlines: migrations, which may take long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
    Values,
    sqlx::{self, AssertSqlSafe, Executor as _, MySql, Postgres, Sqlite, pool::PoolConnection},
};
use sea_query_sqlx::SqlxValues;
use tokio::{
    sync::Mutex,
    time::{error::Elapsed, timeout},
};
use tokio_util::task::TaskTracker;

use super::{connect::Use, dialect::Dialect};

/// How long a connection that is given back may take to come to rest: to pass over what nobody waits for any more, to roll back, and to
/// answer.
const REST_TIMEOUT: Duration = Duration::from_secs(2);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    dialect: Dialect,
    usage: Use,
    raw: DatabaseConnection,
    /// How long a statement may take, `BEGIN` and `COMMIT` included; `SQLite`, which has no link that could break, takes its time.
    statement_timeout: Option<Duration>,
    statements: Arc<AtomicU64>,
    /// Connections that are coming to rest.
    releases: TaskTracker,
}

impl Pool {
    /// `statements` counts those that are sent.
    pub fn new(
        dialect: Dialect,
        usage: Use,
        raw: DatabaseConnection,
        statement_timeout: Duration,
        statements: Arc<AtomicU64>,
    ) -> Self {
        let statement_timeout = (dialect != Dialect::Sqlite).then_some(statement_timeout);
        Self { dialect, usage, raw, statement_timeout, statements, releases: TaskTracker::new() }
    }

    pub const fn raw(&self) -> &DatabaseConnection {
        &self.raw
    }

    async fn lease(&self) -> Result<Lease, DbErr> {
        let connection = match self.dialect {
            Dialect::MySql => self.raw.get_mysql_connection_pool().acquire().await.map(Connection::MySql),
            Dialect::Postgres => {
                self.raw.get_postgres_connection_pool().acquire().await.map(Connection::Postgres)
            }
            Dialect::Sqlite => self.raw.get_sqlite_connection_pool().acquire().await.map(Connection::Sqlite),
        };
        let connection = connection.map_err(|error| DbErr::Conn(runtime(error)))?;
        Ok(Lease { connection: Some(connection), is_at_rest: true, pool: self.clone() })
    }

    /// Opens a transaction by a text without values, which may be several statements.
    pub async fn begin(&self, opening: &'static str) -> Result<Transaction, DbErr> {
        let mut lease = self.lease().await?;
        lease.say(opening).await?;
        Ok(Transaction { dialect: self.dialect, lease: Mutex::new(lease) })
    }
}

#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        self.dialect.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.lease().await?.execute(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.lease().await?.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.lease().await?.one(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.lease().await?.all(statement).await
    }
}

/// A transaction that is open. Dropped, it is rolled back when its connection comes to rest, or with its connection.
pub(super) struct Transaction {
    dialect: Dialect,
    lease: Mutex<Lease>,
}

impl Transaction {
    /// An error that is not the database's own word leaves open whether it was committed.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.lease.into_inner().say("COMMIT").await
    }

    pub async fn rollback(self) -> Result<(), DbErr> {
        self.lease.into_inner().say("ROLLBACK").await
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.dialect.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.lease.lock().await.execute(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.lease.lock().await.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.lease.lock().await.one(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.lease.lock().await.all(statement).await
    }
}

enum Connection {
    MySql(PoolConnection<MySql>),
    Postgres(PoolConnection<Postgres>),
    Sqlite(PoolConnection<Sqlite>),
}

macro_rules! each {
    ($connection:expr, $one:ident => $work:expr) => {
        match $connection {
            Connection::MySql($one) => $work,
            Connection::Postgres($one) => $work,
            Connection::Sqlite($one) => $work,
        }
    };
}

/// A connection that is out of its pool.
struct Lease {
    /// `None` once it was closed.
    connection: Option<Connection>,
    /// Whether all that was asked on it has been answered.
    is_at_rest: bool,
    pool: Pool,
}

impl Lease {
    async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.count();
        let (sql, values) = parts(statement);
        self.bounded(|connection| {
            Box::pin(async move {
                let query = each!(connection, one => {
                    sqlx::query_with(sql, values).execute(&mut **one).await.map(ExecResult::from)
                });
                query.map_err(|error| DbErr::Exec(runtime(error)))
            })
        })
        .await
    }

    async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        self.count();
        let sql = AssertSqlSafe(sql.to_owned());
        self.bounded(|connection| {
            Box::pin(async move {
                let done = each!(connection, one => one.execute(sql).await.map(ExecResult::from));
                done.map_err(|error| DbErr::Exec(runtime(error)))
            })
        })
        .await
    }

    async fn one(&mut self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.count();
        let (sql, values) = parts(statement);
        self.bounded(|connection| {
            Box::pin(async move {
                let row = each!(connection, one => {
                    let query = sqlx::query_with(sql, values).fetch_optional(&mut **one).await;
                    query.map(|row| row.map(QueryResult::from))
                });
                row.map_err(|error| DbErr::Query(runtime(error)))
            })
        })
        .await
    }

    async fn all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.count();
        let (sql, values) = parts(statement);
        self.bounded(|connection| {
            Box::pin(async move {
                let rows = each!(connection, one => {
                    let query = sqlx::query_with(sql, values).fetch_all(&mut **one).await;
                    query.map(|rows| rows.into_iter().map(QueryResult::from).collect())
                });
                rows.map_err(|error| DbErr::Query(runtime(error)))
            })
        })
        .await
    }

    /// A text without values, in one exchange.
    async fn say(&mut self, text: &'static str) -> Result<(), DbErr> {
        self.bounded(|connection| {
            Box::pin(async move {
                let said = each!(connection, one => one.execute(text).await.map(drop));
                said.map_err(|error| DbErr::Exec(runtime(error)))
            })
        })
        .await
    }

    fn count(&self) {
        self.pool.statements.fetch_add(1, Ordering::Relaxed);
    }

    async fn bounded<T>(
        &mut self,
        work: impl for<'a> FnOnce(&'a mut Connection) -> BoxFuture<'a, Result<T, DbErr>> + Send,
    ) -> Result<T, DbErr> {
        let connection = self.connection.as_mut().ok_or_else(|| gone("the connection was closed"))?;
        self.is_at_rest = false;
        let done = within(self.pool.statement_timeout, work(connection)).await;
        match done {
            Ok(done) => {
                self.is_at_rest = true;
                done
            }
            Err(_) => {
                if let Some(connection) = self.connection.take() {
                    connection.close();
                }
                Err(gone("the database did not answer in time"))
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.is_at_rest || self.pool.usage == Use::Statements || self.pool.dialect == Dialect::Sqlite {
            connection.give_back(&self.pool.releases);
        } else {
            connection.close();
        }
    }
}

impl Connection {
    /// Takes it out of the pool, which may open another, and drops it.
    fn close(self) {
        each!(self, one => drop(one.detach()));
    }

    /// As its own drop would do, but not for longer than [`REST_TIMEOUT`].
    fn give_back(self, releases: &TaskTracker) {
        let returned: BoxFuture<'static, ()> = match self {
            Self::MySql(mut one) => Box::pin(one.return_to_pool()),
            Self::Postgres(mut one) => Box::pin(one.return_to_pool()),
            // Only its own drop also sees to the writer that has to be there.
            Self::Sqlite(one) => return drop(one),
        };
        releases.spawn(async move {
            if timeout(REST_TIMEOUT, returned).await.is_err() {
                tracing::warn!("a connection to the database was closed: it did not come to rest in time");
            }
        });
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    match limit {
        Some(limit) => timeout(limit, work).await,
        None => Ok(work.await),
    }
}

fn parts(statement: Statement) -> (AssertSqlSafe<String>, SqlxValues) {
    (AssertSqlSafe(statement.sql), SqlxValues(statement.values.unwrap_or(Values(Vec::new()))))
}

fn runtime(error: sqlx::Error) -> RuntimeErr {
    RuntimeErr::SqlxError(Arc::new(error))
}

fn gone(why: &str) -> DbErr {
    DbErr::Conn(RuntimeErr::Internal(why.to_owned()))
}
