//! What is made to keep a server busy costs it next to nothing, over HTTP and sockets.
//!
//! Where it is counted, client and server share one thread, whose time on a processor the kernel knows.

use std::{
    fmt::Write as _,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::{
    runtime,
    task::{self, JoinHandle},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    socket::Socket,
    test_server::{GRAPHQL_RESPONSE, JSON, TestServer, answer, client},
};

/// Of client and server together. A build without optimisation takes several times as long.
const CPU_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 60 } else { 10 });

/// A larger message closes its socket, whatever it holds; with some room for what is around the document.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 - 1000;

/// What this thread has had of a processor.
fn cpu() -> Duration {
    // The kernel's figure is a few milliseconds old unless the thread gives way.
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).expect("nanoseconds"))
}

/// Documents that are refused for a bound; all below that of a socket's message.
fn documents() -> Vec<(String, String)> {
    let mut bombs = Vec::new();
    let mut bomb = |name: String, text: String| bombs.push((name, text));
    for levels in [65, 10_000, 100_000] {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        bomb(format!("{levels} lists"), format!("{{ a(b: {open}{close}) }}"));
        bomb(format!("{levels} objects"), format!("{{ a(b: {}", "{a:".repeat(levels)));
        bomb(format!("{levels} selections"), format!("{}a{}", "{a".repeat(levels), "}".repeat(levels)));
        bomb(format!("{levels} parentheses"), format!("{{ a{}", "(".repeat(levels)));
        bomb(format!("{levels} types"), format!("query($a: {open}Int{close}) {{ a }}"));
    }
    for count in [16, 30, 60] {
        let mut text = "{ ...F0 }".to_owned();
        for index in 0..count {
            write!(text, " fragment F{index} on Query {{ ...F{0} ...F{0} }}", index + 1).expect("writes");
        }
        write!(text, " fragment F{count} on Query {{ __typename }}").expect("writes");
        bomb(format!("{count} doubling fragments"), text);
    }
    let many = |item: fn(usize) -> String| (0..10_000).map(item).collect::<String>();
    bomb("10,000 aliases".into(), format!("{{ {} }}", many(|index| format!("a{index}:viewer{{id}} "))));
    bomb(
        "10,000 aliases of __typename".into(),
        format!("{{ {} }}", many(|index| format!("a{index}:__typename "))),
    );
    bomb("10,000 fields".into(), format!("{{ {} }}", many(|_| "__typename ".into())));
    bomb("10,000 directives".into(), format!("{{ __typename {} }}", many(|_| "@a ".into())));
    bomb(
        "10,000 directives with arguments".into(),
        format!("{{ __typename {} }}", many(|_| "@skip(if:false)".into())),
    );
    bomb("10,000 operations".into(), many(|index| format!("query A{index} {{ a }} ")));
    bomb(
        "10,000 fragments".into(),
        format!("{{ a }} {}", many(|index| format!("fragment F{index} on Query {{ a }} "))),
    );
    bomb("10,000 variables".into(), format!("query({}) {{ a }}", many(|index| format!("$a{index}: Int "))));
    bomb("a comment of 200 kB".into(), format!("{{ a }} #{}", "x".repeat(200_000)));
    bomb("a string of 200 kB".into(), format!("{{ a(b: \"{}\") }}", "x".repeat(200_000)));
    bombs
}

/// Documents within every bound that keep no rule; the server looks for what each name may have meant.
fn faulty() -> Vec<(String, String)> {
    let fields = |field: fn(usize) -> String| format!("{{ {} }}", (0..1990).map(field).collect::<String>());
    vec![
        ("1,990 unknown fields".into(), fields(|_| "viewr ".into())),
        ("1,990 unknown fields, each another one".into(), fields(|index| format!("viewer{index} "))),
    ]
}

/// Runs something and holds its cost against the bound. The first of a kind pays for what is made once.
async fn cheap<T>(name: &str, costs: &mut Vec<(Duration, String)>, mut work: impl AsyncFnMut() -> T) -> T {
    let mut least = Duration::MAX;
    let mut outcome = None;
    for _ in 0..2 {
        let before = cpu();
        outcome = Some(work().await);
        least = least.min(cpu().saturating_sub(before));
    }
    costs.push((least, name.to_owned()));
    assert!(least < CPU_MAX, "{name}: {least:?}");
    outcome.expect("done twice")
}

fn tell(mut costs: Vec<(Duration, String)>) {
    costs.sort_unstable();
    let dearest: Vec<_> = costs.iter().rev().take(3).collect();
    println!("{} bombs; the dearest for client and server: {dearest:?}", costs.len());
}

#[tokio::test]
async fn bombs_over_http_are_refused_for_next_to_nothing() {
    let server = TestServer::start().await;
    let mut costs = Vec::new();
    for (bombs, code) in [(documents(), "LIMIT_EXCEEDED"), (faulty(), "BAD_REQUEST")] {
        for (name, document) in bombs {
            let body = json!({ "query": document }).to_string();
            let refused =
                cheap(&name, &mut costs, async || answer(server.post(GRAPHQL_RESPONSE, body.clone())).await)
                    .await;
            assert_eq!((refused.status, refused.code().as_str()), (400, code), "{name}: {}", refused.text);
        }
    }
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for levels in [40, 10_000, 100_000] {
        let body =
            format!("{{\"query\":\"query($a: [Int]) {{ a }}\",\"variables\":{{\"a\":{}}}}}", deep(levels));
        let name = format!("variables of {levels} levels");
        let refused =
            cheap(&name, &mut costs, async || answer(server.post(GRAPHQL_RESPONSE, body.clone())).await)
                .await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "LIMIT_EXCEEDED"), "{name}");
    }
    let batch = format!("[{}]", vec![r#"{"query":"{ __typename }"}"#; 1000].join(","));
    let refused =
        cheap("a batch of 1,000", &mut costs, async || answer(server.post(JSON, batch.clone())).await).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "BAD_REQUEST"), "{}", refused.text);
    let large = " ".repeat(10_000_000);
    let refused = cheap("a body of 10 MB", &mut costs, async || {
        // The server may close while it is still being written to.
        server.post(JSON, large.clone()).send().await.map_or(413, |answer| answer.status().as_u16())
    })
    .await;
    assert_eq!(refused, 413);
    tell(costs);
    assert_eq!(server.query(JSON, "{ __typename }", json!({})).await.status, 200, "it lives on");
}

#[tokio::test]
async fn bombs_over_a_socket_are_refused_for_next_to_nothing() {
    let server = TestServer::start().await;
    let mut socket = Socket::initialised(&server, None).await;
    let mut costs = Vec::new();
    for (bombs, code) in [(documents(), "LIMIT_EXCEEDED"), (faulty(), "BAD_REQUEST")] {
        for (name, document) in bombs.into_iter().filter(|(_, text)| text.len() < MESSAGE_BYTES_MAX) {
            let refused: Value = cheap(&name, &mut costs, async || {
                socket.subscribe("b", &document, json!({})).await;
                socket.hear().await
            })
            .await;
            assert_eq!(refused["type"], "error", "{name}: {refused}");
            assert_eq!(refused["payload"][0]["extensions"]["code"], code, "{name}: {refused}");
        }
    }
    tell(costs);
    for levels in [40, 50_000] {
        let mut deep = Socket::initialised(&server, None).await;
        let text = format!("{{\"type\":\"ping\",\"payload\":{{\"a\":{}}}}}", "[".repeat(levels));
        deep.send(tokio_tungstenite::tungstenite::Message::text(text)).await;
        assert_eq!(deep.closed().await.0, 4400);
    }
}

/// Turns without and with bombs, and requests of a user in each.
const TURNS: usize = 4;
const REQUESTS: usize = 250;
/// Between two requests of the user.
const PACE: Duration = Duration::from_millis(5);
/// Between two bombs on each edge: together 100 a second, more than twice as many large documents as the budget of an address lets through
/// for long.
const BOMBS_PACE: Duration = Duration::from_millis(20);

/// On a thread of its own, as somebody elsewhere.
fn elsewhere<T: Send + 'static>(work: impl AsyncFnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    task::spawn_blocking(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work())
    })
}

/// A client with connections of its own.
fn poster(server: &TestServer) -> impl Fn(String) -> RequestBuilder {
    let (client, url) = (client(), format!("http://{}/graphql", server.address));
    move |body| client.post(&url).header("content-type", JSON).header("accept", GRAPHQL_RESPONSE).body(body)
}

/// All bombs in turns, over both edges, until it is told to stop; how many they were.
async fn bombs_away(server: &TestServer, stop: &AtomicBool) -> usize {
    let bombs: Vec<_> = documents().into_iter().chain(faulty()).map(|(_, text)| text).collect();
    let mut bodies: Vec<String> = bombs.iter().map(|text| json!({ "query": text }).to_string()).collect();
    bodies.push(" ".repeat(10_000_000));
    let small = |text: &&String| text.len() < MESSAGE_BYTES_MAX;
    let messages: Vec<&String> = bombs.iter().filter(small).collect();
    let mut socket = Socket::initialised(server, None).await;
    let (post, mut pace, mut sent) = (poster(server), interval(BOMBS_PACE), 0);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        // The largest is cut off while it is still being written.
        let _ = post(bodies[sent % bodies.len()].clone()).send().await;
        socket.subscribe("b", messages[sent % messages.len()], json!({})).await;
        assert_eq!(socket.hear().await["type"], "error");
        sent += 1;
    }
    2 * sent
}

/// How long the answers took to somebody who asks at a steady pace.
async fn latencies(server: &TestServer, token: &str) -> Vec<Duration> {
    let body = json!({ "query": "{ viewer { username } conversations(first: 10) { nodes { id title } } }" });
    let (post, mut pace, mut latencies) = (poster(server), interval(PACE), Vec::new());
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..REQUESTS {
        pace.tick().await;
        let begun = Instant::now();
        let answer = answer(post(body.to_string()).bearer_auth(token)).await;
        latencies.push(begun.elapsed());
        assert_eq!(answer.json()["data"]["viewer"]["username"], "ada", "{}", answer.text);
    }
    latencies
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_answered_as_ever_beside_bombs() {
    let server = Arc::new(TestServer::start().await);
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    for _ in 0..10 {
        server.group(&ada, &bob).await;
    }
    let token: Arc<str> = ada.token.into();
    let user = || {
        let (server, token) = (server.clone(), token.clone());
        elsewhere(async move || latencies(&server, &token).await)
    };
    let (mut alone, mut beside, mut sent) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TURNS {
        alone.extend(user().await.expect("answers"));
        let stop = Arc::new(AtomicBool::new(false));
        let (target, until) = (server.clone(), stop.clone());
        let bombs = elsewhere(async move || bombs_away(&target, &until).await);
        beside.extend(user().await.expect("answers"));
        stop.store(true, Ordering::Relaxed);
        sent += bombs.await.expect("bombs");
    }
    let p99 = |latencies: &mut Vec<Duration>| {
        latencies.sort_unstable();
        latencies[latencies.len() * 99 / 100]
    };
    let (alone, beside) = (p99(&mut alone), p99(&mut beside));
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    println!("p99 alone {alone:?}, beside {sent} bombs {beside:?}: {ratio:.2} times as long");
    // Whoever had to wait for bombs would wait for a row of them.
    assert!(beside < 2 * alone + CPU_MAX, "{beside:?} in place of {alone:?}");
}
