//! Bodies, tokens and origins: what is refused before a document is even looked at.

use std::time::Duration;

use api::settings::Settings;
use reqwest::{Method, header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::test_server::{JSON, TestServer, answer};

const QUERY: &str = r#"{"query": "{ __typename }"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn only_json_in_utf8_is_read() {
    let server = TestServer::start().await;
    let send = async |content_type: Option<&str>, body: Vec<u8>| {
        let mut request = server.request(Method::POST, "/graphql").body(body);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        answer(request).await.status
    };
    for content_type in [JSON, "application/json; charset=utf-8", "Application/JSON;charset=\"UTF-8\""] {
        assert_eq!(send(Some(content_type), QUERY.into()).await, 200, "{content_type}");
    }
    // What a form or a script of another page could send without asking is among these.
    let refused = [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/graphql"),
        Some("application/json; charset=iso-8859-1"),
    ];
    for content_type in refused {
        assert_eq!(send(content_type, QUERY.into()).await, 415, "{content_type:?}");
    }
    let invalid_utf8 = b"{\"query\": \"{ __typename } # \xff\"}".to_vec();
    assert_eq!(send(Some(JSON), invalid_utf8).await, 400);
    let surrogate = br#"{"query": "{ __typename }", "variables": {"a": "\ud800"}}"#.to_vec();
    assert_eq!(send(Some(JSON), surrogate).await, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_in_bytes_and_time() {
    let server = TestServer::start().await;
    let padded = |bytes: usize| format!("{QUERY}{}", " ".repeat(bytes - QUERY.len()));
    assert_eq!(answer(server.post(JSON, padded(1024 * 1024))).await.status, 200);
    for bytes in [1024 * 1024 + 1, 3 * 1024 * 1024] {
        let too_large = answer(server.post(JSON, padded(bytes))).await;
        assert_eq!((too_large.status, too_large.code().as_str()), (413, "LIMIT_EXCEEDED"));
    }

    let server =
        TestServer::with(Settings { body_timeout: Duration::from_millis(300), ..Settings::default() }).await;
    // Without a length in front.
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    let head = "POST /graphql HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("writes");
    stream.write_all(b"3\r\n{  \r\n").await.expect("writes");
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 408");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_its_host_once() {
    let server = TestServer::start().await;
    for (hosts, expected) in [("", "400"), ("host: a\r\nhost: b\r\n", "400"), ("host: a\r\n", "200")] {
        for path in ["/schema.graphql", "/graphql?query=%7B__typename%7D"] {
            let mut stream = TcpStream::connect(server.address).await.expect("connects");
            let preflight = "graphql-require-preflight: 1\r\nconnection: close\r\n";
            let request = format!("GET {path} HTTP/1.1\r\n{hosts}{preflight}\r\n");
            stream.write_all(request.as_bytes()).await.expect("writes");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{hosts} {path}: {answer}");
            assert_eq!(answer.contains("BAD_REQUEST"), expected == "400", "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_415_and_says_what_is_taken() {
    let server = TestServer::start().await;
    for (coding, status) in [("gzip", 415), ("br", 415), ("identity", 200)] {
        let answer = answer(server.post(JSON, QUERY).header(header::CONTENT_ENCODING, coding)).await;
        assert_eq!(answer.status, status, "{coding}: {}", answer.text);
        if status == 415 {
            assert_eq!(
                (answer.header("accept-encoding"), answer.code().as_str()),
                ("identity", "BAD_REQUEST")
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_never_ends_is_cut() {
    let settings = Settings { header_timeout: Duration::from_millis(300), ..Settings::default() };
    let server = TestServer::with(settings).await;
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    stream.write_all(b"POST /graphql HTTP/1.1\r\nhost: a\r\n").await.expect("writes");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_never_anonymous() {
    let server = TestServer::start().await;
    let token = server.register("alice").await;
    let query = r#"{"query": "{ viewer { username } }"}"#;
    let send = async |authorization: &[&str]| {
        let mut request = server.post(JSON, query);
        for value in authorization {
            request = request.header(header::AUTHORIZATION, *value);
        }
        answer(request).await
    };
    assert_eq!(send(&[]).await.json(), json!({"data": {"viewer": null}}));
    let good = format!("Bearer {token}");
    assert_eq!(send(&[&good]).await.json(), json!({"data": {"viewer": {"username": "alice"}}}));
    assert_eq!(send(&[&format!("bearer  {token}")]).await.status, 200);
    let forged = format!("{good}x");
    for bad in
        [&["Bearer x"][..], &[&forged], &["Bearer"], &["Bearer "], &[""], &["Basic YTpi"], &[&good, &good]]
    {
        let refused = send(bad).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "UNAUTHENTICATED"), "{bad:?}");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        assert!(refused.json().get("data").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_other_origins_are_told_nothing() {
    let server = TestServer::start().await;
    let foreign = "https://evil.example";
    let own = format!("http://{}", server.address);
    for (origin, allowed) in
        [(foreign, false), ("null", false), (&own, true), ("http://localhost:5173", true)]
    {
        let preflight = server
            .request(Method::OPTIONS, "/graphql")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
        let preflight = answer(preflight).await;
        let expected = if allowed { origin } else { "" };
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.header("access-control-allow-origin"), expected, "{origin}");
        assert_eq!(preflight.header("access-control-allow-methods").is_empty(), !allowed, "{origin}");
        let posted = answer(server.post(JSON, QUERY).header(header::ORIGIN, origin)).await;
        assert_eq!(posted.header("access-control-allow-origin"), expected, "{origin}");
        assert!(posted.header("vary").contains("origin"));
    }
    let path = "/graphql?query=%7B__typename%7D";
    let forged = server.request(Method::GET, path).header("sec-fetch-site", "cross-site");
    assert_eq!(answer(forged).await.status, 403);
    assert_eq!(answer(server.request(Method::GET, path)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_known_by_the_trace_of_its_client() {
    let server = TestServer::start().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let send = async |parent: &str| {
        let answer = answer(server.post(JSON, QUERY).header("traceparent", parent)).await;
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(send(&format!("00-{trace}-b7ad6b7169203331-01")).await, trace);
    for bad in ["", "00-0-0-0", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "nonsense"] {
        let made = send(bad).await;
        assert!(made.len() == 32 && made != trace && made.bytes().any(|byte| byte != b'0'), "{bad}: {made}");
    }
    assert_ne!(send("").await, send("").await);
}
