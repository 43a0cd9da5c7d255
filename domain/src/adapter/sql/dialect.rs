//! Everything in which the three databases differ.

use std::fmt::Write as _;

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, RuntimeErr, Value,
    sqlx::{self, mysql::MySqlDatabaseError, postgres::PgDatabaseError, sqlite::SqliteError},
};

use super::{
    pool::{Pool, Transaction},
    statement::Sql,
};
use crate::{LaneId, port::StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// MySQL and `MariaDB`.
    MySql,
    Postgres,
    Sqlite,
}

/// What an insert does where the row is there already, in the words of each.
pub(super) struct Otherwise {
    pub mysql: &'static str,
    pub postgres: &'static str,
    pub sqlite: &'static str,
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

    /// What tells the optimiser of MySQL and `MariaDB` how to read a table.
    pub const fn hint(self, hint: &'static str) -> &'static str {
        match self {
            Self::MySql => hint,
            Self::Postgres | Self::Sqlite => "",
        }
    }

    /// The start of an `INSERT` of several rows. `SQLite` copies every page aside to undo the statement alone should a row fail;
    /// here a failed statement undoes the whole transaction.
    pub const fn insert(self) -> &'static str {
        match self {
            Self::MySql | Self::Postgres => "INSERT INTO ",
            Self::Sqlite => "INSERT OR FAIL INTO ",
        }
    }

    pub const fn otherwise(self, what: &Otherwise) -> &'static str {
        match self {
            Self::MySql => what.mysql,
            Self::Postgres => what.postgres,
            Self::Sqlite => what.sqlite,
        }
    }

    /// Opens a writing transaction. The sessions run READ COMMITTED (trap 7).
    pub async fn begin_write(self, on: &Pool) -> Result<Transaction, StoreError> {
        let opening = match self {
            Self::MySql | Self::Postgres => "BEGIN",
            Self::Sqlite => "BEGIN IMMEDIATE",
        };
        on.begin(opening).await.map_err(store_error)
    }

    /// Opens a snapshot: every read in it sees the same moment.
    pub async fn begin_snapshot(self, on: &Pool) -> Result<Transaction, StoreError> {
        let opening = match self {
            Self::MySql => "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            // In WAL mode it reads from the moment of its first read.
            Self::Sqlite => "BEGIN DEFERRED",
        };
        on.begin(opening).await.map_err(store_error)
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

    /// Locks lanes and takes their next positions if these are the last ones in this epoch; answers whether they were.
    pub async fn take_positions_after(
        self,
        on: &impl ConnectionTrait,
        epoch: i64,
        last: &[(LaneId, i64)],
    ) -> Result<bool, StoreError> {
        let pairs = last.iter().map(|(lane, pos)| [lane_number(*lane).into(), (*pos).into()]);
        if self == Self::Postgres {
            // Its UPDATE locks in no particular order, so that two of them could wait for each other.
            let lock = Sql::new(self, "SELECT id FROM log_lane WHERE (id, pos) IN ").tuples(pairs);
            let lock = lock.push(" AND (SELECT epoch FROM confab_meta WHERE id = 1) = ").bind(epoch);
            let locked = lock.push(" ORDER BY id FOR UPDATE").all(on).await?;
            if locked.len() != last.len() {
                return Ok(false);
            }
            let lanes = last.iter().map(|(lane, _)| lane_number(*lane));
            let update = Sql::new(self, "UPDATE log_lane SET pos = pos + 1 WHERE id IN ").list(lanes);
            return update.run(on).await.map(|_| true);
        }
        let update = Sql::new(self, "UPDATE log_lane SET pos = pos + 1 WHERE (");
        let update = pairs.enumerate().fold(update, |update, (index, [lane, pos])| {
            let update = update.push(if index > 0 { " OR (id = " } else { "(id = " }).bind(lane);
            update.push(" AND pos = ").bind(pos).push(")")
        });
        let update = update.push(") AND (SELECT epoch FROM confab_meta WHERE id = 1) = ").bind(epoch);
        let taken = update.run(on).await?.rows_affected();
        Ok(usize::try_from(taken) == Ok(last.len()))
    }

    /// Writes new values into rows that exist, many in one statement, and fails when one is missing. MySQL has it as text (`batch_text`).
    pub async fn update_rows<const N: usize>(
        self,
        on: &impl ConnectionTrait,
        what: &RowUpdate<N>,
        mut rows: Vec<[Value; N]>,
    ) -> Result<(), StoreError> {
        let Some(last) = rows.last().cloned() else { return Ok(()) };
        let wanted = rows.len();
        rows.resize(statement_rows(wanted), last);
        let done = self.update_statement(what, rows).run(on).await?;
        let found = usize::try_from(done.rows_affected()).unwrap_or(usize::MAX);
        if found == wanted {
            return Ok(());
        }
        Err(StoreError::Fault(format!("{wanted} rows of {} to update, {found} found", what.table).into()))
    }

    fn update_statement<const N: usize>(self, what: &RowUpdate<N>, rows: Vec<[Value; N]>) -> Sql {
        let RowUpdate { table, columns, keys } = *what;
        let names = columns.map(|(name, _)| name).join(", ");
        let set = columns[keys..].iter().map(|(name, _)| format!("{name} = v.{name}"));
        let set = set.collect::<Vec<_>>().join(", ");
        let join = columns[..keys].iter().map(|(name, _)| format!("t.{name} = v.{name}"));
        let join = join.collect::<Vec<_>>().join(" AND ");
        if self == Self::Postgres {
            let sql = Sql::new(self, &format!("UPDATE {table} t SET {set} FROM (VALUES "));
            return typed_rows(sql, columns, rows).push(&format!(") v ({names}) WHERE {join}"));
        }
        Sql::new(self, &format!("WITH v({names}) AS (VALUES "))
            .rows(rows)
            .push(&format!(") UPDATE OR FAIL {table} AS t SET {set} FROM v WHERE {join}"))
    }
}

/// As few sizes of statements as are worth preparing: each up to 8 rows, then multiples of 8. Answers the next one up.
pub(super) const fn statement_rows(rows: usize) -> usize {
    if rows <= 8 { rows } else { rows.next_multiple_of(8) }
}

/// What [`Dialect::update_rows`] writes.
pub(super) struct RowUpdate<const N: usize> {
    pub table: &'static str,
    /// With their types, for PostgreSQL, which cannot guess them. The first `keys` are the key.
    pub columns: [(&'static str, &'static str); N],
    pub keys: usize,
}

/// Where [`Dialect::pairs_from`] looks.
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

/// A commit that failed on its way may have arrived; nobody may take it for undone, but at the server's word.
pub(super) fn commit_error(error: DbErr) -> StoreError {
    let is_said = of_server(&error).is_some();
    match store_error(error) {
        conflict @ (StoreError::Conflict(_) | StoreError::Duplicate(_)) => conflict,
        fault @ StoreError::Fault(_) if is_said => fault,
        StoreError::Unavailable(source)
        | StoreError::Fault(source)
        | StoreError::Behind(source)
        | StoreError::InDoubt(source) => StoreError::InDoubt(source),
    }
}

/// What MySQL or `MariaDB` has answered, by its number.
pub(super) fn mysql_number(error: &DbErr) -> Option<u16> {
    Some(of_server(error)?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

fn of_server(error: &DbErr) -> Option<&dyn sqlx::error::DatabaseError> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            error.as_database_error()
        }
        _ => None,
    }
}

pub(super) fn lane_number(lane: LaneId) -> i16 {
    lane.0.cast_signed()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(kind: Kind) -> &'static str {
        match kind("as a driver says it".into()) {
            StoreError::Duplicate(_) => "duplicate",
            StoreError::Conflict(_) => "conflict",
            StoreError::Behind(_) => "behind",
            StoreError::InDoubt(_) => "in doubt",
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Fault(_) => "fault",
        }
    }

    #[test]
    fn deadlocks_and_lock_waits_are_conflicts_and_a_backend_that_is_away_is_not() {
        for number in [1020, 1205, 1213, 1467] {
            assert_eq!(name(kind_of_mysql(number)), "conflict", "{number}");
        }
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(name(kind_of_postgres(code)), "conflict", "{code}");
        }
        // BUSY, LOCKED, and BUSY_SNAPSHOT, an extended code.
        for code in [5, 6, 517] {
            assert_eq!(name(kind_of_sqlite(code)), "conflict", "{code}");
        }
        for number in [1040, 1053, 1290, 1317, 1927] {
            assert_eq!(name(kind_of_mysql(number)), "unavailable", "{number}");
        }
        for code in ["08006", "53300", "57P01", "25006", "25P03"] {
            assert_eq!(name(kind_of_postgres(code)), "unavailable", "{code}");
        }
        for code in [10, 13, 14] {
            assert_eq!(name(kind_of_sqlite(code)), "unavailable", "{code}");
        }
        // A wrong column.
        for kind in [kind_of_mysql(1054), kind_of_postgres("42703"), kind_of_sqlite(1)] {
            assert_eq!(name(kind), "fault");
        }
    }
}
