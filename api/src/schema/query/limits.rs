//! The published bounds.

use async_graphql::Context;

use crate::schema::types::limits::Limits;

pub fn limits(ctx: &Context<'_>) -> Option<Limits> {
    ctx.data_opt::<Limits>().cloned()
}
