//! Several statements in one exchange with MySQL or `MariaDB`, where the server itself stops at the first that is not as expected.

use std::{borrow::Cow, fmt::Write as _};

use sea_orm::ConnectionTrait as _;

use super::{
    dialect::{Dialect, mysql_number, store_error},
    pool::Pool,
    statement::Sql,
};
use crate::port::StoreError;

/// `ER_DATA_OUT_OF_RANGE` and `ER_PARSE_ERROR`: <https://mariadb.com/kb/en/mariadb-error-code-reference/>
const OUT_OF_RANGE: u16 = 1690;
const SYNTAX: u16 = 1064;

/// How they travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// As a block, which is answered once (`MariaDB`): either side would wake, and go through the network's stack, for each other answer.
    Block,
    /// One behind the other, each with an answer of its own (MySQL).
    Statements,
}

impl Exchange {
    /// What this server, and whatever is in front of it, understands; fails when it goes on where [`expect_rows`] should stop it.
    pub async fn of_server(on: &Pool) -> Result<Self, StoreError> {
        // On one connection.
        let session = on.begin("BEGIN").await.map_err(store_error)?;
        let guarded = |exchange: Self, rows: usize, then: &str| {
            let mut text = "UPDATE confab_meta SET epoch = epoch WHERE id = 1;".to_owned();
            expect_rows(&mut text, rows);
            exchange.text(&(text + then)).into_owned()
        };
        let sound = "SET @confab_passed = 1;";
        let exchange = match session.execute_unprepared(&guarded(Self::Block, 1, sound)).await {
            Ok(_) => Self::Block,
            Err(error) if mysql_number(&error) == Some(SYNTAX) => {
                let statements = guarded(Self::Statements, 1, sound);
                session.execute_unprepared(&statements).await.map_err(store_error)?;
                Self::Statements
            }
            Err(error) => return Err(store_error(error)),
        };
        let unsound = guarded(exchange, 2, "SET @confab_passed = 2;");
        let stops = match session.execute_unprepared(&unsound).await {
            Ok(_) => false,
            Err(error) if mysql_number(&error) == Some(OUT_OF_RANGE) => true,
            Err(error) => return Err(store_error(error)),
        };
        let passed = Sql::new(Dialect::MySql, "SELECT CAST(@confab_passed AS SIGNED)").one(&session).await?;
        let passed = passed.and_then(|row| row.try_get_by_index::<i64>(0).ok());
        session.rollback().await.map_err(store_error)?;
        if stops && passed == Some(1) {
            return Ok(exchange);
        }
        Err(StoreError::Fault("the server goes on where a row is missing".into()))
    }

    /// Each statement has a `;` at its end.
    pub fn text(self, statements: &str) -> Cow<'_, str> {
        match self {
            Self::Block => format!("BEGIN NOT ATOMIC {statements} END").into(),
            Self::Statements => statements.into(),
        }
    }
}

/// The server goes no further unless the statement before has found or inserted so many rows (as sessions of sqlx count them, with
/// `CLIENT_FOUND_ROWS`). MySQL and `MariaDB` have no statement in common that fails on a condition, but a sum that overflows does
/// ([`OUT_OF_RANGE`]), except in `DO`.
pub(super) fn expect_rows(text: &mut String, rows: usize) {
    let _ = write!(text, "SET @confab_overflow = {} + (ROW_COUNT() <> {rows});", u64::MAX);
}
