//! The world behind the ports. Glue, no rules.

pub mod ambient;
mod attendance;
pub mod backlog;
pub mod in_process;
pub mod kafka;
pub mod redis;
pub mod sql;
