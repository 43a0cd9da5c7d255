//! The domain against real databases: `SQLite` always, `MariaDB` and PostgreSQL where the environment names them.

mod accounts;
mod harness;
mod write_path;
