//! Devices that get pushes, when they do not want them, pushes that wait, and tasks that could not be done.

use sea_orm_migration::prelude::*;

use crate::{column, index, optional, primary_key, table};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, "device")
                    .col(column("session_id").big_integer())
                    .col(column("user_id").big_integer())
                    .col(column("provider").small_integer())
                    .col(column("address").var_binary(4096))
                    .col(column("address_hash").binary_len(32))
                    .col(optional("p256dh").var_binary(65))
                    .col(optional("auth").var_binary(16))
                    .col(column("registered_at").big_integer())
                    .primary_key(&mut primary_key(&["session_id"]))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("device", &["address_hash"]).unique().to_owned()).await?;
        manager.create_index(index("device", &["user_id"])).await?;
        manager
            .create_table(
                table(manager, "push_mark")
                    .col(column("session_id").big_integer())
                    .col(column("conversation_id").binary_len(16))
                    .col(column("seq").integer())
                    .primary_key(&mut primary_key(&["session_id", "conversation_id"]))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                table(manager, "muted_conversation")
                    .col(column("user_id").big_integer())
                    .col(column("conversation_id").binary_len(16))
                    .col(column("until").big_integer())
                    .primary_key(&mut primary_key(&["user_id", "conversation_id"]))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("muted_conversation", &["until"])).await?;
        manager
            .create_table(
                table(manager, "parked_push")
                    .col(column("conversation_id").binary_len(16))
                    .col(column("after_user").big_integer())
                    .col(column("upto_user").big_integer())
                    .col(column("seq").integer())
                    .col(column("tries").integer())
                    .col(column("lane").small_integer())
                    .col(column("due_at").big_integer())
                    .primary_key(&mut primary_key(&["conversation_id", "after_user"]))
                    .to_owned(),
            )
            .await?;
        manager.create_index(index("parked_push", &["lane", "due_at"])).await?;
        manager
            .create_table(
                table(manager, "quiet_hours")
                    .col(column("user_id").big_integer())
                    .col(column("starts").small_integer())
                    .col(column("ends").small_integer())
                    .col(column("time_zone").string_len(64))
                    .primary_key(&mut primary_key(&["user_id"]))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                table(manager, "dead_task")
                    .col(column("id").big_integer())
                    .col(column("topic").string_len(32))
                    .col(column("record").blob())
                    .col(column("reason").string_len(1024))
                    .col(column("died_at").big_integer())
                    .primary_key(&mut primary_key(&["id"]))
                    .to_owned(),
            )
            .await
    }
}
