//! Who shows nobody whether they are there.

use sea_orm_migration::prelude::*;

use crate::{column, primary_key, table};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, "hidden_presence")
                    .col(column("user_id").big_integer())
                    .primary_key(&mut primary_key(&["user_id"]))
                    .to_owned(),
            )
            .await
    }
}
