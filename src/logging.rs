//! Logs on standard error: for people on a terminal, JSON otherwise. Every line of a request carries its `trace_id`.

use std::io::{self, IsTerminal as _};

use domain::trace::TARGET;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    fmt,
    prelude::*,
    registry::LookupSpan,
};

use crate::traces::Traces;

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,sqlx=warn,sea_orm_migration=warn";

/// Spans of traces pass the log by; without a collector nobody makes any, and the filter stands before everything.
pub fn start(traces: Option<&Traces>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    match traces {
        None => tracing_subscriber::registry().with(filter).with(lines()).init(),
        Some(traces) => {
            let log = filter
                .and(filter_fn(|about| about.target() != TARGET).with_max_level_hint(LevelFilter::TRACE));
            tracing_subscriber::registry().with(lines().with_filter(log)).with(traces.layer()).init();
        }
    }
}

fn lines<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    if io::stderr().is_terminal() {
        fmt::layer().with_writer(io::stderr).with_target(false).compact().boxed()
    } else {
        // The span's fields, `trace_id` among them, stand beside the line's own.
        let layer = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
        layer.with_writer(io::stderr).boxed()
    }
}
