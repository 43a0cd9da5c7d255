//! The world behind the ports.

pub mod sql;
