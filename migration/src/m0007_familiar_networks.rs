//! Where accounts have signed in from, as keyed hashes: a flood of guesses must not lock their owners out of other nodes.

use sea_orm_migration::prelude::*;

use crate::{column, index, primary_key, table};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, "familiar_network")
                    .col(column("hash").binary_len(32))
                    .col(column("user_id").big_integer())
                    .col(column("signed_in_at").big_integer())
                    .primary_key(&mut primary_key(&["hash"]))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("familiar_network", &["user_id", "signed_in_at"])).await?;
        manager.create_index(index("familiar_network", &["signed_in_at"])).await
    }
}
