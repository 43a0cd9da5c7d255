//! Messages.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "message")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversation_id: Vec<u8>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i32,
    pub id: i64,
    pub sender_id: Option<i64>,
    pub client_message_id: Option<Vec<u8>>,
    pub content_hash: Vec<u8>,
    /// 0 text, 1 system.
    pub kind: i16,
    pub body: String,
    /// Users of 8 bytes each, big-endian; null for none.
    pub mentions: Option<Vec<u8>>,
    pub created_at: i64,
    pub countable: i32,
    pub rev: i32,
    pub created_rev: i32,
    pub pos: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
