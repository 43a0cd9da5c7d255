//! What lasts beyond this process and may be read by another version of it. Tagged; old forms stay readable.

pub mod batch;
pub mod outbox;
