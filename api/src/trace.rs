//! One id through every log line of a request, taken from the client's `traceparent` or made here.

use std::{fmt, sync::Arc};

use axum::http::HeaderMap;
use domain::port::Random;
use tracing::Span;

/// A W3C trace id: 32 lower-case hex digits. Clients see it as the request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceId(Arc<str>);

impl TraceId {
    /// The client's, when it sent a valid `traceparent`.
    pub fn of(headers: &HeaderMap, random: &dyn Random) -> Self {
        let given = headers.get("traceparent").and_then(|value| parse(value.to_str().ok()?));
        given.unwrap_or_else(|| Self::generate(random))
    }

    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        Self(format!("{:032x}", u128::from_be_bytes(bytes)).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The span that everything done for the request runs in.
    pub fn span(&self) -> Span {
        tracing::info_span!("request", trace_id = %self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `00-<trace id>-<parent id>-<flags>`; later versions may have more after it.
fn parse(text: &str) -> Option<TraceId> {
    let mut parts = text.trim().split('-');
    let version = hex(parts.next()?, 2)?;
    let trace = hex(parts.next()?, 32)?;
    let parent = hex(parts.next()?, 16)?;
    hex(parts.next()?, 2)?;
    let ends = version != "00" || parts.next().is_none();
    let zero = |digits: &str| digits.bytes().all(|digit| digit == b'0');
    (version != "ff" && ends && !zero(trace) && !zero(parent)).then(|| TraceId(trace.into()))
}

fn hex(text: &str, digits: usize) -> Option<&str> {
    let valid = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    valid.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_traceparent_is_taken() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(
            parse(&format!("00-{trace}-00f067aa0ba902b7-01")).as_ref().map(TraceId::as_str),
            Some(trace)
        );
        assert!(parse(&format!("01-{trace}-00f067aa0ba902b7-01-more")).is_some());
        for text in [
            String::new(),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            "00-x\n-y-01".into(),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }
}
