//! Event cursors, sealed and opened.

use crate::{
    Chat, CursorPosition,
    cursor::{self, CursorError},
};

impl Chat {
    pub fn seal_cursor(&self, position: &CursorPosition) -> String {
        cursor::seal(position, &self.services.keys, self.services.clock.now())
    }

    pub fn open_cursor(&self, cursor: &str) -> Result<CursorPosition, CursorError> {
        cursor::open(cursor, &self.services.keys)
    }
}
