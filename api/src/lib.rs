//! The GraphQL face of Confab: the only crate that knows GraphQL, HTTP and WebSocket.
//!
//! `schema` says what can be asked and how an answer is put together from `domain::Chat`; it holds no rule of the
//! product. `viewer` is who asks; `connection` is what a socket gives to the requests that come over it.

pub mod connection;
pub mod schema;
pub mod viewer;
