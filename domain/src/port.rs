//! What the services need of the world, in their own words. Adapters implement these; `wiring` chooses them.

pub mod accounts;
pub mod ambient;
pub mod buckets;
pub mod bus;
pub mod cache;
pub mod contacts;
pub mod conversations;
pub mod devices;
pub mod documents;
pub mod log;
pub mod presence;
pub mod pushes;
pub mod queue;
pub mod relays;
pub mod whispers;

pub use accounts::Accounts;
pub use ambient::{Clock, Random};
pub use buckets::Buckets;
pub use bus::Bus;
pub use cache::Cache;
pub use contacts::Contacts;
pub use conversations::Conversations;
pub use devices::Devices;
pub use documents::Documents;
pub use log::{LaneTransaction, Log};
pub use presence::Presence;
pub use pushes::Pushes;
pub use queue::Queue;
pub use relays::Relays;
pub use whispers::Whispers;

use std::error::Error;

use crate::ServiceError;

type Source = Box<dyn Error + Send + Sync>;

/// How storage fails, as far as a caller can act on it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique key is taken.
    #[error("duplicate key")]
    Duplicate(#[source] Source),
    /// A deadlock or a conflict between transactions: the whole transaction may be tried again.
    #[error("transaction conflict")]
    Conflict(#[source] Source),
    /// What the transaction relied on is no longer so, or it could not begin: it has done nothing, and comes again from the beginning.
    #[error("what the transaction relied on is no longer so")]
    Behind(#[source] Source),
    /// Nobody knows whether the transaction was committed. It may be tried again as a whole by whoever looks first what it has left behind.
    #[error("nobody knows whether it was committed")]
    InDoubt(#[source] Source),
    /// The backend is away or did not answer in time.
    #[error("storage unavailable")]
    Unavailable(#[source] Source),
    /// A fault of ours: wrong SQL, a row that breaks an invariant.
    #[error("storage fault")]
    Fault(#[source] Source),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_)
            | StoreError::InDoubt(_)
            | StoreError::Conflict(_)
            | StoreError::Behind(_) => Self::away().caused_by(error),
            StoreError::Duplicate(_) | StoreError::Fault(_) => Self::internal(error),
        }
    }
}
