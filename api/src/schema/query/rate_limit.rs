//! What is left of the budget.

use async_graphql::Context;

use crate::{executor::Paid, schema::types::limits::RateLimit};

pub fn rate_limit(ctx: &Context<'_>) -> Option<RateLimit> {
    let paid = ctx.data_opt::<Paid>()?;
    Some(RateLimit::new(paid.cost, paid.spent?))
}
