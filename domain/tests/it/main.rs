//! The domain against real databases: `SQLite` always, `MariaDB` and PostgreSQL where the environment names them.

mod accounts;
mod bus;
mod cancel_storm;
mod groups;
mod harness;
mod missed;
mod pushes;
mod recount;
mod traps;
mod write_path;
