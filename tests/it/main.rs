//! The binary as its operator sees it: started, killed, stopped, misconfigured.

mod collector;
mod full_disk;
mod kill;
mod listener;
mod metrics;
mod nodes;
mod relay;
mod resume;
mod roles;
mod server;
mod start;
mod traces;
