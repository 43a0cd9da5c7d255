//! A collector of traces, over OTLP as the real ones.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{span::SpanKind, status::StatusCode},
};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::task::TaskTracker;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// How long spans may take: they leave once a second, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A span as it arrived; ids in hex.
#[derive(Clone, Debug)]
pub struct Seen {
    pub role: String,
    pub service: String,
    pub name: String,
    pub kind: SpanKind,
    pub trace: String,
    pub id: String,
    /// Empty where the trace begins.
    pub parent: String,
    pub failed: bool,
    pub fields: BTreeMap<String, String>,
}

pub struct Collector {
    pub url: String,
    seen: watch::Sender<Vec<Seen>>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let seen = watch::Sender::new(Vec::new());
        let service = TraceServiceServer::new(Receiver(seen.clone()));
        let served = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        let tasks = TaskTracker::new();
        tasks.spawn(served);
        Self { url, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// The spans of a trace, once there are as many of each name as are named.
    pub async fn trace(&self, trace: &str, names: &[&str]) -> Vec<Seen> {
        let of_trace =
            |all: &[Seen]| -> Vec<Seen> { all.iter().filter(|span| span.trace == trace).cloned().collect() };
        let complete = |all: &Vec<Seen>| {
            let mut there: Vec<String> = of_trace(all).into_iter().map(|span| span.name).collect();
            names.iter().all(|name| {
                let found = there.iter().position(|there| there == name);
                found.map(|found| there.swap_remove(found)).is_some()
            })
        };
        let mut watched = self.seen.subscribe();
        let waited = timeout(PATIENCE, watched.wait_for(complete)).await.is_ok();
        let spans = of_trace(&self.seen());
        assert!(waited, "not all of {names:?} arrived: {spans:#?}");
        spans
    }
}

struct Receiver(watch::Sender<Vec<Seen>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut new = Vec::new();
        for resource_spans in request.into_inner().resource_spans {
            let resource = fields(resource_spans.resource.unwrap_or_default().attributes);
            let of_process = |name: &str| resource.get(name).cloned().unwrap_or_default();
            for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                new.push(Seen {
                    role: of_process("confab.role"),
                    service: of_process("service.name"),
                    kind: span.kind(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
                    fields: fields(span.attributes),
                });
            }
        }
        self.0.send_modify(|seen| seen.extend(new));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn fields(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| {
        let text = match attribute.value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key, text)
    };
    attributes.into_iter().map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
