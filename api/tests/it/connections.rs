//! Connections that ask nothing, ask slowly or are too many: closed in time, while others are served.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use api::settings::Settings;
use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    socket::Socket,
    test_server::{JSON, TestServer},
};

/// Long enough for a slow machine.
const PATIENCE: Duration = Duration::from_secs(15);

const SHORT: Duration = Duration::from_millis(400);
const REQUEST: &[u8] = b"GET /schema.graphql HTTP/1.1\r\nhost: a\r\n\r\n";
/// The preface of HTTP/2 and empty settings.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.address).await.expect("connects")
}

/// From another address of this machine.
async fn connect_from(server: SocketAddr, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))).expect("an own address");
    socket.connect(server).await.expect("connects")
}

/// How long until the server has closed it.
async fn closed(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    let mut rest = [0; 4096];
    let end = async { while matches!(stream.read(&mut rest).await, Ok(count) if count > 0) {} };
    timeout(PATIENCE, end).await.expect("closed in time");
    begun.elapsed()
}

async fn is_served(stream: &mut TcpStream) -> bool {
    let mut first = [0; 12];
    stream.write_all(REQUEST).await.is_ok()
        && stream.read_exact(&mut first).await.is_ok()
        && first == *b"HTTP/1.1 200"
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_nothing_is_closed_whatever_comes_instead() {
    let settings = Settings { header_timeout: SHORT, ..Settings::default() };
    let server = TestServer::with(settings).await;
    let starts: [&[u8]; 6] =
        [b"", b"P", b"PRI * HTTP/2.0\r\n\r\nSM", b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\n", HTTP2];
    let server = &server;
    let held = starts.map(|start| async move {
        let mut stream = connect(server).await;
        stream.write_all(start).await.expect("writes");
        let held = closed(&mut stream).await;
        assert!(held > SHORT / 2 && held < SHORT + Duration::from_secs(3), "{start:?}: {held:?}");
    });
    join_all(held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_drips_is_cut_however_steadily_it_comes() {
    let settings = Settings { header_timeout: SHORT, ..Settings::default() };
    let server = TestServer::with(settings).await;
    let (mut reader, mut writer) = connect(&server).await.into_split();
    let begun = Instant::now();
    let dripping = async {
        writer.write_all(b"GET / HTTP/1.1\r\nx: ").await.expect("writes");
        let mut drip = tokio::time::interval(SHORT / 10);
        loop {
            drip.tick().await;
            if writer.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    let cut = async { while matches!(reader.read(&mut [0; 512]).await, Ok(count) if count > 0) {} };
    timeout(PATIENCE, async {
        tokio::select! { () = dripping => {}, () = cut => {} }
    })
    .await
    .expect("cut");
    assert!(begun.elapsed() < SHORT + Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_asks_nothing_more_is_closed_and_an_open_socket_is_not() {
    let settings = Settings { header_timeout: SHORT, idle_timeout: SHORT * 2, ..Settings::default() };
    let server = TestServer::with(settings).await;
    let mut socket = Socket::initialised(&server, None).await;
    let mut stream = connect(&server).await;
    assert!(is_served(&mut stream).await);
    let held = closed(&mut stream).await;
    assert!(held < SHORT * 2 + Duration::from_secs(3), "{held:?}");
    for _ in 0..2 {
        let mut stream = connect(&server).await;
        closed(&mut stream).await;
    }
    socket.say(json!({ "type": "ping" })).await;
    assert_eq!(socket.hear().await, json!({ "type": "pong" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_is_given_up() {
    let settings = Settings { header_timeout: SHORT, idle_timeout: SHORT, ..Settings::default() };
    let server = TestServer::with(settings).await;
    let mut stream = connect(&server).await;
    // Answers of 60 kB, more than fit into the buffers between.
    let asked = async {
        for _ in 0..2000 {
            if stream.write_all(REQUEST).await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_secs(3), asked).await;
    // It is reset by the time that the first of them are read.
    let mut taken = 0;
    let mut rest = vec![0; 1 << 20];
    let all = async {
        while let Ok(count @ 1..) = stream.read(&mut rest).await {
            taken += count;
        }
    };
    timeout(PATIENCE, all).await.expect("closed");
    assert!(taken < 2000 * 60_000, "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_address_are_bounded_and_others_are_served() {
    let settings = Settings { connections_per_address_max: 3, ..Settings::default() };
    let server = TestServer::with(settings).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = connect_from(server.address, 1).await;
        assert!(is_served(&mut stream).await);
        open.push(stream);
    }
    let mut refused = connect_from(server.address, 1).await;
    assert!(!is_served(&mut refused).await);
    assert!(is_served(&mut connect_from(server.address, 2).await).await);
    drop(open.pop());
    let begun = Instant::now();
    while !is_served(&mut connect_from(server.address, 1).await).await {
        assert!(begun.elapsed() < PATIENCE, "its place is not given back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_its_address_is_not_counted() {
    let settings = Settings { connections_per_address_max: 1, trusted_hops: 1, ..Settings::default() };
    let server = TestServer::with(settings).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&server).await;
        assert!(is_served(&mut stream).await);
        open.push(stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_says_how_many_streams_and_how_large_headers_may_be() {
    let server = TestServer::start().await;
    let mut stream = connect(&server).await;
    stream.write_all(HTTP2).await.expect("writes");
    let mut header = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut header)).await.expect("in time").expect("a frame");
    assert_eq!(header[3], 4, "settings come first");
    let mut payload = vec![0; usize::from(header[2])];
    stream.read_exact(&mut payload).await.expect("its payload");
    let settings: Vec<(u16, u32)> = payload
        .chunks_exact(6)
        .map(|entry| {
            let value = [entry[2], entry[3], entry[4], entry[5]];
            (u16::from_be_bytes([entry[0], entry[1]]), u32::from_be_bytes(value))
        })
        .collect();
    assert!(settings.contains(&(3, 100)), "SETTINGS_MAX_CONCURRENT_STREAMS: {settings:?}");
    assert!(settings.contains(&(6, 32 * 1024)), "SETTINGS_MAX_HEADER_LIST_SIZE: {settings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_beyond_its_bound_is_refused() {
    let server = TestServer::start().await;
    let mut stream = connect(&server).await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(40 * 1024));
    let _ = stream.write_all(large.as_bytes()).await;
    let mut first = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut first)).await.expect("in time").expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 431");
}

const SLOW: usize = 5000;

/// Silent, dripping headers, dripping bodies: a third of each, from ten addresses.
#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_slow_connections_are_closed_and_a_user_notices_nothing() {
    let timeouts = Duration::from_secs(4);
    let settings = Settings { header_timeout: timeouts, body_timeout: timeouts, ..Settings::default() };
    let server = TestServer::with(settings).await;
    let (address, begun) = (server.address, Instant::now());
    let tasks = TaskTracker::new();
    for number in 0..SLOW {
        let last = u8::try_from(2 + number % 10).expect("small");
        let start: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /graphql HTTP/1.1\r\nhost: a\r\nx: ",
            _ => b"POST /graphql HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n",
        };
        let mut stream = connect_from(address, last).await;
        stream.write_all(start).await.expect("writes");
        let came = Instant::now();
        tasks.spawn(async move {
            let mut drip = tokio::time::interval(Duration::from_millis(500));
            let mut rest = [0; 1024];
            loop {
                tokio::select! {
                    read = stream.read(&mut rest) => match read {
                        Ok(count) if count > 0 => {}
                        _ => return came.elapsed(),
                    },
                    _ = drip.tick(), if !start.is_empty() => {
                        let _ = stream.write_all(b" ").await;
                    }
                }
            }
        });
    }
    let opened = begun.elapsed();
    tasks.close();
    let mut slowest = Duration::ZERO;
    let asking = async {
        loop {
            let asked = Instant::now();
            let answer = server.query(JSON, "{ __typename }", json!({})).await;
            assert_eq!(answer.status, 200);
            slowest = slowest.max(asked.elapsed());
        }
    };
    tokio::select! {
        () = asking => {}
        () = tasks.wait() => {}
        () = tokio::time::sleep(PATIENCE) => panic!("{} are still open", tasks.len()),
    }
    let all = begun.elapsed();
    println!("{SLOW} opened in {opened:?}, all closed after {all:?}; the slowest answer took {slowest:?}");
    assert!(all < opened + timeouts + Duration::from_secs(5), "{all:?}");
    // Who waited for any of them would have waited for the end of one.
    assert!(slowest < timeouts, "{slowest:?}");
}
