//! What the GraphQL face promises, seen from outside the crate.

mod live;
mod schema_paging;
mod schema_rules;
mod schema_sdl;
mod schema_shareable;
