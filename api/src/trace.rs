//! The trace of a request, from its client or made here.

use async_graphql::Request;
use axum::http::HeaderMap;
use domain::{
    port::Random,
    trace::{ExportedSpan, TARGET, TraceContext, TraceId},
};

/// The client's, when it sent a valid `traceparent`.
pub fn of(headers: &HeaderMap, random: &dyn Random) -> TraceContext {
    let given =
        headers.get("traceparent").and_then(|value| TraceContext::of_traceparent(value.to_str().ok()?));
    given.unwrap_or_else(|| TraceId::generate(random).into())
}

/// Characters of an operation's name that a span shows; the name is the client's to choose.
const NAME_CHARS_MAX: usize = 64;

/// The span of an operation: its kind and name, nothing of its text.
pub fn operation(
    trace: TraceContext,
    kind: &'static str,
    name: impl FnOnce() -> Option<String>,
) -> ExportedSpan {
    ExportedSpan::root(trace, || {
        let name: String = name().unwrap_or_default().chars().take(NAME_CHARS_MAX).collect();
        tracing::info_span!(
            target: TARGET,
            parent: None,
            "operation",
            otel.name = format!("{kind} {name}").trim_end(),
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            "error.type" = tracing::field::Empty,
            "graphql.operation.type" = kind,
            graphql.operation.name = (!name.is_empty()).then_some(name.as_str()),
        )
    })
}

/// What a request calls its operation, if anything.
pub fn name_of(request: &mut Request) -> Option<String> {
    if request.operation_name.is_some() {
        return request.operation_name.clone();
    }
    let document = request.parsed_query().ok()?;
    document.operations.iter().find_map(|(name, _)| name).map(ToString::to_string)
}
