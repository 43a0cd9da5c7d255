//! Why a socket is closed that spoke well: its token, its session, its reading, its number, the node itself.

use std::{sync::Arc, time::Duration};

use api::settings::{Settings, SocketSettings};
use domain::service::register::Register;
use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    socket::Socket,
    test_server::{MovedClock, TestServer},
};

const VIEWER: &str = "{ viewer { username } }";
const EVENTS: &str = "subscription { events { __typename cursor } }";

fn sockets(sockets: SocketSettings) -> Settings {
    Settings { sockets, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_beyond_a_seconds_share_are_told_when_to_come_again_and_the_others_stay() {
    let settings = SocketSettings { opened_per_second_max: 1, ..SocketSettings::default() };
    let server = TestServer::with(sockets(settings)).await;
    let mut first = Socket::initialised(&server, None).await;
    let hint = (1013, "too many at once: try again after 1 to 5 s".to_owned());
    // However slow the machine, so many are more than one a second.
    let opened = (0..30).map(|_| async { Socket::open(&server).await.refused().await });
    let refused = join_all(opened).await.into_iter().flatten().collect::<Vec<_>>();
    assert!(refused.contains(&hint), "{refused:?}");
    first.subscribe("1", "{ __typename }", json!({})).await;
    assert_eq!(first.hear().await["type"], "next");
    // A second later there is room again.
    let later = async {
        loop {
            if Socket::open(&server).await.refused().await.is_none() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), later).await.expect("room");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_prove_nothing_are_closed_with_4403() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let (head, signature) = token.rsplit_once('.').expect("a JWT");
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let altered = format!("{head}.{other}{}", &signature[1..]);
    for authorization in
        [json!("Bearer nonsense"), json!(format!("Bearer {altered}")), json!("Basic eDp5"), json!(7)]
    {
        let mut socket = Socket::open(&server).await;
        let payload = json!({ "authorization": authorization });
        socket.say(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(socket.closed().await, (4403, "Forbidden".to_owned()), "{authorization}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_closed_with_4403_unless_it_was_renewed() {
    let clock = Arc::new(MovedClock::default());
    // Pings wake the connection often enough to see that the test has moved the clock.
    let settings = SocketSettings { ping_interval: Duration::from_millis(200), ..SocketSettings::default() };
    let server = TestServer::at(clock.clone(), sockets(settings)).await;
    let register = Register {
        username: "ada".to_owned(),
        password: "correct horse".to_owned(),
        display_name: "Ada".to_owned(),
        device_name: None,
        address: None,
    };
    let credentials = server.chat.register(register).await.expect("registers").credentials;
    let mut renewed = Socket::initialised(&server, Some(&credentials.access_token)).await;
    let mut forgotten = Socket::initialised(&server, Some(&credentials.access_token)).await;
    clock.advance(Duration::from_mins(10));
    let newer = server.chat.refresh_session(&credentials.refresh_token).await.expect("refreshes");
    let renew = "mutation($token: String!) { renewConnection(input: { accessToken: $token }) { userErrors { code } } }";
    renewed.subscribe("r", renew, json!({ "token": newer.access_token })).await;
    assert_eq!(renewed.hear().await["payload"]["data"]["renewConnection"]["userErrors"], json!([]));
    drop(renewed.hear().await);
    clock.advance(Duration::from_mins(6));
    assert_eq!(forgotten.closed().await, (4403, "access token expired".to_owned()));
    renewed.subscribe("v", VIEWER, json!({})).await;
    assert_eq!(renewed.hear().await["payload"]["data"]["viewer"]["username"], "ada");
    let mut late = Socket::open(&server).await;
    late.init(Some(&credentials.access_token)).await;
    assert_eq!(late.closed().await.0, 4403, "an expired token opens nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_closes_its_sockets_within_two_seconds() {
    let server = TestServer::start().await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    let caller = server.chat.authenticate(&token).expect("a good token");
    let ended = Instant::now();
    server.chat.sign_out(&caller, None).await.expect("signs out");
    assert_eq!(socket.closed().await, (4403, "session revoked".to_owned()));
    assert!(ended.elapsed() < Duration::from_secs(2), "{:?}", ended.elapsed());
    let mut again = Socket::open(&server).await;
    again.init(Some(&token)).await;
    assert_eq!(again.closed().await.0, 4403);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed_with_4290_and_keeps_nobody_waiting() {
    let server = TestServer::start().await;
    let slow = Socket::initialised(&server, None).await;
    let mut other = Socket::initialised(&server, None).await;
    let (mut sink, stream) = slow.0.split();
    // Each answer is as large as its question: more than the network holds, and more than the queue may.
    let text = "x".repeat(200_000);
    let flood = async {
        let ping = json!({ "type": "ping", "payload": { "text": text } }).to_string();
        while sink.send(Message::text(ping.clone())).await.is_ok() {}
    };
    let reading = async {
        // Long enough for the queue to be full; soon enough for the code to be heard.
        sleep(Duration::from_secs(1)).await;
        let asked = Instant::now();
        other.subscribe("t", "{ __typename }", json!({})).await;
        assert_eq!(other.hear().await["payload"]["data"]["__typename"], "Query");
        assert!(asked.elapsed() < Duration::from_secs(1), "nobody else waits");
        stream
            .filter_map(async |frame| match frame {
                Ok(Message::Close(Some(frame))) => Some((u16::from(frame.code), frame.reason.to_string())),
                _ => None,
            })
            .boxed()
            .next()
            .await
    };
    let ((), closed) =
        timeout(Duration::from_secs(20), futures_util::future::join(flood, reading)).await.expect("ends");
    assert_eq!(closed, Some((4290, "slow reader".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_dropped_after_two_pings_and_one_that_answers_lives_on() {
    let settings = SocketSettings {
        ping_interval: Duration::from_millis(200),
        write_timeout: Duration::from_millis(200),
        ..SocketSettings::default()
    };
    let server = TestServer::with(sockets(settings)).await;
    let mut alive = Socket::initialised(&server, None).await;
    let mut silent = Socket::initialised(&server, None).await;
    let mut pings = 0;
    let end = Instant::now() + Duration::from_secs(2);
    while let Ok(frame) = tokio::time::timeout_at(end, alive.frame()).await {
        // Reading is what answers pings.
        pings += usize::from(matches!(frame, Some(Message::Ping(_))));
    }
    assert!(pings >= 5, "{pings}");
    // Pings that came before are still read; then the connection has ended without a close.
    assert_eq!(silent.closed().await.0, 1006);
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_one_address_and_of_one_user_are_bounded() {
    let settings = SocketSettings { per_address_max: 3, per_user_max: 1, ..SocketSettings::default() };
    let server = TestServer::with(sockets(settings)).await;
    let token = server.register("ada").await;
    let _first = Socket::initialised(&server, Some(&token)).await;
    let mut second = Socket::open(&server).await;
    second.init(Some(&token)).await;
    assert_eq!(second.closed().await, (1013, "too many sockets".to_owned()));
    let mut anonymous = Vec::new();
    let refused = loop {
        let mut socket = Socket::open(&server).await;
        socket.init(None).await;
        match socket.frame().await {
            Some(Message::Close(Some(frame))) => break frame,
            _ => anonymous.push(socket),
        }
    };
    assert_eq!((u16::from(refused.code), refused.reason.as_str()), (1013, "too many sockets"));
    assert!(anonymous.len() <= 2, "three in all, and one of them is Ada's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_answers_what_runs_and_closes_with_1012() {
    let settings = Settings { drain_spread: Duration::ZERO, ..Settings::default() };
    let server = TestServer::with(settings).await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    socket.subscribe("s", EVENTS, json!({})).await;
    let mut seen: Vec<Value> = Vec::new();
    for _ in 0..2 {
        seen.push(socket.hear().await["payload"]["data"]["events"]["__typename"].clone());
    }
    assert_eq!(seen, ["StreamOpened", "StreamLive"]);

    // Whoever writes to SQLite is alone: this mutation runs, and cannot end before the test lets it.
    let held = server.store.connection().begin().await.expect("begins");
    held.execute_unprepared("UPDATE log_lane SET pos = pos").await.expect("takes the lock");
    let create =
        "mutation { createGroup(input: { title: \"Tea\", memberIds: [] }) { conversation { title } } }";
    socket.subscribe("m", create, json!({})).await;
    // One socket's operations are opened in the order they came.
    socket.subscribe("q", VIEWER, json!({})).await;
    assert_eq!(socket.hear().await["payload"]["data"]["viewer"]["username"], "ada");
    assert_eq!(socket.hear().await["type"], "complete");
    server.stop.cancel();
    let early = timeout(Duration::from_millis(300), socket.frame()).await;
    assert!(early.is_err(), "it waits for what runs: {early:?}");
    held.rollback().await.expect("lets go");
    let answer = socket.hear().await;
    assert_eq!(answer["payload"]["data"]["createGroup"]["conversation"]["title"], "Tea", "{answer}");
    assert_eq!(socket.hear().await, json!({ "id": "m", "type": "complete" }));
    assert_eq!(socket.closed().await, (1012, "service restart".to_owned()));
}
