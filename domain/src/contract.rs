//! What other processes and versions read of ours: outbox rows, batches on the bus, gRPC. The words are in `domain/proto`.

pub mod batch;
pub mod envelope;
pub mod outbox;
pub(crate) mod proto;
pub(crate) mod wire;

pub use wire::WireError;
