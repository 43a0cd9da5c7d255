//! Devices that get pushes: at most one a session, and one a provider's address.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "device")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_id: i64,
    pub user_id: i64,
    /// 0 APNs, 1 FCM, 2 Web Push.
    pub provider: i16,
    /// The provider's token, or the endpoint.
    pub address: Vec<u8>,
    /// SHA-256 of provider and address.
    pub address_hash: Vec<u8>,
    /// The keys of a Web Push subscription.
    pub p256dh: Option<Vec<u8>>,
    pub auth: Option<Vec<u8>>,
    pub registered_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
