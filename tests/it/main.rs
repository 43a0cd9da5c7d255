//! The binary as its operator sees it: started, killed, stopped, misconfigured.

mod away;
mod back_ends;
mod broker;
mod collector;
mod crowd;
mod full_disk;
mod installation;
mod kill;
mod large_group;
mod listener;
mod metrics;
mod nodes;
mod people;
mod providers;
mod push;
mod push_stage;
mod push_troubles;
mod relay;
mod resume;
mod roles;
mod server;
mod sign_in_flood;
mod start;
mod tasks;
mod trace_ids;
mod traces;
