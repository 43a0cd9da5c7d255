//! The trace of a request, from its client or made here.

use axum::http::HeaderMap;
use domain::{port::Random, trace::TraceId};

/// The client's, when it sent a valid `traceparent`.
pub fn of(headers: &HeaderMap, random: &dyn Random) -> TraceId {
    let given = headers.get("traceparent").and_then(|value| TraceId::of_traceparent(value.to_str().ok()?));
    given.unwrap_or_else(|| TraceId::generate(random))
}
