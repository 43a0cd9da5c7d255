//! One id through every log line of a request, in every process that works on it.
//!
//! An edge takes the id from its client's `traceparent` or makes one, and runs the request in its [`scope`]; calls to other
//! processes and tasks for workers carry [`current`] along. Where traces are exported, what a request goes through are
//! [`ExportedSpan`]s; who exports them is the binary's to know.

mod exported;

use std::{fmt, num::NonZeroU64};

use tokio::task::futures::TaskLocalFuture;
use tracing::{Instrument as _, Span, instrument::Instrumented};

pub use self::exported::{Begin, ExportedSpan, TARGET, commit, export_with, is_exported, rpc};
use crate::port::Random;

tokio::task_local! {
    static CURRENT: Option<TraceContext>;
}

/// A W3C trace id: 32 lower-case hex digits. Clients see it as the request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

/// A place in a trace: what happens next is a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub id: TraceId,
    /// `None` where the trace begins.
    pub parent: Option<ParentSpan>,
}

/// A span of this process or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentSpan {
    pub id: NonZeroU64,
    /// Whether the trace is exported; who begins it decides for all.
    pub sampled: bool,
}

/// The flag of a `traceparent` that says that the trace is exported.
const SAMPLED: u8 = 1;

impl TraceContext {
    /// Of a `traceparent`: `00-<trace id>-<parent id>-<flags>`; later versions may have more after it.
    pub fn of_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let version = hex(parts.next()?, 2)?;
        let id = TraceId::of_hex(parts.next()?).filter(|id| id.0 != 0)?;
        let parent = u64::from_str_radix(hex(parts.next()?, 16)?, 16).ok().and_then(NonZeroU64::new)?;
        let flags = u8::from_str_radix(hex(parts.next()?, 2)?, 16).ok()?;
        let ends = version != "00" || parts.next().is_none();
        let parent = ParentSpan { id: parent, sampled: flags & SAMPLED != 0 };
        (version != "ff" && ends).then_some(Self { id, parent: Some(parent) })
    }

    /// A `traceparent` for the next process. Where no span is known the parent is the trace's own lower half, and not sampled.
    pub fn to_traceparent(self) -> String {
        let low = self.id.0 & u128::from(u64::MAX);
        let (span, flags) = match self.parent {
            Some(parent) => (u128::from(parent.id.get()), u8::from(parent.sampled) * SAMPLED),
            None => (low.max(1), 0),
        };
        format!("00-{}-{span:016x}-{flags:02x}", self.id)
    }
}

impl From<TraceId> for TraceContext {
    fn from(id: TraceId) -> Self {
        Self { id, parent: None }
    }
}

impl TraceId {
    /// 32 lower-case hex digits.
    pub fn of_hex(text: &str) -> Option<Self> {
        hex(text, 32).and_then(|digits| u128::from_str_radix(digits, 16).ok()).map(Self)
    }

    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        Self(u128::from_be_bytes(bytes))
    }

    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The span that everything done for the request runs in.
    pub fn span(self) -> Span {
        // At the highest level: a line that is logged at all is to have it.
        tracing::error_span!("request", trace_id = %self)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Runs a future as a part of the trace: its log lines name it, and [`current`] answers it. What runs within the trace already has a span for
/// its lines, which is kept: making one costs more than much of what it is made for.
pub fn scope<F: Future>(
    context: TraceContext,
    future: F,
) -> Instrumented<TaskLocalFuture<Option<TraceContext>, F>> {
    let within = current().is_some_and(|current| current.id == context.id);
    let span = if within { Span::current() } else { context.id.span() };
    CURRENT.scope(Some(context), future).instrument(span)
}

/// [`scope`] where there is a trace.
pub async fn scope_of<F: Future>(context: Option<TraceContext>, future: F) -> F::Output {
    match context {
        Some(context) => scope(context, future).await,
        None => future.await,
    }
}

/// [`current`] answers it meanwhile: for what neither waits nor logs.
pub fn within<T>(context: Option<TraceContext>, run: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(context, run)
}

/// The place in the trace that runs here, if any.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok().flatten()
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
        let taken = TraceContext::of_traceparent(&format!("00-{trace}-00f067aa0ba902b7-01")).expect("valid");
        assert_eq!(taken.id.to_string(), trace);
        let parent = taken.parent.expect("a parent");
        assert_eq!((parent.id.get(), parent.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(taken.to_traceparent(), format!("00-{trace}-00f067aa0ba902b7-01"));
        let more = TraceContext::of_traceparent(&format!("01-{trace}-00f067aa0ba902b7-fe-more"));
        assert_eq!(more.and_then(|more| more.parent).map(|parent| parent.sampled), Some(false));
        for text in [
            String::new(),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            "00-x\n-y-01".into(),
        ] {
            assert_eq!(TraceContext::of_traceparent(&text), None, "{text}");
        }
    }

    #[test]
    fn a_trace_without_a_span_goes_on_unsampled() {
        let id = TraceId::from_bytes([0xab; 16]);
        let next = TraceContext::of_traceparent(&TraceContext::from(id).to_traceparent()).expect("valid");
        assert_eq!((next.id, next.parent.map(|parent| parent.sampled)), (id, Some(false)));
    }
}
