//! Redis: hints between nodes. Nothing in it is the only copy of anything (P5).
//!
//! `bus` and `whispers` have connections of their own; `presence`, `cache`, `documents` and `buckets` share those of `commands`. `address` says which kinds of
//! installations there are, `servers` reaches them.

mod address;
mod buckets;
mod bus;
mod cache;
mod commands;
mod documents;
mod presence;
mod servers;
mod whispers;

pub use address::{RedisAddress, RedisAddressError};
pub use buckets::RedisBuckets;
pub use bus::{RedisBus, RedisBusSetup};
pub use cache::RedisCache;
pub use commands::{COMMAND_TIMEOUT, RedisCommands};
pub use documents::RedisDocuments;
pub use presence::{RedisPresence, RedisPresenceSetup};
pub use servers::{RedisServers, RedisServersError};
pub use whispers::{RedisWhispers, RedisWhispersSetup};

use std::time::Duration;

use tokio::time::sleep;

/// How long connecting and publishing may take, for which nobody waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_MIN: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(2);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long to wait before the next attempt: longer each time.
#[derive(Default)]
struct Pause(Duration);

impl Pause {
    const fn reset(&mut self) {
        self.0 = Duration::ZERO;
    }

    async fn wait(&mut self) {
        self.0 = (self.0 * 2).clamp(RECONNECT_MIN, RECONNECT_MAX);
        sleep(self.0).await;
    }
}
