//! No interleaving makes a hole: each of docs/adr/0016-why-resume-has-no-hole.md that a node can be put into from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use api::settings::Settings;
use domain::{Chat, Limits, LoggedBatch, port::Bus as _, wiring::Wiring};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    people::{SUBSCRIPTION, names, node, send_on},
    test_server::{MovedClock, TestServer},
};

/// A domain whose commits this node's bus does not hear of: it was killed, or sleeps, between commit and publish.
fn unheard(node: &TestServer) -> Chat {
    let limits = Limits { rate_limits: false, ..Limits::default() };
    Wiring::new(node.store.clone(), node.keys.clone(), limits).build()
}

fn keys(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["message"]["clientMessageId"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_publisher_killed_after_its_commit_did_not_publish_arrives_all_the_same() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (mut live, opened) = node.subscribe(&bob, SUBSCRIPTION, json!({})).await;
    let elsewhere = unheard(&node);
    send_on(&elsewhere, &ada, id, "unheard", "hello").await;
    // Live, by the heads alone; and whoever resumes meanwhile reads it in the snapshot.
    let after = json!({ "after": opened[1]["cursor"] });
    let (mut resumed, missed) = node.subscribe(&bob, SUBSCRIPTION, after).await;
    assert_eq!(keys(&missed), ["unheard"]);
    assert_eq!(live.event().await["message"]["clientMessageId"], "unheard");
    node.send(&ada, id, "heard").await;
    for socket in [&mut live, &mut resumed] {
        assert_eq!(socket.event().await["message"]["clientMessageId"], "heard");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_paused_after_its_commit_publishes_late_and_out_of_order_and_nothing_comes_twice() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (mut live, _) = node.subscribe(&bob, SUBSCRIPTION, json!({})).await;
    let elsewhere = unheard(&node);
    let mut said = elsewhere.live();
    for key in ["a", "b", "c"] {
        send_on(&elsewhere, &ada, id, key, "hello").await;
    }
    let mut batches: Vec<Arc<LoggedBatch>> = Vec::new();
    while batches.iter().map(|batch| batch.events.len()).sum::<usize>() < 3 {
        batches.push(said.recv().await.expect("published"));
    }
    // The last one first: it waits for those before it, which come from SQL.
    node.bus.publish(batches.pop().expect("some"));
    for key in ["a", "b", "c"] {
        assert_eq!(live.event().await["message"]["clientMessageId"], key);
    }
    // By now all of them are known.
    for batch in batches.into_iter().rev() {
        node.bus.publish(batch);
    }
    node.send(&ada, id, "d").await;
    assert_eq!(live.event().await["message"]["clientMessageId"], "d");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_cut_again_and_again_while_messages_come_has_no_hole() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let groups = [node.group(&ada, &bob).await, node.group(&ada, &bob).await, node.group(&ada, &bob).await];
    let (_, opened) = node.subscribe(&bob, SUBSCRIPTION, json!({})).await;
    let mut sent = 0;
    let mut tell_all = async || {
        for id in &groups {
            node.send(&ada, *id, &format!("k{sent}")).await;
            sent += 1;
        }
    };
    for _ in 0..4 {
        tell_all().await;
    }
    let mut cursor = opened[1]["cursor"].clone();
    let mut seen: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    // After so many events of a replay the socket is cut: within a conversation, and between two of them.
    for kept in [1, 3, 4, 2, 5, 1, 7, 4, usize::MAX] {
        let (_, events) = node.subscribe(&bob, SUBSCRIPTION, json!({ "after": cursor })).await;
        for event in events.iter().take(kept) {
            cursor = event["cursor"].clone();
            if let Some(seq) = event["message"]["seq"].as_i64() {
                let of = seen.entry(event["conversation"]["id"].to_string()).or_default();
                // What comes twice is known by its place.
                let next = of.last().map_or(1, |last| last + 1);
                assert!(seq <= next, "a hole before {seq}: {next} was expected");
                of.insert(seq);
            }
        }
        if kept < usize::MAX {
            tell_all().await;
        }
    }
    assert_eq!(seen.len(), groups.len());
    assert!(seen.values().all(|of| of.len() == 4 + 8), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_an_hour_makes_no_hole() {
    let clock = Arc::new(MovedClock::default());
    let node = TestServer::at(clock.clone(), Settings::default()).await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (mut live, opened) = node.subscribe(&bob, SUBSCRIPTION, json!({})).await;
    node.send(&ada, id, "before").await;
    clock.step_back(Duration::from_hours(1));
    node.send(&ada, id, "after").await;
    for key in ["before", "after"] {
        assert_eq!(live.event().await["message"]["clientMessageId"], key);
    }
    let after = json!({ "after": opened[1]["cursor"] });
    let (_, missed) = node.subscribe(&bob, SUBSCRIPTION, after).await;
    assert_eq!(keys(&missed), ["before", "after"]);
    let again = json!({ "after": missed[1]["cursor"] });
    let (_, missed) = node.subscribe(&bob, SUBSCRIPTION, again).await;
    assert_eq!(keys(&missed), ["after"], "cursors know no time");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_resume_share_what_is_executed_and_each_gets_cursors_of_its_own() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let (_, opened) = node.subscribe(&bob, SUBSCRIPTION, json!({})).await;
    let mut cursors = vec![opened[1]["cursor"].clone()];
    for number in 0..20 {
        node.send(&ada, id, &format!("k{number}")).await;
        let (_, missed) =
            node.subscribe(&bob, SUBSCRIPTION, json!({ "after": cursors[cursors.len() - 1] })).await;
        assert_eq!(keys(&missed), [format!("k{number}")]);
        cursors.push(missed[2]["cursor"].clone());
    }
    let (executions, begun) = (node.hub.metrics().executions_total(), Instant::now());
    let resuming =
        cursors.iter().map(|cursor| node.subscribe(&bob, SUBSCRIPTION, json!({ "after": cursor })));
    let resumed = join_all(resuming).await;
    let executed = node.hub.metrics().executions_total() - executions;
    let seconds = begun.elapsed().as_secs() + 1;
    let mut told = 0;
    for (begun, (_, events)) in resumed.into_iter().enumerate() {
        let expected: Vec<String> = (begun..20).map(|number| format!("k{number}")).collect();
        assert_eq!(keys(&events), expected);
        assert_eq!(names(&events).last(), Some(&"StreamLive"));
        let distinct: BTreeSet<String> = events.iter().map(|event| event["cursor"].to_string()).collect();
        // The end of a replay of nothing says the same as its beginning.
        assert!(distinct.len() + 1 >= events.len(), "each its own place: {events:?}");
        told += events.len();
        // Any place of it is good to go on from.
        let half = events.len() / 2;
        let (_, rest) = node.subscribe(&bob, SUBSCRIPTION, json!({ "after": events[half]["cursor"] })).await;
        assert_eq!(keys(&rest), keys(&events[half + 1..]));
    }
    assert_eq!(told, 210 + 42, "all of 20, of 19, …; and the two ends of each");
    // 20 messages, a beginning and an end, and all of them again each second that it takes.
    assert!(executed <= 22 * seconds, "{executed} executions of {told} in {seconds} s");
}
