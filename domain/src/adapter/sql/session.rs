//! What each session of a server is set to, so that a process that stalls or vanishes holds nothing for long; and the look whether
//! the server has it so, at the start and by `confab doctor`.

use super::{
    connect::{ConnectError, Use},
    dialect::{Dialect, store_error},
    pool::Pool,
    statement::Sql,
};
use crate::port::StoreError;

/// Waits for a lock, milliseconds. Below the time a statement may take, as is MySQL's wait for a table that is being changed, so that the
/// server's answer comes before we give the connection up.
const LOCK_WAIT_MS: i64 = 2000;
/// An open transaction that says nothing, milliseconds.
const IDLE_IN_TRANSACTION_MS: i64 = 3000;
/// A client that has vanished without a word, milliseconds: seen by TCP's keepalive, where a session can set it, or else by its silence.
const VANISHED_MS: i64 = 45_000;
const SILENT_MS: i64 = 900_000;

/// For MySQL and `MariaDB`. `MariaDB` ends an idle transaction; MySQL can only end an idle session, so there one that is for transactions
/// goes after three seconds, and the pool looks before it uses one that was idle. Neither lets a session set TCP's keepalive. The version
/// comments are read by `MariaDB` (`M!`) and by MySQL 8 (`MariaDB` passes over 50700 to 99999) alone.
pub(super) const fn mysql(usage: Use) -> &'static str {
    match usage {
        Use::Statements => {
            "SET SESSION innodb_lock_wait_timeout = 2, SESSION eq_range_index_dive_limit = 1, \
             SESSION lock_wait_timeout = 4, SESSION wait_timeout = 900 /*M!100300 , SESSION idle_transaction_timeout = 3 */"
        }
        Use::Transactions => {
            "SET SESSION innodb_lock_wait_timeout = 2, SESSION eq_range_index_dive_limit = 1, \
             SESSION lock_wait_timeout = 4, SESSION wait_timeout = 900 /*M!100300 , SESSION idle_transaction_timeout = 3 */ \
             /*!80000 , SESSION wait_timeout = 3 */"
        }
    }
}

/// For PostgreSQL.
pub(super) const POSTGRES: [(&str, &str); 7] = [
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "3s"),
    ("default_transaction_isolation", "read committed"),
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
    // `ROLLBACK` outside a transaction is a warning, and it is sent at every release.
    ("client_min_messages", "error"),
];

/// One bound as the server has it; 0 is none.
#[derive(Debug)]
struct Bound {
    name: &'static str,
    ms: i64,
    max_ms: i64,
}

/// Reads the bounds back: something between us and the server may have dropped them.
pub(super) async fn check_bounds(dialect: Dialect, on: &Pool, usage: Use) -> Result<(), ConnectError> {
    let bounds = match dialect {
        Dialect::MySql => mysql_bounds(on, usage).await?,
        Dialect::Postgres => postgres_bounds(on).await?,
        // Has no server, and so nobody who could stall within one.
        Dialect::Sqlite => Vec::new(),
    };
    excess(&bounds).map_or(Ok(()), |problem| Err(ConnectError::Unbounded(problem)))
}

fn excess(bounds: &[Bound]) -> Option<String> {
    let beyond = bounds.iter().find(|bound| !(1..=bound.max_ms).contains(&bound.ms))?;
    let Bound { name, ms, max_ms } = beyond;
    Some(format!("{name} is {ms} ms in our sessions, and has to be 1 to {max_ms} ms"))
}

async fn mysql_bounds(on: &Pool, usage: Use) -> Result<Vec<Bound>, StoreError> {
    let sql = "SELECT CAST(@@innodb_lock_wait_timeout AS SIGNED), CAST(@@wait_timeout AS SIGNED), VERSION()";
    let row = Sql::new(Dialect::MySql, sql).one(on).await?.ok_or_else(unread)?;
    let seconds = |index| row.try_get_by_index::<i64>(index).map_err(store_error);
    let version: String = row.try_get_by_index(2).map_err(store_error)?;
    let silent = Bound { name: "wait_timeout", ms: seconds(1)? * 1000, max_ms: SILENT_MS };
    let mut bounds =
        vec![Bound { name: "innodb_lock_wait_timeout", ms: seconds(0)? * 1000, max_ms: LOCK_WAIT_MS }];
    if version.contains("MariaDB") {
        let sql = "SELECT CAST(@@idle_transaction_timeout AS SIGNED)";
        let row = Sql::new(Dialect::MySql, sql).one(on).await?.ok_or_else(unread)?;
        let idle: i64 = row.try_get_by_index(0).map_err(store_error)?;
        let name = "idle_transaction_timeout";
        bounds.extend([Bound { name, ms: idle * 1000, max_ms: IDLE_IN_TRANSACTION_MS }, silent]);
    } else {
        let max_ms = if usage == Use::Transactions { IDLE_IN_TRANSACTION_MS } else { SILENT_MS };
        bounds.push(Bound { max_ms, ..silent });
    }
    Ok(bounds)
}

async fn postgres_bounds(on: &Pool) -> Result<Vec<Bound>, StoreError> {
    // Numbers in the settings' own units. `inet_server_addr` is null on a socket in the file system, which needs no keepalive.
    let sql = "SELECT (SELECT setting::bigint FROM pg_settings WHERE name = 'lock_timeout'), \
        (SELECT setting::bigint FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'), \
        current_setting('tcp_keepalives_idle')::bigint, current_setting('tcp_keepalives_interval')::bigint, \
        current_setting('tcp_keepalives_count')::bigint, inet_server_addr() IS NULL";
    let row = Sql::new(Dialect::Postgres, sql).one(on).await?.ok_or_else(unread)?;
    let number = |index| row.try_get_by_index::<i64>(index).map_err(store_error);
    let mut bounds = vec![
        Bound { name: "lock_timeout", ms: number(0)?, max_ms: LOCK_WAIT_MS },
        Bound { name: "idle_in_transaction_session_timeout", ms: number(1)?, max_ms: IDLE_IN_TRANSACTION_MS },
    ];
    if !row.try_get_by_index::<bool>(5).map_err(store_error)? {
        let (idle, probes) = (number(2)?, number(3)? * number(4)?);
        let ms = if idle > 0 && probes > 0 { (idle + probes) * 1000 } else { 0 };
        bounds.push(Bound { name: "tcp_keepalives", ms, max_ms: VANISHED_MS });
    }
    Ok(bounds)
}

fn unread() -> StoreError {
    StoreError::Fault("the server does not say how its sessions are set".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_is_too_high_or_not_there_is_named() {
        let bound = |ms| Bound { name: "lock_timeout", ms, max_ms: LOCK_WAIT_MS };
        assert_eq!(excess(&[bound(1), bound(2000)]), None);
        for ms in [-1, 0, 2001] {
            let problem = excess(&[bound(2000), bound(ms)]).expect("a problem");
            assert!(problem.starts_with(&format!("lock_timeout is {ms} ms")), "{problem}");
        }
    }
}
