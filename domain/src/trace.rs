//! One id through every log line of a request, in every process that works on it.
//!
//! An edge takes the id from its client's `traceparent` or makes one, and runs the request in its [`scope`]; calls to other
//! processes and tasks for workers carry [`current`] along.

use std::fmt;

use tokio::task::futures::TaskLocalFuture;
use tracing::{Instrument as _, Span, instrument::Instrumented};

use crate::port::Random;

tokio::task_local! {
    static CURRENT: TraceId;
}

/// A W3C trace id: 32 lower-case hex digits. Clients see it as the request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// The trace of a `traceparent`: `00-<trace id>-<parent id>-<flags>`; later versions may have more after it.
    pub fn of_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let parent = hex(parts.next()?, 16)?;
        hex(parts.next()?, 2)?;
        let ends = version != "00" || parts.next().is_none();
        let zero = |digits: &str| digits.bytes().all(|digit| digit == b'0');
        (version != "ff" && ends && !zero(trace) && !zero(parent))
            .then(|| u128::from_str_radix(trace, 16).ok().map(Self))
            .flatten()
    }

    /// 32 lower-case hex digits.
    pub fn of_hex(text: &str) -> Option<Self> {
        hex(text, 32).and_then(|digits| u128::from_str_radix(digits, 16).ok()).map(Self)
    }

    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        Self(u128::from_be_bytes(bytes))
    }

    /// A `traceparent` for the next process; the parent is the trace's own lower half, as no single span is meant.
    pub fn to_traceparent(self) -> String {
        let low = self.0 & u128::from(u64::MAX);
        format!("00-{self}-{:016x}-00", low.max(1))
    }

    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The span that everything done for the request runs in.
    pub fn span(self) -> Span {
        tracing::info_span!("request", trace_id = %self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Runs a future as a part of the trace: its log lines name it, and [`current`] answers it.
pub fn scope<F: Future>(trace: TraceId, future: F) -> Instrumented<TaskLocalFuture<TraceId, F>> {
    let span = trace.span();
    CURRENT.scope(trace, future).instrument(span)
}

/// The trace that runs here, if any.
pub fn current() -> Option<TraceId> {
    CURRENT.try_with(|trace| *trace).ok()
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
        let taken = TraceId::of_traceparent(&format!("00-{trace}-00f067aa0ba902b7-01")).expect("valid");
        assert_eq!(taken.to_string(), trace);
        assert_eq!(TraceId::of_traceparent(&taken.to_traceparent()), Some(taken));
        assert!(TraceId::of_traceparent(&format!("01-{trace}-00f067aa0ba902b7-01-more")).is_some());
        for text in [
            String::new(),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            "00-x\n-y-01".into(),
        ] {
            assert_eq!(TraceId::of_traceparent(&text), None, "{text}");
        }
    }
}
