//! One row: what the whole installation agrees on.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "confab_meta")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Raised when the database lost a tail or was restored.
    pub epoch: i64,
    /// The fixed number of lanes.
    pub lanes: i16,
    /// The lowest schema version a binary must know to run on this schema.
    pub binary_min: i32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
