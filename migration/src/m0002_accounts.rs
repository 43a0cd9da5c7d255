//! Users, sessions, refresh tokens.

use sea_orm_migration::prelude::*;

use crate::{column, index, optional, primary_key, table};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, "user_account")
                    .col(column("id").big_integer())
                    .col(column("username").string_len(64))
                    .col(column("username_key").var_binary(512))
                    .col(column("display_name").string_len(64))
                    .col(column("password_hash").string_len(255))
                    .col(column("created_at").big_integer())
                    .primary_key(&mut primary_key(&["id"]))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("user_account", &["username_key"]).unique().to_owned()).await?;
        manager
            .create_table(
                table(manager, "session")
                    .col(column("id").big_integer())
                    .col(column("user_id").big_integer())
                    .col(optional("device_name").string_len(64))
                    .col(column("created_at").big_integer())
                    .col(column("last_used_at").big_integer())
                    .col(optional("ended_at").big_integer())
                    .primary_key(&mut primary_key(&["id"]))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("session", &["user_id"])).await?;
        manager.create_index(index("session", &["ended_at"])).await?;
        manager
            .create_table(
                table(manager, "refresh_token")
                    .col(column("hash").binary_len(32))
                    .col(column("session_id").big_integer())
                    .col(column("user_id").big_integer())
                    .col(column("issued_at").big_integer())
                    .col(optional("spent_at").big_integer())
                    .col(optional("key_id").string_len(64))
                    .primary_key(&mut primary_key(&["hash"]))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("refresh_token", &["session_id"])).await?;
        manager.create_index(index("refresh_token", &["issued_at"])).await
    }
}
