//! Everything in which the three databases differ.

use std::fmt::Write as _;

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel,
    RuntimeErr, SqliteTransactionMode, TransactionOptions, TransactionTrait, Value,
    sqlx::{self, mysql::MySqlDatabaseError, postgres::PgDatabaseError, sqlite::SqliteError},
};

use super::statement::Sql;
use crate::{LaneId, port::StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// MySQL and `MariaDB`.
    MySql,
    Postgres,
    Sqlite,
}

impl Dialect {
    pub fn of_url(url: &str) -> Option<Self> {
        match url.split(':').next()? {
            "mysql" | "mariadb" => Some(Self::MySql),
            "postgres" | "postgresql" => Some(Self::Postgres),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }

    pub const fn backend(self) -> DbBackend {
        match self {
            Self::MySql => DbBackend::MySql,
            Self::Postgres => DbBackend::Postgres,
            Self::Sqlite => DbBackend::Sqlite,
        }
    }

    pub fn placeholder(self, text: &mut String, number: usize) {
        match self {
            Self::Postgres => {
                let _ = write!(text, "${number}");
            }
            Self::MySql | Self::Sqlite => text.push('?'),
        }
    }

    /// `SQLite` has one writer, which `BEGIN IMMEDIATE` makes of the whole transaction (trap 9).
    pub const fn for_update(self) -> &'static str {
        match self {
            Self::MySql | Self::Postgres => " FOR UPDATE",
            Self::Sqlite => "",
        }
    }

    /// ` FROM table alias … WHERE …` for the rows with given pairs in two columns, read through an index of both. More
    /// conditions may follow with `AND`.
    pub fn pairs_from(self, sql: Sql, place: &Pairs<'_>, pairs: impl IntoIterator<Item = [Value; 2]>) -> Sql {
        let Pairs { table, alias, index, columns: [first, second] } = *place;
        match self {
            // Left alone, MariaDB weighs every index for every pair, which takes ten times as long as reading the rows.
            Self::MySql => sql
                .push(&format!(" FROM {table} {alias} FORCE INDEX ({index}) WHERE ({alias}.{first}, {alias}.{second}) IN "))
                .tuples(pairs),
            Self::Postgres => {
                sql.push(&format!(" FROM {table} {alias} WHERE ({alias}.{first}, {alias}.{second}) IN ")).tuples(pairs)
            }
            // `IN` with pairs is a scan there; a join in this order is a look-up a pair.
            Self::Sqlite => sql.push(" FROM (VALUES ").rows(pairs).push(&format!(
                ") k CROSS JOIN {table} {alias} ON {alias}.{first} = k.column1 AND {alias}.{second} = k.column2 WHERE 1 = 1"
            )),
        }
    }

    /// `UPDATE table t SET column = g.column …` from the messages at given places; `key` joins `t` with `g`.
    pub fn update_from_messages(
        self,
        table: &str,
        key: &str,
        assignments: &[(&str, &str)],
        places: impl IntoIterator<Item = [Value; 2]>,
    ) -> Sql {
        let set = |target: &str| {
            let each = assignments.iter().map(|(column, value)| format!("{target}{column} = g.{value}"));
            each.collect::<Vec<_>>().join(", ")
        };
        match self {
            // Messages first, by their places; the other way round reads whole conversations.
            Self::MySql => Sql::new(self, "UPDATE message g FORCE INDEX (PRIMARY) STRAIGHT_JOIN ")
                .push(&format!("{table} t ON {key} SET "))
                .push(&set("t."))
                .push(" WHERE (g.conversation_id, g.seq) IN ")
                .tuples(places),
            Self::Postgres => Sql::new(self, &format!("UPDATE {table} t SET "))
                .push(&set(""))
                .push(&format!(" FROM message g WHERE {key} AND (g.conversation_id, g.seq) IN "))
                .tuples(places),
            Self::Sqlite => Sql::new(self, &format!("UPDATE {table} AS t SET "))
                .push(&set(""))
                .push(" FROM (VALUES ")
                .rows(places)
                .push(
                    ") k CROSS JOIN message g ON g.conversation_id = k.column1 AND g.seq = k.column2 WHERE ",
                )
                .push(key),
        }
    }

    /// Opens a writing transaction. The sessions run READ COMMITTED (trap 7).
    pub async fn begin_write(self, on: &DatabaseConnection) -> Result<DatabaseTransaction, StoreError> {
        let mode = (self == Self::Sqlite).then_some(SqliteTransactionMode::Immediate);
        let options =
            TransactionOptions { isolation_level: None, access_mode: None, sqlite_transaction_mode: mode };
        on.begin_with_options(options).await.map_err(store_error)
    }

    /// Opens a snapshot: every read in it sees the same moment.
    pub async fn begin_snapshot(self, on: &DatabaseConnection) -> Result<DatabaseTransaction, StoreError> {
        let options = if self == Self::Sqlite {
            // A deferred transaction in WAL mode reads from the moment of its first read.
            TransactionOptions {
                isolation_level: None,
                access_mode: None,
                sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
            }
        } else {
            TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                sqlite_transaction_mode: None,
            }
        };
        on.begin_with_options(options).await.map_err(store_error)
    }

    /// Locks a lane and takes its next position, in one round trip.
    pub async fn take_position(self, on: &impl ConnectionTrait, lane: LaneId) -> Result<i64, StoreError> {
        let id = lane_number(lane);
        let missing = || StoreError::Fault(format!("lane {id} does not exist").into());
        match self {
            Self::MySql => {
                let update =
                    Sql::new(self, "UPDATE log_lane SET pos = LAST_INSERT_ID(pos + 1) WHERE id = ").bind(id);
                let done = update.run(on).await?;
                if done.rows_affected() != 1 {
                    return Err(missing());
                }
                i64::try_from(done.last_insert_id()).map_err(|error| StoreError::Fault(error.into()))
            }
            Self::Postgres | Self::Sqlite => {
                let update = Sql::new(self, "UPDATE log_lane SET pos = pos + 1 WHERE id = ")
                    .bind(id)
                    .push(" RETURNING pos");
                let row = update.one(on).await?.ok_or_else(missing)?;
                row.try_get_by_index(0).map_err(store_error)
            }
        }
    }

    /// `UPDATE table SET column = v.column … FROM rows v WHERE key = v.key …`: many rows, each with values of its own.
    /// The first `keys` columns are the key. Types are those of the columns, for PostgreSQL, which cannot guess them.
    pub fn update_rows<const N: usize>(
        self,
        table: &str,
        columns: [(&str, &str); N],
        keys: usize,
        rows: impl IntoIterator<Item = [Value; N]>,
    ) -> Sql {
        let assign = |target: &str| {
            columns[keys..]
                .iter()
                .map(|(name, _)| format!("{target}{name} = v.{name}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let join = columns[..keys]
            .iter()
            .map(|(name, _)| format!("t.{name} = v.{name}"))
            .collect::<Vec<_>>()
            .join(" AND ");
        match self {
            Self::MySql => {
                // MariaDB and MySQL spell row constructors differently; both know UNION ALL.
                let mut sql = Sql::new(self, &format!("UPDATE {table} t JOIN ("));
                for (index, row) in rows.into_iter().enumerate() {
                    if index == 0 {
                        sql = named_row(sql, columns, row);
                    } else {
                        sql = sql.push(" UNION ALL SELECT ");
                        sql.values_of(row);
                    }
                }
                sql.push(&format!(") v ON {join} SET {}", assign("t.")))
            }
            Self::Postgres => {
                let names = columns.map(|(name, _)| name).join(", ");
                let sql = Sql::new(self, &format!("UPDATE {table} t SET {} FROM (VALUES ", assign("")));
                typed_rows(sql, columns, rows).push(&format!(") v ({names}) WHERE {join}"))
            }
            Self::Sqlite => {
                let names = columns.map(|(name, _)| name).join(", ");
                Sql::new(self, &format!("WITH v({names}) AS (VALUES "))
                    .rows(rows)
                    .push(&format!(") UPDATE {table} AS t SET {} FROM v WHERE {join}", assign("")))
            }
        }
    }
}

/// Where [`Dialect::from_pairs`] looks.
pub(super) struct Pairs<'a> {
    pub table: &'a str,
    pub alias: &'a str,
    /// The index of both columns, by its name in `MariaDB`.
    pub index: &'a str,
    pub columns: [&'a str; 2],
}

pub(super) const MEMBER_PAIRS: Pairs<'_> =
    Pairs { table: "member", alias: "m", index: "PRIMARY", columns: ["conversation_id", "user_id"] };
pub(super) const MESSAGE_PLACES: Pairs<'_> =
    Pairs { table: "message", alias: "g", index: "PRIMARY", columns: ["conversation_id", "seq"] };
pub(super) const MESSAGE_KEYS: Pairs<'_> = Pairs {
    table: "message",
    alias: "g",
    index: "message_sender_id_client_message_id",
    columns: ["sender_id", "client_message_id"],
};

/// What a driver's error means to a caller. Deadlocks and lock timeouts are for whole-transaction retries (trap 7).
pub(super) fn store_error(error: DbErr) -> StoreError {
    let kind = match &error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => StoreError::Unavailable,
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
            kind_of(inner)
        }
        _ => StoreError::Fault,
    };
    kind(error.into())
}

pub(super) fn lane_number(lane: LaneId) -> i16 {
    lane.0.cast_signed()
}

fn named_row<const N: usize>(mut sql: Sql, columns: [(&str, &str); N], row: [Value; N]) -> Sql {
    sql = sql.push("SELECT ");
    for (index, ((name, _), value)) in columns.into_iter().zip(row).enumerate() {
        sql = sql.push(if index > 0 { ", " } else { "" }).bind(value).push(&format!(" AS {name}"));
    }
    sql
}

/// PostgreSQL takes the columns' types from the first row.
fn typed_rows<const N: usize>(
    mut sql: Sql,
    columns: [(&str, &str); N],
    rows: impl IntoIterator<Item = [Value; N]>,
) -> Sql {
    for (index, row) in rows.into_iter().enumerate() {
        sql = sql.push(if index > 0 { ",(" } else { "(" });
        if index == 0 {
            for (place, ((_, kind), value)) in columns.into_iter().zip(row).enumerate() {
                sql = sql.push(if place > 0 { ", " } else { "" }).bind(value).push(&format!("::{kind}"));
            }
        } else {
            sql.values_of(row);
        }
        sql = sql.push(")");
    }
    sql
}

type Kind = fn(Box<dyn std::error::Error + Send + Sync>) -> StoreError;

fn kind_of(error: &sqlx::Error) -> Kind {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => StoreError::Unavailable,
            _ => StoreError::Fault,
        };
    };
    if database.is_unique_violation() {
        return StoreError::Duplicate;
    }
    let code = database.code().unwrap_or_default();
    if let Some(mysql) = database.try_downcast_ref::<MySqlDatabaseError>() {
        return kind_of_mysql(mysql.number());
    }
    if database.try_downcast_ref::<PgDatabaseError>().is_some() {
        return kind_of_postgres(&code);
    }
    if database.try_downcast_ref::<SqliteError>().is_some() {
        return kind_of_sqlite(code.parse().unwrap_or(0));
    }
    StoreError::Fault
}

/// <https://mariadb.com/kb/en/mariadb-error-code-reference/>
fn kind_of_mysql(number: u16) -> Kind {
    match number {
        // Record changed since last read, lock wait timeout, deadlock, failed auto-increment (a disguised lock failure).
        1020 | 1205 | 1213 | 1467 => StoreError::Conflict,
        // Disk full, too many connections, out of memory, shutdown, table full, read only, killed, packet and idle timeouts.
        1021
        | 1037
        | 1040
        | 1041
        | 1053
        | 1077
        | 1079
        | 1114
        | 1158..=1161
        | 1184
        | 1203
        | 1290
        | 1317
        | 1836
        | 1927
        | 1969
        | 3024
        | 4031 => StoreError::Unavailable,
        _ => StoreError::Fault,
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn kind_of_postgres(code: &str) -> Kind {
    match code {
        // Serialization failure, deadlock, lock not available.
        "40001" | "40P01" | "55P03" => StoreError::Conflict,
        // Connection, resources, operator intervention, system errors, read-only or timed-out transactions.
        _ if ["08", "53", "57", "58"].contains(&code.get(..2).unwrap_or_default()) => StoreError::Unavailable,
        "25006" | "25P03" | "25P04" => StoreError::Unavailable,
        _ => StoreError::Fault,
    }
}

/// <https://www.sqlite.org/rescode.html>; extended codes carry the primary one in the low byte.
fn kind_of_sqlite(code: i32) -> Kind {
    match code & 0xff {
        // BUSY, LOCKED.
        5 | 6 => StoreError::Conflict,
        // NOMEM, READONLY, IOERR, FULL, CANTOPEN.
        7 | 8 | 10 | 13 | 14 => StoreError::Unavailable,
        _ => StoreError::Fault,
    }
}
