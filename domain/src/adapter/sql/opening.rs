//! A transaction on a connection that was kept, on MySQL and `MariaDB`: it begins with the lock of its lanes, in the exchange of its first
//! statement, and that of a batch for which nothing has to be read is all of it, `COMMIT` included.
//!
//! A lane is held for as long as it takes, so an exchange less is the time of one less for whoever waits for the lane.

use std::fmt::Write as _;

use sea_orm::ConnectionTrait;

use super::{
    batch_text,
    dialect::{lane_number, store_error},
};
use crate::{LaneId, port::StoreError};

/// `BEGIN`, the next position of each lane if it still stands where the caller left it, and what is written after it. None of it is
/// sent yet.
pub(super) struct Opening {
    text: String,
}

impl Opening {
    pub fn after(epoch: i64, last: &[(LaneId, i64)]) -> Self {
        let mut text = "BEGIN;UPDATE log_lane SET pos = pos + 1 WHERE (".to_owned();
        for (index, (lane, pos)) in last.iter().enumerate() {
            let or = if index > 0 { " OR " } else { "" };
            let _ = write!(text, "{or}(id = {} AND pos = {pos})", lane_number(*lane));
        }
        let _ = write!(text, ") AND (SELECT epoch FROM confab_meta WHERE id = 1) = {epoch};");
        batch_text::expect_rows(&mut text, last.len());
        Self { text }
    }

    pub fn push(&mut self, statements: &str) {
        self.text.push_str(statements);
    }

    /// After anything but a duplicate or a conflict, the caller shall take nothing for done or undone: whether the lanes were locked
    /// nobody can tell, and where `COMMIT` was among the statements it may have arrived. All comes again in a transaction that begins
    /// by itself, waits for what this one has locked, and finds what this one has committed by its keys.
    pub async fn send(self, on: &impl ConnectionTrait) -> Result<(), StoreError> {
        let Err(error) = on.execute_unprepared(&self.text).await else { return Ok(()) };
        Err(match store_error(error) {
            certain @ (StoreError::Duplicate(_) | StoreError::Conflict(_)) => certain,
            unknown => StoreError::Behind(Box::new(unknown)),
        })
    }
}
