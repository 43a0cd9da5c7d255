//! The machine's clock and random source. The one place that reads them.

use crate::{
    Timestamp,
    port::{Clock, Random},
};

pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the adapter that everything else gets its time from")]
        let now = jiff::Timestamp::now();
        Timestamp(now.as_microsecond())
    }
}

pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the adapter that everything else gets its randomness from"
        )]
        let filled = getrandom::fill(bytes);
        // Without randomness no key and no token may be made.
        #[expect(clippy::expect_used, reason = "there is no safe way on")]
        filled.expect("the operating system gives random bytes");
    }
}
