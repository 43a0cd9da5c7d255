//! What Confab does, without its edges.
//!
//! Start at [`Chat`], the one handle through which GraphQL and the workers reach everything, in this process or behind
//! `grpc`: one method a use case, one file a method under `service`. Services know the `model` and the `port`s they need; only
//! `wiring` names the adapters behind those ports. The write path is `commit`: lanes, group commit, positions.
//!
//! Not here: GraphQL, HTTP, WebSockets (crate `api`), table definitions (`entity`), schema changes (`migration`).

pub mod adapter;
mod attempts;
mod budget;
mod cache;
mod chat;
pub mod commit;
pub mod contract;
pub mod cursor;
mod departures;
mod documents;
mod ended_sessions;
pub mod error;
pub mod grpc;
pub mod keys;
pub mod lifeline;
pub mod measure;
pub mod model;
mod passwords;
pub mod port;
pub mod service;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod trace;
pub mod wiring;

pub use budget::Spent;
pub use chat::Chat;
pub use cursor::CursorError;
pub use error::{ErrorCode, ServiceError, ServiceResult};
pub use model::*;
pub(crate) use service::Domain;
