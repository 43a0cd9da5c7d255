//! What the installation agrees on, and leases of id ranges.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::{column, lanes, primary_key, table};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Machine numbers of Snowflakes; a process takes whichever is free.
const MACHINES: i16 = 64;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, "confab_meta")
                    .col(column("id").integer())
                    .col(column("epoch").big_integer())
                    .col(column("lanes").small_integer())
                    .col(column("binary_min").integer())
                    .col(column("installation").string_len(36))
                    .primary_key(&mut primary_key(&["id"]))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                table(manager, "id_lease")
                    .col(column("machine").small_integer())
                    .col(column("ceiling_ms").big_integer())
                    .primary_key(&mut primary_key(&["machine"]))
                    .to_owned(),
            )
            .await?;
        let mut meta = Query::insert();
        meta.into_table(Alias::new("confab_meta"))
            .columns(["id", "epoch", "lanes", "binary_min", "installation"].map(Alias::new))
            .values_panic([
                1.into(),
                1_i64.into(),
                lanes(manager.get_database_backend()).into(),
                1.into(),
                Expr::cust(random_id(manager.get_database_backend())),
            ]);
        manager.execute(meta).await?;
        let mut leases = Query::insert();
        leases.into_table(Alias::new("id_lease")).columns(["machine", "ceiling_ms"].map(Alias::new));
        for machine in 0..MACHINES {
            leases.values_panic([machine.into(), 0_i64.into()]);
        }
        manager.execute(leases).await
    }
}

/// Tells installations apart that share other services.
fn random_id(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::MySql => "UUID()",
        DbBackend::Postgres => "gen_random_uuid()::text",
        _ => "lower(hex(randomblob(16)))",
    }
}
