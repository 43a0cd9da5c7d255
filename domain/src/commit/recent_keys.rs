//! The keys that were committed lately, as hashes: those that a retry most likely has.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{ClientKey, UserId};

/// Keys that are remembered at least; twice as many at most. A retry of an older one costs its batch a second try.
const KEYS_MIN: usize = 100_000;

/// Two generations instead of the order of their use: noting a key is one look into memory, and it is done for each message.
#[derive(Default)]
pub(super) struct RecentKeys {
    young: HashSet<u64, BuildHasherDefault<Hashed>>,
    old: HashSet<u64, BuildHasherDefault<Hashed>>,
}

impl RecentKeys {
    pub fn contains(&self, sender: UserId, key: &ClientKey) -> bool {
        let hash = hash(sender, key);
        self.young.contains(&hash) || self.old.contains(&hash)
    }

    pub fn note(&mut self, sender: UserId, key: &ClientKey) {
        if self.young.len() >= KEYS_MIN {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(hash(sender, key));
    }
}

fn hash(sender: UserId, key: &ClientKey) -> u64 {
    xxh3_64_with_seed(key.as_str().as_bytes(), sender.0.cast_unsigned())
}

/// Takes a hash for what it is.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> ClientKey {
        ClientKey::new(&[], format!("key-{number}")).expect("a key")
    }

    #[test]
    fn the_last_keys_are_known_and_those_long_ago_are_forgotten() {
        let (mut recent, sender) = (RecentKeys::default(), UserId(7));
        for number in 0..=2 * KEYS_MIN {
            recent.note(sender, &key(number));
        }
        for number in [KEYS_MIN + 1, 2 * KEYS_MIN] {
            assert!(recent.contains(sender, &key(number)), "{number}");
        }
        assert!(!recent.contains(sender, &key(0)));
        assert!(!recent.contains(UserId(8), &key(2 * KEYS_MIN)), "another sender's key is another key");
        assert!(recent.young.len() + recent.old.len() <= 2 * KEYS_MIN);
    }
}
