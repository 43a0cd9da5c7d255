//! Time and chance, passed in so that tests can move and repeat them.

use crate::Timestamp;

pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

pub trait Random: Send + Sync {
    /// Fills the buffer with bytes fit for keys and tokens.
    fn fill(&self, bytes: &mut [u8]);
}
