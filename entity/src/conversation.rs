//! Conversations and their heads.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "conversation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Vec<u8>,
    /// 0 direct, 1 group.
    pub kind: i16,
    pub title: Option<String>,
    pub created_at: i64,
    pub last_seq: i32,
    pub rev: i32,
    pub countable: i32,
    pub member_count: i32,
    pub active_at: i64,
    pub lane: i16,
    pub pos: i64,
    pub title_pos: i64,
    pub title_rev: i32,
    /// Read positions of the last senders, 16 bytes each.
    pub senders: Vec<u8>,
    pub creator_id: i64,
    pub client_key: Option<Vec<u8>>,
    pub request_hash: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
