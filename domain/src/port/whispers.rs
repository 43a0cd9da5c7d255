//! What nodes say to each other in passing. Nothing is kept, and nobody waits: what is lost is looked up sooner or later, or was worth
//! nothing a moment later.

use tokio::sync::broadcast;

use crate::{Heard, Topic, Whisper};

pub trait Whispers: Send + Sync {
    /// Says something to whoever listens, here and on other nodes.
    fn say(&self, whisper: Whisper);

    /// From soon on hears what other nodes say about these; [`Heard::Anew`] tells when.
    fn listen(&self, topics: &[Topic]);

    fn ignore(&self, topics: &[Topic]);

    /// Hears all that is said here, and what others say about the topics listened to.
    fn hear(&self) -> broadcast::Receiver<Heard>;
}
