//! Whom a message mentions, and the newest message that mentions a member, for pushes about muted conversations.

use sea_orm_migration::prelude::*;

use crate::{column, optional, primary_key, table};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(
                Table::alter()
                    .table(Alias::new("message"))
                    .add_column(optional("mentions").var_binary(400).to_owned())
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                table(manager, "mention")
                    .col(column("conversation_id").binary_len(16))
                    .col(column("user_id").big_integer())
                    .col(column("seq").integer())
                    .primary_key(&mut primary_key(&["conversation_id", "user_id"]))
                    .to_owned(),
            )
            .await
    }
}
