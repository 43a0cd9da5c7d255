//! When a subscription cannot go on from where it was: it is told so, and goes on from here.

use std::sync::Arc;

use api::{hub::HubLimits, settings::Settings};
use domain::{
    Limits,
    adapter::ambient::{SystemClock, SystemRandom},
    keys::KeyRing,
    port::Log as _,
};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::{
    people::{OWN_VIEW, Person, names, node},
    test_server::TestServer,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_void_is_told_to_resynchronise_and_the_subscription_goes_on() {
    let limits = Limits { rate_limits: false, replay_events_max: 5, ..Limits::default() };
    let node = TestServer::of(Arc::new(SystemClock), Settings::default(), HubLimits::default(), limits).await;
    let (ada, mut bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let reason = "subscription($after: EventCursor) { events(after: $after) { __typename cursor ... on ResyncRequired { reason }
        ... on MessageSent { message { clientMessageId } } } }";
    let now = async |bob: &Person| {
        let (_, opened) = node.subscribe(bob, reason, json!({})).await;
        json!({ "after": opened[1]["cursor"] })
    };
    let resynchronises = async |bob: &Person, after: Value, expected: &str, key: &str| {
        let (mut socket, opened) = node.subscribe(bob, reason, after).await;
        assert_eq!(names(&opened), ["StreamOpened", "ResyncRequired", "StreamLive"], "{expected}");
        assert_eq!(opened[1]["reason"], expected);
        // The same operation goes on, and what came with the word is a good cursor.
        let good = json!({ "after": opened[1]["cursor"] });
        node.send(&ada, id, key).await;
        assert_eq!(socket.event().await["message"]["clientMessageId"], key);
        let (_, missed) = node.subscribe(bob, reason, good).await;
        assert_eq!(names(&missed), ["StreamOpened", "MessageSent", "StreamLive"], "{expected}");
    };

    let after = now(&bob).await;
    for number in 0..6 {
        node.send(&ada, id, &format!("many{number}")).await;
    }
    resynchronises(&bob, after, "too much happened since the cursor", "a").await;

    let after = now(&bob).await;
    node.send(&ada, id, "forgotten").await;
    node.store.remove_expired(domain::Timestamp(i64::MAX), 1000).await.expect("removes");
    resynchronises(&bob, after, "the cursor is too old", "b").await;

    let after = now(&bob).await;
    let old = node.keys.ids().remove(0);
    std::fs::remove_file(node.keys.folder().join(format!("{old}.key"))).expect("retires");
    KeyRing::create(node.keys.folder(), &SystemClock, &SystemRandom).expect("a key");
    node.keys.reload().expect("reads");
    bob = node.device("bob").await;
    resynchronises(&bob, after, "the cursor's key is retired", "c").await;

    let after = now(&bob).await;
    node.chat.raise_epoch(node.chat.heads().await.expect("heads").epoch).await.expect("raises");
    resynchronises(&bob, after, "the database was restored since the cursor", "d").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_goes_back_is_told_to_open_subscriptions_and_they_go_on() {
    let node = node().await;
    let (ada, bob) = (node.person("ada").await, node.person("bob").await);
    let id = node.group(&ada, &bob).await;
    let reason = "subscription($after: EventCursor) { events(after: $after) { __typename cursor ... on ResyncRequired { reason }
        ... on MessageSent { message { clientMessageId } } } }";
    let (mut of_bob, _) = node.subscribe(&bob, reason, json!({})).await;
    let (mut of_ada, _) = node.subscribe(&ada, OWN_VIEW, json!({})).await;
    let copied = |sql: &str| {
        ["log_lane", "outbox", "conversation", "member", "message"]
            .map(|table| sql.replace("{}", table))
            .concat()
    };
    let database = node.store.connection();
    database.execute_unprepared(&copied("CREATE TABLE {}_copy AS SELECT * FROM {};")).await.expect("copies");
    node.send(&ada, id, "lost").await;
    let lost = of_bob.event().await;
    assert_eq!(lost["message"]["clientMessageId"], "lost");
    assert_eq!(of_ada.event().await["__typename"], "MessageSent");
    // An older copy comes back under the running node.
    let back = copied("DELETE FROM {}; INSERT INTO {} SELECT * FROM {}_copy;");
    database.execute_unprepared(&format!("BEGIN IMMEDIATE; {back} COMMIT")).await.expect("goes back");
    let told = of_bob.event().await;
    assert_eq!(
        (told["__typename"].as_str(), told["reason"].as_str()),
        (Some("ResyncRequired"), Some("the database was restored"))
    );
    assert_eq!(of_bob.event().await["__typename"], "StreamLive");
    assert_eq!(of_ada.event().await["__typename"], "ResyncRequired");
    assert_eq!(of_ada.event().await["__typename"], "StreamLive");
    let after = |event: &Value| json!({ "after": event["cursor"] });
    let (_, of_the_lost) = node.subscribe(&bob, reason, after(&lost)).await;
    assert_eq!(names(&of_the_lost), ["StreamOpened", "ResyncRequired", "StreamLive"]);
    // Positions that were taken before come again with other content.
    node.send(&ada, id, "other").await;
    assert_eq!(of_bob.event().await["message"]["clientMessageId"], "other");
    assert_eq!(of_ada.event().await["__typename"], "MessageSent");
    let (_, of_the_word) = node.subscribe(&bob, reason, after(&told)).await;
    assert_eq!(names(&of_the_word), ["StreamOpened", "MessageSent", "StreamLive"]);
}
