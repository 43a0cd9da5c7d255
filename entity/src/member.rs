//! Memberships, ended ones included.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "member")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub conversation_id: Vec<u8>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: i64,
    /// 0 member, 1 admin, 2 owner.
    pub role: i16,
    pub read_seq: i32,
    pub read_countable: i32,
    pub joined_at: i64,
    pub joined_rev: i32,
    pub joined_pos: i64,
    pub removed_rev: Option<i32>,
    pub removed_pos: i64,
    pub role_rev: i32,
    pub role_pos: i64,
    pub read_rev: i32,
    pub read_pos: i64,
    /// The largest of the positions above.
    pub pos: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
