//! Presence and typing between nodes: one that dies, one that users leave for another, and what is switched while they run.

#![expect(clippy::disallowed_methods, reason = "tests read the environment and write a file of settings")]

use std::{env, fs, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    installation::{Installation, Process},
    listener::Listener,
    people::{Device, Site},
};

const ACTIVITY: &str = "subscription($users: [ID!], $conversations: [ID!]) {
    activity(userIds: $users, conversationIds: $conversations) { __typename
        ... on ActivityOpened { presences { user { id } presence { state } } }
        ... on PresenceChanged { user { id } presence { state } }
        ... on TypingChanged { user { id } typing } } }";

/// What lasts has a row there.
const LOGGED: &str = "SELECT COUNT(*) FROM outbox";

/// A session that comes back within this time was never away.
const GRACE: Duration = Duration::from_secs(10);
/// A node that dies is missed for its lease, and then for a beat of its heart.
const DEATH_SEEN_WITHIN: Duration = Duration::from_secs(30);

/// `None`, loudly, without a Redis or a MariaDB.
fn installation(more: Vec<(&'static str, String)>) -> Option<Installation> {
    if env::var("CONFAB_TEST_REDIS_URL").is_err() {
        eprintln!("SKIPPED on Redis: CONFAB_TEST_REDIS_URL is not set (scripts/test sets it)");
        return None;
    }
    Installation::on_mariadb(more)
}

struct Friends {
    site: Site,
    ada: Device,
    bob: Device,
    room: String,
}

impl Friends {
    async fn meet(at: &Process) -> Self {
        let site = Site::new(&at.url);
        let (ada, bob) = (site.join("ada").await, site.join("bob").await);
        let room = site.direct(&ada, &bob).await;
        Self { site, ada, bob, room }
    }

    /// A subscription of Ada's that watches Bob and their conversation, and how Bob was then.
    async fn watch(&self, at: &Process) -> (Listener, Value) {
        let variables = json!({ "users": [self.bob.user], "conversations": [self.room] });
        let opened = Listener::subscribed(&at.url, &self.ada.token, ACTIVITY, variables).await;
        let mut listener = opened.expect("opens");
        let event = listener.data().await.expect("open")["activity"].clone();
        assert_eq!(event["__typename"], "ActivityOpened", "{event}");
        let presences = event["presences"].as_array().expect("a list").clone();
        let mut those = presences.iter().filter(|one| one["user"]["id"] == self.bob.user.as_str());
        let state = those.next().map_or(Value::Null, |one| one["presence"]["state"].clone());
        (listener, state)
    }

    /// Bob with his app open.
    async fn arrive(&self, at: &Process) -> Listener {
        let mut listener = Listener::open(&at.url, &self.bob.token, None).await.expect("opens");
        listener.opening().await.expect("live");
        listener
    }

    async fn until_state(&self, wanted: &Value) {
        let begun = Instant::now();
        let query = "query($id: ID!) { user(by: { id: $id }) { presence { state } } }";
        loop {
            let found = self.site.query(&self.ada, query, json!({ "id": self.bob.user })).await;
            let state = &found["user"]["presence"]["state"];
            if state == wanted {
                return;
            }
            assert!(begun.elapsed() < DEATH_SEEN_WITHIN, "Bob is {state}, not {wanted}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// How Bob is, once it is told.
async fn state(listener: &mut Listener, of: &Friends) -> Value {
    loop {
        let event = listener.patiently(DEATH_SEEN_WITHIN).await.expect("open")["activity"].clone();
        assert_eq!(event["__typename"], "PresenceChanged", "{event}");
        if event["user"]["id"] == of.bob.user.as_str() {
            return event["presence"]["state"].clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_node_that_is_killed_go_offline_by_its_lease() {
    let Some(installation) = installation(Vec::new()) else { return };
    let (here, mut there) = (installation.start("api"), installation.start("api"));
    let friends = Friends::meet(&here).await;
    let (mut watching, before) = friends.watch(&here).await;
    assert_eq!(before, "OFFLINE");
    let _bob = friends.arrive(&there).await;
    assert_eq!(state(&mut watching, &friends).await, "ONLINE", "heard from the other node");
    there.kill();
    let killed = Instant::now();
    let told = timeout(DEATH_SEEN_WITHIN, state(&mut watching, &friends)).await.expect("in time");
    assert_eq!(told, "OFFLINE");
    println!("offline {:?} after the kill", killed.elapsed());
    friends.until_state(&json!("OFFLINE")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reconnects_within_the_grace_was_never_offline_whatever_node_they_come_to() {
    let Some(installation) = installation(Vec::new()) else { return };
    let (here, mut there) = (installation.start("api"), installation.start("api"));
    let friends = Friends::meet(&here).await;
    let bob = friends.arrive(&there).await;
    friends.until_state(&json!("ONLINE")).await;
    let (mut watching, before) = friends.watch(&here).await;
    assert_eq!(before, "ONLINE");
    // A line that breaks; then a node that is stopped in order, with all of its sockets.
    drop(bob);
    let bob = friends.arrive(&there).await;
    assert_eq!(there.terminate(), Some(0));
    drop(bob);
    let bob = friends.arrive(&here).await;
    let silent = timeout(GRACE + Duration::from_secs(8), watching.patiently(DEATH_SEEN_WITHIN)).await;
    assert!(silent.is_err(), "Bob flickered: {silent:?}");
    friends.until_state(&json!("ONLINE")).await;
    // For good.
    let left = Instant::now();
    drop(bob);
    assert_eq!(state(&mut watching, &friends).await, "OFFLINE");
    assert!(left.elapsed() >= GRACE, "{:?}", left.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_passes_from_node_to_node_and_a_domain_of_its_own_knows_who_may() {
    let Some(installation) = installation(Vec::new()) else { return };
    let domain = installation.start("domain");
    let apart = [("CONFAB_DOMAIN_URL", domain.url.as_str())];
    let (here, there) = (installation.start_with("api", &apart), installation.start_with("api", &apart));
    let friends = Friends::meet(&there).await;
    let (mut watching, _) = friends.watch(&here).await;
    // What is said before the other node listens is lost, as it may be: it is said again, as apps do.
    let logged = installation.sql(LOGGED);
    let typing = json!({ "conversationId": friends.room, "typing": true });
    let begun = Instant::now();
    let event = loop {
        friends.site.done(&friends.bob, "setTyping", typing.clone(), "expiresAt").await;
        if let Ok(event) = timeout(Duration::from_millis(200), watching.data()).await {
            break event.expect("open")["activity"].clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "never heard");
    };
    assert_eq!((&event["__typename"], &event["typing"]), (&json!("TypingChanged"), &json!(true)), "{event}");
    assert_eq!(installation.sql(LOGGED), logged, "nothing of it is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_switched_off_and_on_while_a_node_runs_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("confab.toml");
    fs::write(&file, "presence_enabled = true\n").expect("writes");
    let Some(installation) = installation(vec![("CONFAB_CONFIG", file.display().to_string())]) else {
        return;
    };
    let node = installation.start("api");
    let friends = Friends::meet(&node).await;
    let _bob = friends.arrive(&node).await;
    friends.until_state(&json!("ONLINE")).await;
    let (mut watching, _) = friends.watch(&node).await;
    fs::write(&file, "presence_enabled = \"perhaps\"\n").expect("writes");
    node.signal("-HUP");
    node.until_said("presence_enabled: expected on or off").await;
    friends.until_state(&json!("ONLINE")).await;
    fs::write(&file, "presence_enabled = false\nids_max = 50\n").expect("writes");
    node.signal("-HUP");
    assert_eq!(state(&mut watching, &friends).await, Value::Null);
    friends.until_state(&Value::Null).await;
    node.until_said("ids_max has changed in the settings").await;
    fs::write(&file, "").expect("writes");
    // Without a word: it is read every few seconds.
    assert_eq!(state(&mut watching, &friends).await, "ONLINE");
}
