//! The tables as `SeaORM` entities, one a file, no logic.
//!
//! Points in time are microseconds since 1970 (`*_at`), positions are those of the row's lane (`*_pos`), keys, hashes and
//! ids of text are bytes, so that no collation merges two of them. What the columns mean is told in `domain::model`; how they
//! come to be, in the crate `migration`.

pub mod confab_meta;
pub mod conversation;
pub mod dead_task;
pub mod device;
pub mod familiar_network;
pub mod hidden_presence;
pub mod id_lease;
pub mod log_lane;
pub mod member;
pub mod message;
pub mod muted_conversation;
pub mod outbox;
pub mod parked_push;
pub mod push_mark;
pub mod quiet_hours;
pub mod refresh_token;
pub mod relay_lane;
pub mod session;
pub mod user_account;
