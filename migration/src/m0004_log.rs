//! Lanes and the outbox.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::{column, lanes, primary_key, table};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, "log_lane")
                    .col(column("id").small_integer())
                    .col(column("pos").big_integer())
                    .primary_key(&mut primary_key(&["id"]))
                    .to_owned(),
            )
            .await?;
        let mut rows = Query::insert();
        rows.into_table(Alias::new("log_lane")).columns(["id", "pos"].map(Alias::new));
        for lane in 0..lanes(manager.get_database_backend()) {
            rows.values_panic([lane.into(), 0_i64.into()]);
        }
        manager.execute(rows).await?;
        let mut payload = column("payload");
        // BLOB holds 64 KiB on MySQL; a batch of 256 facts can be larger.
        match manager.get_database_backend() {
            DbBackend::MySql => payload.custom(Alias::new("MEDIUMBLOB")),
            _ => payload.blob(),
        };
        manager
            .create_table(
                table(manager, "outbox")
                    .col(column("lane").small_integer())
                    .col(column("pos").big_integer())
                    .col(column("created_at").big_integer())
                    .col(payload)
                    .primary_key(&mut primary_key(&["lane", "pos"]))
                    .to_owned(),
            )
            .await
    }
}
