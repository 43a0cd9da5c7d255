//! What waits for a subscription is bounded, in bytes too, and whatever was let go of is found again.

use std::{collections::BTreeSet, time::Duration};

use api::{
    hub::HubLimits,
    settings::{Settings, SocketSettings},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    people::{Person, SUBSCRIPTION, TEXTS, longest, node_with},
    socket::Socket,
    test_server::TestServer,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_during_a_long_replay_is_replayed_too_when_the_hub_has_forgotten_it() {
    let hub = HubLimits { recent_batches_max: 1, ..HubLimits::default() };
    let sockets = SocketSettings {
        write_timeout: Duration::from_mins(1),
        queue_messages_max: 8,
        ..SocketSettings::default()
    };
    let settings = Settings { sockets, ..Settings::default() };
    let node = node_with(settings, hub).await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (_, opened) = node.subscribe(&bob, TEXTS, json!({})).await;
    // More than the network holds, so that the replay waits for its reader.
    for batch in 0..18 {
        let missed = (0..50).map(|number| {
            let (node, ada, key) = (&node, &ada, format!("k{batch}-{number}"));
            async move { node.send_text(ada, id, &key, &longest()).await }
        });
        futures_util::future::join_all(missed).await;
    }
    let mut socket = Socket::initialised(&node, Some(&bob.token)).await;
    socket.subscribe("1", TEXTS, json!({ "after": opened[1]["cursor"] })).await;
    assert_eq!(socket.event().await["__typename"], "StreamOpened");
    assert_eq!(socket.event().await["message"]["seq"], 1, "the snapshot is taken");
    for number in 0..20 {
        node.send(&ada, id, &format!("meanwhile{number}")).await;
    }
    let mut seqs = vec![1];
    loop {
        let event = socket.event().await;
        match event["message"]["seq"].as_i64() {
            Some(seq) => seqs.push(seq),
            None => break assert_eq!(event["__typename"], "StreamLive"),
        }
    }
    assert_eq!(
        seqs,
        (1..=920).collect::<Vec<_>>(),
        "each once and in order, before the subscription is live"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_forgets_by_bytes_and_resumes_from_rows() {
    let hub = HubLimits {
        recent_batches_bytes_max: 40_000,
        feed_bytes_max: 1,
        ahead_batches_bytes_max: 1,
        ..HubLimits::default()
    };
    let node = node_with(Settings::default(), hub).await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (mut live, _) = node.subscribe(&bob, TEXTS, json!({})).await;
    for number in 0..10 {
        node.send_text(&ada, id, &format!("k{number}"), &longest()).await;
    }
    for seq in 1..=10 {
        assert_eq!(
            live.event().await["message"]["seq"],
            seq,
            "a batch beyond the bounds still passes, alone"
        );
    }
    let recent = node.hub.metrics().recent_bytes();
    assert!((1..=40_000).contains(&recent), "{recent} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_events_is_closed_with_4290_by_their_bytes_alone() {
    let sockets = SocketSettings {
        write_timeout: Duration::from_mins(1),
        queue_messages_max: 100_000,
        queue_bytes_max: 256 * 1024,
        per_user_max: 1,
        ..SocketSettings::default()
    };
    let node = TestServer::with(Settings { sockets, ..Settings::default() }).await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (mut slow, _) = node.subscribe(&bob, TEXTS, json!({})).await;
    let (mut reads, _) = node.subscribe(&ada, TEXTS, json!({})).await;
    let (mut sent, mut delivered) = (0, node.hub.metrics().deliveries_total());
    // Two deliveries a message, until the one who does not read is cut off.
    loop {
        for number in 0..16 {
            node.send_text(&ada, id, &format!("k{}", sent + number), &longest()).await;
        }
        sent += 16;
        for _ in 0..16 {
            reads.event().await;
        }
        let now = node.hub.metrics().deliveries_total();
        if now - delivered < 32 {
            break;
        }
        delivered = now;
        // The queue, what the kernel may keep unsent, and what the one who does not read has taken into theirs.
        assert!(sent < 128, "2 MB wait for one socket");
    }
    until_forgotten(&node, &bob).await;
    assert_eq!(slow.closed().await, (4290, "slow reader".to_owned()), "it says why, though read much later");
    node.send_text(&ada, id, "after", "x").await;
    assert_eq!(reads.event().await["message"]["content"]["text"], "x", "the other goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_executed_in_time_closes_the_socket_and_comes_after_it() {
    let hub = HubLimits { execution_timeout: Duration::from_nanos(1), ..HubLimits::default() };
    let node = node_with(Settings::default(), hub).await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    // Twenty pages of members, which take longer.
    let pages = (1..=20)
        .map(|first| format!("m{first}: members(first: {first}) {{ nodes {{ user {{ username }} }} }}"));
    let pages = pages.collect::<Vec<_>>().join(" ");
    let costly = format!(
        "subscription {{ events {{ __typename cursor ... on MessageSent {{ conversation {{ {pages} }} }} }} }}"
    );
    let (mut live, opened) = node.subscribe(&bob, &costly, json!({})).await;
    // Most of them are late.
    for number in 1..=10 {
        node.send(&ada, id, &format!("k{number}")).await;
    }
    assert_eq!(live.closed().await, (1013, "try again later".to_owned()), "as when something is away");
    let (_, missed) = node.subscribe(&bob, TEXTS, json!({ "after": opened[1]["cursor"] })).await;
    let seqs = missed.iter().filter_map(|event| event["message"]["seq"].as_u64());
    assert!(seqs.eq(1..=10), "whoever asks for less gets them: {missed:?}");
}

/// Until the node has given up the one socket that this person may have.
async fn until_forgotten(node: &TestServer, person: &Person) {
    let begun = Instant::now();
    loop {
        let mut socket = Socket::open(node).await;
        socket.init(Some(&person.token)).await;
        if !matches!(socket.frame().await, Some(Message::Close(_)) | None) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the socket is kept");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_full_while_its_view_was_old_goes_on() {
    // The view is old half of the time, and one batch is all that may be on its way.
    let hub = HubLimits {
        heads_interval: Duration::from_millis(400),
        view_age_max: Duration::from_millis(200),
        view_lost_after: Duration::from_millis(300),
        feed_bytes_max: 1,
        ..HubLimits::default()
    };
    let sockets =
        SocketSettings { per_user_max: 10_000, per_address_max: 10_000, ..SocketSettings::default() };
    let node = node_with(Settings { sockets, ..Settings::default() }, hub).await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (mut cursor, mut seen) = (Value::Null, BTreeSet::new());
    let end = Instant::now() + Duration::from_secs(30);
    // As every client does: back with the last cursor, as often as it takes.
    for round in 0.. {
        assert!(Instant::now() < end, "it does not get on: {seen:?}");
        let mut socket = Socket::initialised(&node, Some(&bob.token)).await;
        socket.subscribe("1", SUBSCRIPTION, json!({ "after": cursor })).await;
        while seen.len() < 40
            && let Some(Message::Text(text)) = socket.frame().await
        {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            let event = &message["payload"]["data"]["events"];
            if event["cursor"].is_string() {
                cursor = event["cursor"].clone();
            }
            seen.extend(event["message"]["seq"].as_i64());
            if event["__typename"] == "StreamLive" {
                for number in 0..4 {
                    node.send(&ada, id, &format!("{round}.{number}")).await;
                }
            }
        }
        if seen.len() >= 40 {
            break;
        }
    }
    assert!(seen.iter().copied().eq(1..=40), "nothing is missing: {seen:?}");
}
