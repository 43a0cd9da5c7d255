//! Traces for a collector, over OTLP: off unless `CONFAB_OTLP_ENDPOINT` is set.
//!
//! The spans are made where things happen, see `domain::trace`; here they get their ids, are sampled, and leave in batches on a
//! thread of their own. A collector that is away costs its spans and nothing else: the queue is bounded, and what finds no
//! place in it is dropped.

use std::{
    cell::Cell,
    num::NonZeroU64,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use domain::{
    measure,
    trace::{self, ParentSpan, TARGET, TraceContext, TraceId},
};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceState, TracerProvider as _},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, Sampler, SdkTracerProvider,
        SpanData, SpanExporter,
    },
};
use tokio::{runtime::Handle, time::timeout};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use crate::settings::{OtlpEndpoint, Settings};

/// Spans of one request to the collector, and how long they wait for others: the first is what OpenTelemetry proposes for
/// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, the second is less than its 5 s, for people who look at what they have just done.
const BATCH_SPANS_MAX: usize = 512;
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// Of one request to the collector, with its attempts.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the last spans may hold up the end of a process.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Where traces go.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// `None` without an endpoint. Within a runtime, which the connection lives on; connects when there is something to send.
    pub fn start(settings: &Settings, role: &'static str) -> Result<Option<Self>, ExporterBuildError> {
        let Some(OtlpEndpoint(endpoint)) = settings.otlp_endpoint.clone() else { return Ok(None) };
        let exporter = OtlpExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint.clone())
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let away = AtomicBool::new(false);
        let exporter = Watched { exporter, endpoint, runtime: Handle::current(), away };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(settings.otlp_queue_spans_max)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let sampler = Sampler::TraceIdRatioBased(settings.otlp_sampling_ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_id_generator(Ids::default())
            .with_resource(resource(role))
            .build();
        trace::export_with(begin);
        Ok(Some(Self { provider }))
    }

    /// What hands spans over.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("confab"))
            // Nobody enters these spans, and where they are in the sources is nobody's concern.
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(Targets::new().with_target(TARGET, Level::INFO))
    }

    /// Sends what is left, within a bound.
    pub fn stop(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(STOP_TIMEOUT) {
            tracing::warn!(error = %error, "the last spans may not have been exported");
        }
    }
}

fn resource(role: &'static str) -> Resource {
    // What tells this process apart from others of its role.
    let node = RandomIdGenerator::default().new_span_id().to_string();
    // Nothing from the environment: what can be set is in the settings.
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "confab"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.clone()),
            KeyValue::new("confab.role", role),
            KeyValue::new("confab.node", node),
        ])
        .build()
}

thread_local! {
    /// The trace that begins on this thread just now.
    static BEGINS: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Begins a span for OpenTelemetry: in its trace, below its parent, sampled or not.
fn begin(span: &Span, context: TraceContext) -> Option<ParentSpan> {
    if let Some(parent) = context.parent {
        let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let (trace, parent) = (context.id.to_bytes(), parent.id.get().to_be_bytes());
        let (trace, parent) = (opentelemetry::trace::TraceId::from_bytes(trace), SpanId::from_bytes(parent));
        let parent = SpanContext::new(trace, parent, flags, true, TraceState::NONE);
        span.set_parent(Context::new().with_remote_span_context(parent)).ok()?;
    }
    BEGINS.set(Some(context.id));
    // Asking for it begins the span.
    let begun = span.context();
    BEGINS.set(None);
    let begun = begun.span().span_context().clone();
    let id = NonZeroU64::new(u64::from_be_bytes(begun.span_id().to_bytes()))?;
    Some(ParentSpan { id, sampled: begun.is_sampled() })
}

/// A trace has the id that the log and the client know.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> opentelemetry::trace::TraceId {
        let begins = BEGINS.get().map(|id| opentelemetry::trace::TraceId::from_bytes(id.to_bytes()));
        begins.unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

/// An exporter that never takes longer than it may, and says once that it fails and once that it works again.
#[derive(Debug)]
struct Watched<E> {
    exporter: E,
    endpoint: String,
    /// Of the timer: the thread that exports has none.
    runtime: Handle,
    away: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let exported = {
            let _timer = self.runtime.enter();
            timeout(EXPORT_TIMEOUT, self.exporter.export(batch))
        };
        let outcome = exported.await.unwrap_or(Err(OTelSdkError::Timeout(EXPORT_TIMEOUT)));
        let was_away = self.away.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Ok(()) if was_away => {
                tracing::info!(otlp.endpoint = self.endpoint, "the collector takes spans again");
            }
            Err(error) if !was_away => {
                tracing::warn!(
                    otlp.endpoint = self.endpoint,
                    error = %error,
                    "spans are lost until the collector takes them again"
                );
            }
            _ => {}
        }
        let told = if outcome.is_ok() { "exported" } else { "lost" };
        measure::count(measure::SPANS, &[("outcome", told)], spans);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
