//! Spans of what a request goes through, for whoever collects traces.
//!
//! They are spans of `tracing` under a target of their own, which the log leaves out. Nobody enters them: their parents are
//! known by id, in this process as between processes. Without an exporter none is made, and what a span would have been
//! around runs as if it were not there.

use std::sync::OnceLock;

use futures_util::FutureExt as _;
use tokio::task::futures::TaskLocalFuture;
use tracing::Span;

use super::{CURRENT, ParentSpan, TraceContext};

/// The target of spans that are exported.
pub const TARGET: &str = "confab::trace";

/// Begins to export a span as a part of what the context names, and answers which one it is now.
pub type Begin = fn(&Span, TraceContext) -> Option<ParentSpan>;

static EXPORT: OnceLock<Begin> = OnceLock::new();

/// Exports spans from now on. Once, before anything else runs.
pub fn export_with(begin: Begin) {
    // A second exporter in one process has nobody to tell.
    let _ = EXPORT.set(begin);
}

/// Whether spans go anywhere.
pub fn is_exported() -> bool {
    EXPORT.get().is_some()
}

/// A span that ends when the last of its handles is dropped.
#[derive(Clone, Debug)]
pub struct ExportedSpan {
    span: Span,
    context: Option<TraceContext>,
}

impl ExportedSpan {
    /// Where a trace begins, or the trace of a client comes in.
    pub fn root(context: TraceContext, make: impl FnOnce() -> Span) -> Self {
        let not_exported = Self { span: Span::none(), context: Some(context) };
        let Some(begin) = EXPORT.get() else { return not_exported };
        if context.parent.is_some_and(|parent| !parent.sampled) {
            return not_exported;
        }
        let span = make();
        match begin(&span, context) {
            Some(parent) => Self { span, context: Some(TraceContext { parent: Some(parent), ..context }) },
            None => not_exported,
        }
    }

    /// A part of what a span is known of; nothing begins here.
    pub fn part_of(context: Option<TraceContext>, make: impl FnOnce() -> Span) -> Self {
        match context.filter(|context| context.parent.is_some()) {
            Some(context) => Self::root(context, make),
            None => Self { span: Span::none(), context },
        }
    }

    /// A part of what runs here.
    pub fn part(make: impl FnOnce() -> Span) -> Self {
        Self::part_of(super::current(), make)
    }

    /// Whether it is not exported.
    pub fn is_none(&self) -> bool {
        self.span.is_none()
    }

    /// The place of whatever is a part of it.
    pub const fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// The span lasts as long as the future, and is the current one in it.
    pub fn around<F: Future>(
        self,
        future: F,
    ) -> TaskLocalFuture<Option<TraceContext>, impl Future<Output = F::Output> + use<F>> {
        let Self { span, context } = self;
        CURRENT.scope(
            context,
            future.map(move |output| {
                drop(span);
                output
            }),
        )
    }

    /// As [`Self::around`]; a result that is an error is told by the name that `name` gives it.
    pub fn around_result<F, T, E>(
        self,
        future: F,
        name: impl FnOnce(&E) -> &'static str,
    ) -> TaskLocalFuture<Option<TraceContext>, impl Future<Output = Result<T, E>>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let Self { span, context } = self;
        let told = future.map(move |output| {
            if let Err(error) = &output {
                fail(&span, name(error));
            }
            output
        });
        CURRENT.scope(context, told)
    }

    /// What the span is about came to nothing. Never a text: an error's code.
    pub fn fail(&self, error: &'static str) {
        fail(&self.span, error);
    }

    /// A number or a word that was not known at the beginning.
    pub fn record(&self, field: &'static str, value: impl tracing::Value) {
        self.span.record(field, value);
    }
}

fn fail(span: &Span, error: &'static str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error);
}

/// The span of a call over gRPC, from the caller's side (`client`) or the other (`server`). Names as OpenTelemetry has them.
pub fn rpc(kind: &'static str, service: &'static str, call: &'static str) -> Span {
    let method = method(call);
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "rpc",
        otel.name = %format_args!("{service}/{method}"),
        otel.kind = kind,
        otel.status_code = tracing::field::Empty,
        "error.type" = tracing::field::Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = %method,
    )
}

/// The span of a transaction, as one request among `items` that rode in it.
pub fn commit(items: usize) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "commit",
        otel.status_code = tracing::field::Empty,
        "error.type" = tracing::field::Empty,
        confab.items = items,
        confab.lane = tracing::field::Empty,
        confab.pos = tracing::field::Empty,
    )
}

/// `send_message` is `SendMessage` on the wire.
fn method(call: &str) -> String {
    let words = call.split('_').filter_map(|word| word.split_at_checked(1));
    words.fold(String::new(), |name, (first, rest)| name + &first.to_ascii_uppercase() + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceId;

    #[test]
    fn a_call_has_its_name_on_the_wire() {
        assert_eq!(method("send_message"), "SendMessage");
        assert_eq!(method("missed"), "Missed");
    }

    #[tokio::test]
    async fn without_an_exporter_no_span_is_made_and_the_context_stays() {
        let context = TraceContext::from(TraceId::from_bytes([7; 16]));
        let span = ExportedSpan::root(context, || panic!("made"));
        assert_eq!(span.context(), Some(context));
        let inside = span.around(async { super::super::current() }).await;
        assert_eq!(inside, Some(context));
        assert_eq!(ExportedSpan::part(|| panic!("made")).context(), None);
    }
}
