//! What happens after a commit, outside of any request.
//!
//! The [`relay`] brings the outbox to Kafka, lane by lane, in order, at least once. Everything here works on `domain::Chat` and on the
//! queue's port; it holds nothing that another worker could not take over.

pub mod relay;
