//! How a transaction begins on a connection that was kept, on MySQL and `MariaDB`: with the lock of its lanes, in the exchange of its first
//! statement.

use std::fmt::Write as _;

use sea_orm::ConnectionTrait;

use super::dialect::{lane_number, store_error};
use crate::{LaneId, port::StoreError};

/// `BEGIN`, and the next position of each lane if it still stands where the caller left it.
pub(super) struct Opening {
    text: String,
    lanes: usize,
}

impl Opening {
    pub fn after(epoch: i64, last: &[(LaneId, i64)]) -> Self {
        let mut text = "BEGIN; UPDATE log_lane SET pos = pos + 1 WHERE (".to_owned();
        for (index, (lane, pos)) in last.iter().enumerate() {
            let or = if index > 0 { " OR " } else { "" };
            let _ = write!(text, "{or}(id = {} AND pos = {pos})", lane_number(*lane));
        }
        let _ = write!(text, ") AND (SELECT epoch FROM confab_meta WHERE id = 1) = {epoch}");
        Self { text, lanes: last.len() }
    }

    /// Alone, because something is to be read under the lock.
    pub async fn send(self, on: &impl ConnectionTrait) -> Result<(), StoreError> {
        self.send_with(on, "", 0).await
    }

    /// Together with other statements, which write so many rows. Whatever goes wrong, nothing is committed, and whether the lanes were
    /// locked nobody can tell: all of it comes again in a transaction that begins by itself.
    pub async fn send_with(
        mut self,
        on: &impl ConnectionTrait,
        statements: &str,
        rows: usize,
    ) -> Result<(), StoreError> {
        if !statements.is_empty() {
            self.text.push_str("; ");
            self.text.push_str(statements);
        }
        let done = on.execute_unprepared(&self.text).await;
        let done = done.map_err(|error| StoreError::Behind(Box::new(store_error(error))))?;
        if usize::try_from(done.rows_affected()) == Ok(self.lanes + rows) {
            return Ok(());
        }
        Err(StoreError::Behind("the lanes have moved on".into()))
    }
}
