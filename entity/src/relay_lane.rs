//! How far each lane has been relayed, and by whom.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "relay_lane")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub lane: i16,
    /// The last position that arrived.
    pub pos: i64,
    /// Counts the owners; 0 when nobody has relayed yet.
    pub fence: i64,
    /// The worker that has the lane until `lease_until`.
    pub worker: i64,
    pub lease_until: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
