//! A bound in bytes on what waits in a channel whose own bound is a count.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Bytes of batches in one channel of a bus, unless somebody says otherwise.
pub const BACKLOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Whispers that wait to be said or heard, some 40 bytes each; who loses one looks for themselves.
pub(super) const WHISPERS_MAX: usize = 1024;

/// The sizes of what was put in last.
pub(super) struct Backlog {
    sizes: Mutex<Sizes>,
    bytes_max: usize,
}

#[derive(Default)]
struct Sizes {
    waiting: VecDeque<usize>,
    bytes: usize,
}

impl Backlog {
    pub fn new(bytes_max: usize) -> Self {
        Self { sizes: Mutex::default(), bytes_max }
    }

    /// Puts something of this size in by `put` if there is room; `waiting` says how many of the last ones are still in.
    pub fn put(&self, bytes: usize, waiting: impl FnOnce() -> usize, put: impl FnOnce() -> bool) -> bool {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = waiting();
        while sizes.waiting.len() > waiting
            && let Some(gone) = sizes.waiting.pop_front()
        {
            sizes.bytes -= gone;
        }
        // A single one beyond the bound may go alone.
        if !sizes.waiting.is_empty() && sizes.bytes.saturating_add(bytes) > self.bytes_max {
            return false;
        }
        if !put() {
            return false;
        }
        sizes.waiting.push_back(bytes);
        sizes.bytes += bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_makes_room_again() {
        let backlog = Backlog::new(100);
        assert!(backlog.put(60, || 0, || true));
        assert!(!backlog.put(60, || 1, || true), "it would be 120");
        assert!(backlog.put(40, || 1, || true));
        assert!(!backlog.put(1, || 2, || true));
        assert!(backlog.put(60, || 1, || true), "the first is gone");
        assert!(backlog.put(1000, || 0, || true), "alone");
        assert!(!backlog.put(1, || 1, || true));
    }

    #[test]
    fn what_could_not_be_put_in_counts_nothing() {
        let backlog = Backlog::new(100);
        assert!(!backlog.put(90, || 0, || false));
        assert!(backlog.put(90, || 0, || true));
    }
}
