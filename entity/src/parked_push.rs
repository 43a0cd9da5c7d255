//! Pushes that wait for their provider: of each run of a conversation's members, those about the newest message alone.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "parked_push")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversation_id: Vec<u8>,
    /// Members whose user ids are above it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub after_user: i64,
    pub upto_user: i64,
    pub seq: i32,
    /// How often it was tried.
    pub tries: i32,
    /// Of the conversation.
    pub lane: i16,
    pub due_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
