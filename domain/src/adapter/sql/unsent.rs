//! What a transaction of MySQL or `MariaDB` has still to say, on a connection that was kept: its beginning with the lock of its lanes, and
//! all that it writes. It goes together with the `COMMIT`, or before something is read: then what was written has to be there.
//!
//! Others wait for a lane as long as it is locked, and each exchange with the server makes that longer.

use std::fmt::Write as _;

use sea_orm::ConnectionTrait;

use super::{
    dialect::{lane_number, store_error},
    exchange::{Exchange, expect_rows},
};
use crate::{LaneId, port::StoreError};

pub(super) struct Unsent {
    exchange: Exchange,
    text: String,
}

impl Unsent {
    /// `BEGIN`, and the next position of each lane if it still stands where the caller left it.
    pub fn begin_after(exchange: Exchange, epoch: i64, last: &[(LaneId, i64)]) -> Self {
        let mut text = "START TRANSACTION;UPDATE log_lane SET pos = pos + 1 WHERE (".to_owned();
        for (index, (lane, pos)) in last.iter().enumerate() {
            let or = if index > 0 { " OR " } else { "" };
            let _ = write!(text, "{or}(id = {} AND pos = {pos})", lane_number(*lane));
        }
        let _ = write!(text, ") AND (SELECT epoch FROM confab_meta WHERE id = 1) = {epoch};");
        expect_rows(&mut text, last.len());
        Self { exchange, text }
    }

    /// Each with a `;` at its end.
    pub fn push(&mut self, statements: &str) {
        self.text.push_str(statements);
    }

    /// After this the transaction is open, and what was written is there.
    pub async fn send(&mut self, on: &impl ConnectionTrait) -> Result<(), StoreError> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        let sent = on.execute_unprepared(&self.exchange.text(&text)).await;
        sent.map(drop).map_err(|error| failed(store_error(error)))
    }

    /// The rest, and the end of the transaction.
    pub async fn commit(mut self, end: &str, on: &impl ConnectionTrait) -> Result<(), StoreError> {
        self.push(end);
        let sent = on.execute_unprepared(&self.exchange.text(&self.text)).await;
        sent.map(drop).map_err(|error| match store_error(error) {
            StoreError::Unavailable(source) => StoreError::InDoubt(source),
            error => failed(error),
        })
    }
}

/// A duplicate or a conflict says what it is. After anything else nobody can tell which statement it was: perhaps the one that found
/// the lanes elsewhere. All comes again in a transaction whose statements are sent one by one.
fn failed(error: StoreError) -> StoreError {
    match error {
        StoreError::Duplicate(_) | StoreError::Conflict(_) => error,
        unknown => StoreError::Behind(Box::new(unknown)),
    }
}
