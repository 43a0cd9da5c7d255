//! The domain against real databases: `SQLite` always, `MariaDB` and PostgreSQL where the environment names them.

mod accounts;
mod budgets;
mod bus;
mod cache;
mod cancel_storm;
mod copies;
mod documents;
mod groups;
mod harness;
mod missed;
mod missed_together;
mod openings;
mod presence;
mod pushes;
mod recorder;
mod recount;
mod redis_address;
mod redis_server;
mod remote;
mod traps;
mod upkeep;
mod vanishing;
mod write_path;
