//! What the benchmarks and the fault harness share: installations of several processes, and their links.

pub mod cluster;
pub mod proxy;
pub mod redis;
