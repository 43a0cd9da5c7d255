//! What is made to keep a server busy costs it next to nothing, over HTTP and sockets.
//!
//! Client and server share one thread here, whose time on a processor the kernel counts.

use std::{fmt::Write as _, fs, thread, time::Duration};

use api::settings::SocketSettings;
use serde_json::{Value, json};

use crate::{
    socket::Socket,
    test_server::{GRAPHQL_RESPONSE, JSON, TestServer, answer},
};

/// Of client and server together. A build without optimisation takes several times as long.
const CPU_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 60 } else { 10 });

/// What this thread has had of a processor.
fn cpu() -> Duration {
    // The kernel's figure is a few milliseconds old unless the thread gives way.
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).expect("nanoseconds"))
}

/// Documents with the code that refuses them; all below the bound of a socket's message.
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
    for (name, document) in documents() {
        let body = json!({ "query": document }).to_string();
        let refused =
            cheap(&name, &mut costs, async || answer(server.post(GRAPHQL_RESPONSE, body.clone())).await)
                .await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "LIMIT_EXCEEDED"),
            "{name}: {}",
            refused.text
        );
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
    // Larger messages close the socket, whatever they hold.
    let message_bytes_max = SocketSettings::default().message_bytes_max - 1000;
    for (name, document) in documents().into_iter().filter(|(_, text)| text.len() < message_bytes_max) {
        let refused: Value = cheap(&name, &mut costs, async || {
            socket.subscribe("b", &document, json!({})).await;
            socket.hear().await
        })
        .await;
        assert_eq!(refused["type"], "error", "{name}: {refused}");
        assert_eq!(refused["payload"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{name}: {refused}");
    }
    tell(costs);
    for levels in [40, 50_000] {
        let mut deep = Socket::initialised(&server, None).await;
        let text = format!("{{\"type\":\"ping\",\"payload\":{{\"a\":{}}}}}", "[".repeat(levels));
        deep.send(tokio_tungstenite::tungstenite::Message::text(text)).await;
        assert_eq!(deep.closed().await.0, 4400);
    }
}
