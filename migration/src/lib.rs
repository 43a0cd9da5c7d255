//! Changes of the schema, one a file, in the order of their names.
//!
//! Expand, then contract: a change first adds what the new binary needs and leaves what the old one uses; a later one removes
//! it and raises `confab_meta.binary_min`, so that old and new run side by side during a rolling upgrade. See README.md here.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

pub use sea_orm_migration::{Migration, MigratorTrait};

mod m0001_installation;
mod m0002_accounts;
mod m0003_conversations;
mod m0004_log;
mod m0005_relay;
mod m0006_push;
mod m0007_familiar_networks;
mod m0008_unused_sessions;
mod m0009_mentions;
mod m0010_presence;

/// The schema version this binary needs: how many of the migrations below it relies on.
pub const SCHEMA_VERSION: i32 = 10;

pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_installation::Migration),
            Box::new(m0002_accounts::Migration),
            Box::new(m0003_conversations::Migration),
            Box::new(m0004_log::Migration),
            Box::new(m0005_relay::Migration),
            Box::new(m0006_push::Migration),
            Box::new(m0007_familiar_networks::Migration),
            Box::new(m0008_unused_sessions::Migration),
            Box::new(m0009_mentions::Migration),
            Box::new(m0010_presence::Migration),
        ]
    }
}

/// A table with the options every table has: `InnoDB` and byte-wise utf8mb4 on MySQL and `MariaDB`.
fn table(manager: &SchemaManager<'_>, name: &'static str) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(Alias::new(name));
    if manager.get_database_backend() == DbBackend::MySql {
        table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
    }
    table
}

fn column(name: &'static str) -> ColumnDef {
    let mut column = ColumnDef::new(Alias::new(name));
    column.not_null();
    column
}

fn optional(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
}

fn primary_key(columns: &[&'static str]) -> IndexCreateStatement {
    let mut key = Index::create();
    key.primary();
    for column in columns {
        key.col(Alias::new(*column));
    }
    key
}

/// An index named after its table and columns.
fn index(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(format!("{table}_{}", columns.join("_"))).table(Alias::new(table));
    for column in columns {
        index.col(Alias::new(*column));
    }
    index
}

/// 8 lanes let as many commits run at once; `SQLite` has one writer, so one lane.
fn lanes(backend: DbBackend) -> i16 {
    if backend == DbBackend::Sqlite { 1 } else { 8 }
}
