//! Whispers within one process: everybody hears all of them.

use tokio::sync::broadcast;

use super::super::backlog::WHISPERS_MAX;
use crate::{Heard, Topic, Whisper, port::Whispers};

pub struct InProcessWhispers(broadcast::Sender<Heard>);

impl Default for InProcessWhispers {
    fn default() -> Self {
        Self(broadcast::Sender::new(WHISPERS_MAX))
    }
}

impl Whispers for InProcessWhispers {
    fn say(&self, whisper: Whisper) {
        // Without a listener nobody hears it, which is fine.
        let _ = self.0.send(Heard::Whisper(whisper));
    }

    fn listen(&self, _: &[Topic]) {}

    fn ignore(&self, _: &[Topic]) {}

    fn hear(&self) -> broadcast::Receiver<Heard> {
        self.0.subscribe()
    }
}
