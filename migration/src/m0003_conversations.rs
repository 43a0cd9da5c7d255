//! Conversations, members, messages.

use sea_orm_migration::prelude::*;

use crate::{column, index, optional, primary_key, table};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, "conversation")
                    .col(column("id").binary_len(16))
                    .col(column("kind").small_integer())
                    .col(optional("title").string_len(200))
                    .col(column("created_at").big_integer())
                    .col(column("last_seq").integer())
                    .col(column("rev").integer())
                    .col(column("countable").integer())
                    .col(column("member_count").integer())
                    .col(column("active_at").big_integer())
                    .col(column("lane").small_integer())
                    .col(column("pos").big_integer())
                    .col(column("title_pos").big_integer())
                    .col(column("title_rev").integer())
                    .col(column("senders").var_binary(128))
                    .col(column("creator_id").big_integer())
                    .col(optional("client_key").var_binary(64))
                    .col(column("request_hash").binary_len(16))
                    .primary_key(&mut primary_key(&["id"]))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(index("conversation", &["creator_id", "client_key"]).unique().to_owned())
            .await?;
        create_member(manager).await?;
        create_message(manager).await
    }
}

async fn create_member(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            table(manager, "member")
                .col(column("conversation_id").binary_len(16))
                .col(column("user_id").big_integer())
                .col(column("role").small_integer())
                .col(column("read_seq").integer())
                .col(column("read_countable").integer())
                .col(column("joined_at").big_integer())
                .col(column("joined_rev").integer())
                .col(column("joined_pos").big_integer())
                .col(optional("removed_rev").integer())
                .col(column("removed_pos").big_integer())
                .col(column("role_rev").integer())
                .col(column("role_pos").big_integer())
                .col(column("read_rev").integer())
                .col(column("read_pos").big_integer())
                .col(column("pos").big_integer())
                .primary_key(&mut primary_key(&["conversation_id", "user_id"]))
                .to_owned(),
        )
        .await?;
    // The viewer's conversations; what changed in one since a cursor.
    manager.create_index(index("member", &["user_id", "removed_rev", "conversation_id"])).await?;
    manager.create_index(index("member", &["conversation_id", "pos"])).await
}

async fn create_message(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    manager
        .create_table(
            table(manager, "message")
                .col(column("conversation_id").binary_len(16))
                .col(column("seq").integer())
                .col(column("id").big_integer())
                .col(optional("sender_id").big_integer())
                .col(optional("client_message_id").var_binary(64))
                .col(column("content_hash").binary_len(16))
                .col(column("kind").small_integer())
                .col(column("body").text())
                .col(column("created_at").big_integer())
                .col(column("countable").integer())
                .col(column("rev").integer())
                .col(column("created_rev").integer())
                .col(column("pos").big_integer())
                // UNIQUE(conversation_id, seq): history is read in this order.
                .primary_key(&mut primary_key(&["conversation_id", "seq"]))
                .to_owned(),
        )
        .await?;
    manager.create_index(index("message", &["id"]).unique().to_owned()).await?;
    manager.create_index(index("message", &["sender_id", "client_message_id"]).unique().to_owned()).await?;
    manager.create_index(index("message", &["conversation_id", "created_at"])).await
}
