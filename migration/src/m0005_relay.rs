//! Who relays which lane of the outbox, and how far.

use sea_orm_migration::prelude::*;

use crate::{column, lanes, primary_key, table};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, "relay_lane")
                    .col(column("lane").small_integer())
                    .col(column("pos").big_integer())
                    .col(column("fence").big_integer())
                    .col(column("worker").big_integer())
                    .col(column("lease_until").big_integer())
                    .primary_key(&mut primary_key(&["lane"]))
                    .to_owned(),
            )
            .await?;
        let mut rows = Query::insert();
        rows.into_table(Alias::new("relay_lane"))
            .columns(["lane", "pos", "fence", "worker", "lease_until"].map(Alias::new));
        for lane in 0..lanes(manager.get_database_backend()) {
            rows.values_panic([lane.into(), 0_i64.into(), 0_i64.into(), 0_i64.into(), 0_i64.into()]);
        }
        manager.execute(rows).await
    }
}
