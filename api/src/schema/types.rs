//! The objects of the schema: each wraps what the domain knows and says how a client sees it.

pub mod activity;
pub mod connection;
pub mod conversation;
pub mod event;
pub mod limits;
pub mod member;
pub mod message;
pub mod node;
pub mod presence;
pub mod push;
pub mod scalars;
pub mod session;
pub mod user;
pub mod user_error;
