//! What happens after a commit, outside of any request.
//!
//! The [`relay`] brings the outbox to the queue, lane by lane, in order, at least once; [`tasks`] does what the queue brings: [`fanout`]
//! parts the work of large groups, [`push`] wakes devices. [`outbox_queue`] stands in for Kafka where there is none. Everything here
//! works on `domain::Chat` and on the queue's port; it holds nothing that another worker could not take over.

pub mod fanout;
pub mod outbox_queue;
pub mod push;
pub mod relay;
pub mod tasks;
mod together;
