//! The binary as its operator sees it: started, killed, stopped, misconfigured.

mod kill;
mod server;
mod start;
