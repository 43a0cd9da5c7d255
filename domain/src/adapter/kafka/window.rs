//! The records of a partition that are under way: by key, in order, and how far everything is done.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::consumer::{Partition, WINDOW};

pub(super) struct Given {
    pub offset: i64,
    pub payload: Vec<u8>,
}

/// A record that is done.
pub(super) struct Finished {
    pub partition: Partition,
    pub offset: i64,
}

pub(super) struct Window {
    under_way: VecDeque<UnderWay>,
    keys: Keys,
    /// Finish what is being done, and take no more.
    pub leave: CancellationToken,
    pub abort: CancellationToken,
    pub running: TaskTracker,
    pub is_paused: bool,
    /// Whether the broker has more than was handed out.
    pub is_behind: bool,
    heard_at: Instant,
}

struct UnderWay {
    offset: i64,
    since: Instant,
    is_done: bool,
}

type Keys = Arc<Mutex<HashMap<Vec<u8>, VecDeque<Given>>>>;

fn lock(keys: &Keys) -> MutexGuard<'_, HashMap<Vec<u8>, VecDeque<Given>>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What waits for one key. As long as it is there, one task takes from it.
pub(super) struct KeyQueue {
    keys: Keys,
    key: Vec<u8>,
}

impl KeyQueue {
    /// At most so many that follow each other. Nothing when nothing waits; then the key is free.
    pub fn next(&self, most: usize) -> Vec<Given> {
        let mut keys = lock(&self.keys);
        let Some(waiting) = keys.get_mut(&self.key) else { return Vec::new() };
        let given: Vec<Given> = waiting.drain(..waiting.len().min(most)).collect();
        if given.is_empty() {
            keys.remove(&self.key);
        }
        given
    }
}

impl Default for Window {
    fn default() -> Self {
        Self {
            under_way: VecDeque::new(),
            keys: Keys::default(),
            leave: CancellationToken::new(),
            abort: CancellationToken::new(),
            running: TaskTracker::new(),
            is_paused: false,
            is_behind: false,
            heard_at: Instant::now(),
        }
    }
}

impl Window {
    /// Answers the queue of the record's key when nobody works on it yet.
    pub fn take(&mut self, key: &[u8], given: Given) -> Option<KeyQueue> {
        self.heard_at = Instant::now();
        self.under_way.push_back(UnderWay { offset: given.offset, since: self.heard_at, is_done: false });
        let mut keys = lock(&self.keys);
        if let Some(queue) = keys.get_mut(key) {
            queue.push_back(given);
            return None;
        }
        keys.insert(key.to_vec(), VecDeque::from([given]));
        Some(KeyQueue { keys: self.keys.clone(), key: key.to_vec() })
    }

    /// Answers the last offset before which, and at which, everything is done; `None` when that has not moved.
    pub fn finish(&mut self, finished: &Finished) -> Option<i64> {
        let at = self.under_way.binary_search_by_key(&finished.offset, |one| one.offset).ok()?;
        self.under_way[at].is_done = true;
        let mut last = None;
        while let Some(one) = self.under_way.pop_front_if(|one| one.is_done) {
            last = Some(one.offset);
        }
        last
    }

    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.under_way.len() >= WINDOW
    }

    pub fn has_room(&self) -> bool {
        self.under_way.len() <= WINDOW / 2
    }

    /// How long the oldest record has been under way.
    pub fn oldest(&self) -> Option<Duration> {
        self.under_way.front().map(|one| one.since.elapsed())
    }

    /// Nothing new is begun; answers what to wait for.
    pub fn hand_over(&self) -> TaskTracker {
        self.leave.cancel();
        self.running.close();
        self.running.clone()
    }

    /// Whether nothing was heard for so long although there is something, and nobody asked it to wait.
    pub fn is_stalled(&mut self, time: Duration) -> bool {
        if !self.is_behind || self.is_paused || !self.is_empty() {
            self.heard_at = Instant::now();
        }
        self.heard_at.elapsed() > time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(offset: i64) -> Given {
        Given { offset, payload: Vec::new() }
    }

    fn finish(window: &mut Window, offset: i64) -> Option<i64> {
        window.finish(&Finished { partition: ("t".to_owned(), 0), offset })
    }

    #[test]
    fn an_offset_is_stored_only_when_everything_before_it_is_done() {
        let mut window = Window::default();
        for offset in [3, 4, 7, 8] {
            window.take(&offset.to_string().into_bytes(), given(offset));
        }
        assert_eq!(finish(&mut window, 7), None);
        assert_eq!(finish(&mut window, 4), None);
        assert_eq!(finish(&mut window, 3), Some(7));
        assert_eq!(finish(&mut window, 3), None, "again");
        assert_eq!(finish(&mut window, 8), Some(8));
        assert!(window.is_empty());
    }

    #[test]
    fn a_key_is_worked_on_by_one_in_order_and_free_again_after_its_last() {
        let mut window = Window::default();
        let queue = window.take(b"a", given(1)).expect("nobody works on it");
        assert!(window.take(b"a", given(2)).is_none());
        let other = window.take(b"b", given(3)).expect("another key");
        let next = |queue: &KeyQueue| queue.next(2).iter().map(|given| given.offset).collect::<Vec<_>>();
        assert_eq!(next(&queue), [1, 2]);
        assert!(window.take(b"a", given(4)).is_none(), "somebody still works on it");
        assert!(window.take(b"a", given(5)).is_none());
        assert!(window.take(b"a", given(6)).is_none());
        assert_eq!(next(&queue), [4, 5]);
        assert_eq!(next(&queue), [6]);
        assert!(next(&queue).is_empty());
        assert!(window.take(b"a", given(7)).is_some());
        assert_eq!(next(&other), [3]);
    }

    #[test]
    fn a_full_window_has_room_again_when_half_of_it_is_done() {
        let mut window = Window::default();
        let ends = i64::try_from(WINDOW).expect("small");
        for offset in 0..ends {
            window.take(b"a", given(offset));
        }
        assert!(window.is_full());
        for offset in 0..ends / 2 - 1 {
            finish(&mut window, offset);
        }
        assert!(!window.has_room());
        finish(&mut window, ends / 2 - 1);
        assert!(window.has_room());
    }
}
