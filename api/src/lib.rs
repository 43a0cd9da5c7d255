//! The GraphQL face of Confab: the only crate that knows GraphQL, HTTP and WebSocket.
//!
//! Two halves meet at `executor`. In front of it the edges: `server` listens, `http` and `websocket` speak the
//! protocols, and what both do with a request is `edge`: `guard` it, read its `document`, hold it against the `rules` of the
//! `typesystem`, coerce its variables (`coercion`), count its `cost`. Behind it `schema` says what can be asked and how an answer is put together from
//! `domain::Chat`; it holds no rule of the product. `viewer` is who asks; `connection` is what a socket gives to the
//! requests that come over it.

pub mod activity;
pub mod app;
pub mod coercion;
pub mod connection;
pub mod cost;
pub mod document;
pub mod edge;
pub mod executor;
pub mod explorer;
pub mod guard;
pub mod http;
pub mod hub;
pub mod origin;
pub mod parameters;
pub mod refusal;
pub mod rules;
pub mod schema;
pub mod server;
pub mod settings;
pub mod trace;
pub mod trusted;
pub mod typesystem;
pub mod viewer;
pub mod websocket;
