//! What the edge does with operations that panic, take too long, or whose client goes away.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use api::{
    edge::Edge,
    executor::{Executor, Operation, Subscription},
    server::Server,
    settings::Settings,
    websocket::{About, Sight, Sockets, Watched},
};
use async_graphql::{Request, Response, ServerError, Value};
use async_trait::async_trait;
use domain::{
    Caller, DocumentHash, ServiceError, ServiceResult, Spent,
    adapter::ambient::{SystemClock, SystemRandom},
};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Long enough for a slow machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers by the name of the root field. A permit of `started` and `ended` for each that waited, of `dropped` once it is gone.
struct Probe {
    started: Semaphore,
    may_end: Semaphore,
    ended: Semaphore,
    dropped: Semaphore,
}

/// Gives a permit when it is dropped.
struct Dropped<'a>(&'a Semaphore);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

#[async_trait]
impl Executor for Probe {
    async fn execute(&self, operation: Operation) -> Response {
        match root_field(operation.request).as_str() {
            "panics" => panic!("as asked"),
            "waits" => {
                self.started.add_permits(1);
                let _dropped = Dropped(&self.dropped);
                self.may_end.acquire().await.expect("open").forget();
                self.ended.add_permits(1);
            }
            _ => {}
        }
        Response::new(Value::Boolean(true))
    }

    async fn validate(&self, _: Request) -> Vec<ServerError> {
        Vec::new()
    }

    async fn spend(&self, _: Option<&Caller>, _: Option<IpAddr>, _: u32) -> ServiceResult<Option<Spent>> {
        Ok(None)
    }

    async fn document(&self, _: DocumentHash) -> Option<Arc<str>> {
        None
    }

    async fn keep_document(&self, _: DocumentHash, _: &str) {}

    fn authenticate(&self, _: &str) -> ServiceResult<Caller> {
        Err(ServiceError::unavailable("nobody is known here"))
    }

    fn subscribe(&self, _: Subscription) -> Box<dyn Watched> {
        Box::new(Silent)
    }
}

/// A subscription that tells nothing.
struct Silent;

impl Watched for Silent {
    fn sight(&self, _: About) -> Sight {
        Sight::Shown
    }
}

fn root_field(mut request: Request) -> String {
    let document = request.parsed_query().expect("parsed");
    let (_, operation) = document.operations.iter().next().expect("an operation");
    match &operation.node.selection_set.node.items[0].node {
        async_graphql::parser::types::Selection::Field(field) => field.node.name.node.to_string(),
        _ => String::new(),
    }
}

pub struct Node {
    probe: Arc<Probe>,
    pub address: SocketAddr,
    stop: CancellationToken,
    serving: TaskTracker,
}

/// Without the schema of the product: its fields panic, wait or answer. Nobody accepts yet.
fn bound(operation_timeout: Duration, operations_max: usize) -> (Arc<Probe>, Server) {
    let [started, may_end, ended, dropped] = [0, 0, 0, 0].map(Semaphore::new);
    let probe = Arc::new(Probe { started, may_end, ended, dropped });
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings { listen, operation_timeout, operations_max, ..Settings::default() };
    let sockets = Sockets::new(&settings.sockets);
    let sdl = "type Query { panics: Int waits: Int answers: Int } type Mutation { waits: Int }";
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let edge = Edge::new(settings, sdl, probe.clone(), clock, random).expect("reads the schema");
    let server = Server::bind(Arc::new(edge), sockets, sdl.into()).expect("binds");
    (probe, server)
}

pub fn start(operation_timeout: Duration, operations_max: usize) -> Node {
    let (probe, server) = bound(operation_timeout, operations_max);
    let (address, stop, serving) =
        (server.address().expect("bound"), CancellationToken::new(), TaskTracker::new());
    serving.spawn(server.serve(stop.clone()));
    serving.close();
    Node { probe, address, stop, serving }
}

impl Node {
    async fn ask(&self, field: &str) -> serde_json::Value {
        self.send(&format!("{{ {field} }}")).await
    }

    async fn send(&self, document: &str) -> serde_json::Value {
        let request = crate::test_server::client().post(format!("http://{}/graphql", self.address));
        let body = json!({ "query": document }).to_string();
        let answer = request.header("content-type", "application/json").body(body).send();
        let text = answer.await.expect("an answer").text().await.expect("text");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Takes a permit that something must have given.
    async fn saw(&self, what: &Semaphore) {
        timeout(PATIENCE, what.acquire()).await.expect("in time").expect("open").forget();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_internal_with_a_request_id_and_kills_nothing() {
    let node = start(PATIENCE, 10);
    let body = node.ask("panics").await;
    let extensions = &body["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "INTERNAL");
    assert_eq!(extensions["requestId"].as_str().map(str::len), Some(32), "{body}");
    assert!(!body.to_string().contains("as asked"));
    assert_eq!(node.ask("answers").await, json!({"data": true}));
}

#[tokio::test]
async fn hundreds_of_clients_may_wait_to_be_accepted() {
    let (_, server) = bound(PATIENCE, 1);
    let address = server.address().expect("bound");
    // 128 is what Linux before 5.4 allowed.
    let allowed = fs::read_to_string("/proc/sys/net/core/somaxconn");
    let allowed = allowed.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(128);
    let clients = (0..500.min(allowed)).map(|_| timeout(PATIENCE, TcpStream::connect(address)));
    for client in futures_util::future::join_all(clients).await {
        client.expect("it is not kept waiting").expect("it connects");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_deadline_a_mutation_is_unavailable_and_goes_on() {
    let node = start(Duration::from_millis(100), 10);
    let body = node.send("mutation { waits }").await;
    assert_eq!(body["errors"][0]["extensions"], json!({"code": "UNAVAILABLE", "retryable": true}), "{body}");
    assert_eq!(node.probe.dropped.available_permits(), 0);
    node.probe.may_end.add_permits(1);
    node.saw(&node.probe.ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_deadline_a_query_is_unavailable_and_stops() {
    let node = start(Duration::from_millis(100), 1);
    let body = node.ask("waits").await;
    assert_eq!(body["errors"][0]["extensions"], json!({"code": "UNAVAILABLE", "retryable": true}), "{body}");
    node.saw(&node.probe.dropped).await;
    assert_eq!(node.probe.ended.available_permits(), 0, "it did not go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_goes_on_when_its_client_goes_away() {
    let node = start(PATIENCE, 10);
    let mut stream = TcpStream::connect(node.address).await.expect("connects");
    let body = r#"{"query": "{ waits }"}"#;
    let head = "POST /graphql HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.expect("writes");
    node.saw(&node.probe.started).await;
    drop(stream);
    // The server has met the end of the connection once it answers another.
    assert_eq!(node.ask("answers").await, json!({"data": true}));
    node.probe.may_end.add_permits(1);
    node.saw(&node.probe.ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_operations_than_allowed_are_unavailable() {
    let node = start(PATIENCE, 1);
    let (waited, refused) = tokio::join!(node.ask("waits"), async {
        node.saw(&node.probe.started).await;
        let refused = node.ask("answers").await;
        node.probe.may_end.add_permits(1);
        refused
    });
    assert_eq!(waited, json!({"data": true}));
    assert_eq!(refused["errors"][0]["extensions"]["code"], "UNAVAILABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_what_runs() {
    let node = start(PATIENCE, 10);
    let (answer, ()) = tokio::join!(node.ask("waits"), async {
        node.saw(&node.probe.started).await;
        node.stop.cancel();
        assert!(timeout(Duration::from_millis(100), node.serving.wait()).await.is_err(), "stopped at once");
        node.probe.may_end.add_permits(1);
    });
    assert_eq!(answer, json!({"data": true}));
    timeout(PATIENCE, node.serving.wait()).await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_document_that_breaks_a_rule_is_found_before_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let sdl = "type Query { panics: Int waits: Int answers: Int }";
    for (text, problem) in [
        ("{ answers }", None),
        ("{ nothing }", Some("Unknown field \"nothing\"")),
        ("{ a: answers a: waits }", Some("Fields \"a\" conflict")),
        ("{ __typename(a: 1) }", Some("Unknown argument \"a\"")),
    ] {
        let file = folder.path().join("manifest.json");
        fs::write(&file, json!({ "one": text }).to_string()).expect("writes");
        let settings = Settings { trusted_documents: vec![file], ..Settings::default() };
        let [started, may_end, ended, dropped] = [0, 0, 0, 0].map(Semaphore::new);
        let probe = Arc::new(Probe { started, may_end, ended, dropped });
        let edge = Edge::new(settings, sdl, probe, Arc::new(SystemClock), Arc::new(SystemRandom));
        let invalid = edge.expect("reads them").invalid_trusted().await;
        let found = invalid.map(|invalid| invalid.to_string());
        match (found, problem) {
            (None, None) => {}
            (Some(found), Some(problem)) => {
                let expected = format!("manifest.json: the document one is not valid: {problem}");
                assert!(found.contains(&expected), "{found}");
            }
            (found, _) => panic!("{text}: {found:?}"),
        }
    }
}
