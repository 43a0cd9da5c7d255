//! What the GraphQL face promises, seen from outside the crate.

mod bad_input;
mod edge_run;
mod hostile_documents;
mod http_body;
mod http_media;
mod http_pages;
mod http_variables;
mod live;
mod live_bounds;
mod live_changes;
mod live_resync;
mod paging;
mod people;
mod schema_paging;
mod schema_rules;
mod schema_sdl;
mod schema_shareable;
mod sends;
mod socket;
mod socket_end;
mod socket_protocol;
mod statements;
mod test_server;
mod tokens;
