//! Users.

use std::sync::Arc;

use super::{Timestamp, UserId};

/// What others may know of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub username: Arc<str>,
    pub display_name: Arc<str>,
    pub created_at: Timestamp,
}
