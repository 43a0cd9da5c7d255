//! How far each machine number's Snowflake time is leased.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "id_lease")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub machine: i16,
    /// Milliseconds since the Snowflake epoch; everything below is given away.
    pub ceiling_ms: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
