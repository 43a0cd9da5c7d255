//! Who is there, in this process and over a real Redis; and who may know it, on every database.

#![expect(clippy::disallowed_methods, reason = "tests read the environment")]

use std::{collections::BTreeSet, env, sync::Arc, time::Duration};

use domain::{
    ActivityScope, Caller, Chat, Heard, Limits, PRESENCE_GRACE, PresenceState, PresenceVisibility, SessionId,
    Switches, Timestamp, Topic, UserId, Whisper,
    adapter::{
        in_process::{InProcessPresence, InProcessWhispers},
        redis::{RedisCommands, RedisPresence, RedisPresenceSetup, RedisWhispers, RedisWhispersSetup},
    },
    port::{Contacts, Presence, Whispers},
    service::remove_member::RemoveMember,
};
use tokio::{
    sync::{broadcast::Receiver, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    harness::{group, held, random_number},
    on_every_database,
    redis_server::{RedisServer, SOON, connected, servers, until},
};

struct Node {
    presence: Arc<dyn Presence>,
    whispers: Arc<dyn Whispers>,
    stop: CancellationToken,
    _stop: DropGuard,
}

fn in_process() -> Node {
    let whispers: Arc<dyn Whispers> = Arc::new(InProcessWhispers::default());
    let (presence, stop) = (Arc::new(InProcessPresence::new(whispers.clone())), CancellationToken::new());
    Node { presence, whispers, stop: stop.clone(), _stop: stop.drop_guard() }
}

async fn node(url: &str, prefix: &str) -> (Node, RedisCommands) {
    let (stop, node, servers) = (CancellationToken::new(), random_number(), servers(url));
    let commands = RedisCommands::start(servers.clone(), &held(&stop));
    connected(&commands).await;
    let whispers: Arc<dyn Whispers> = Arc::new(RedisWhispers::start(RedisWhispersSetup {
        servers,
        commands: commands.clone(),
        prefix: prefix.to_owned(),
        node,
        held: held(&stop),
    }));
    let presence = Arc::new(RedisPresence::start(RedisPresenceSetup {
        commands: commands.clone(),
        prefix: prefix.to_owned(),
        node,
        whispers: whispers.clone(),
        switches: watch::channel(Switches::default()).1,
        held: held(&stop),
    }));
    (Node { presence, whispers, stop: stop.clone(), _stop: stop.drop_guard() }, commands)
}

fn server() -> Option<String> {
    let url = env::var("CONFAB_TEST_REDIS_URL").ok();
    if url.is_none() {
        eprintln!("SKIPPED on Redis: CONFAB_TEST_REDIS_URL is not set (scripts/test sets it)");
    }
    url
}

async fn state(node: &Node, user: UserId) -> Option<PresenceState> {
    let standings = node.presence.standings(&[user]).await;
    let offline = standings.complete.then_some(PresenceState::Offline);
    standings.there.get(&user).map(|standing| standing.state).or(offline)
}

async fn until_state(node: &Node, user: UserId, wanted: PresenceState) {
    until(&format!("{user} is {wanted:?}"), async || state(node, user).await == Some(wanted)).await;
}

async fn hears_of(heard: &mut Receiver<Heard>, user: UserId) {
    let wanted = Heard::Whisper(Whisper::PresenceChanged(user));
    let found = async { while heard.recv().await.expect("open") != wanted {} };
    timeout(SOON, found).await.expect("a whisper");
}

fn has_heard(heard: &mut Receiver<Heard>, user: UserId) -> bool {
    let mut found = false;
    while let Ok(heard) = heard.try_recv() {
        found |= heard == Heard::Whisper(Whisper::PresenceChanged(user));
    }
    found
}

/// The contract: `here` has the sockets, and `there` watches.
async fn comes_and_goes_without_a_flicker(here: &Node, there: &Node) {
    let user = UserId(random_number().cast_signed().abs() / 2);
    let (phone, laptop) = (SessionId(user.0), SessionId(user.0 + 1));
    let mut heard = there.whispers.hear();
    there.whispers.listen(&[Topic::User(user)]);
    until_state(there, user, PresenceState::Offline).await;
    // Announced until it is heard: listening begins in a moment, and nothing is promised before.
    until("the listener hears", async || {
        here.whispers.say(Whisper::PresenceChanged(user));
        timeout(Duration::from_millis(100), hears_of(&mut heard, user)).await.is_ok()
    })
    .await;
    has_heard(&mut heard, user);

    here.presence.announce(user, phone, true);
    hears_of(&mut heard, user).await;
    assert_eq!(state(there, user).await, Some(PresenceState::Online), "told after it is so");
    assert_eq!(there.presence.live_sessions(&[user]).await, [phone].into());
    here.presence.set_away(user, phone, true);
    hears_of(&mut heard, user).await;
    assert_eq!(state(there, user).await, Some(PresenceState::Away));
    here.presence.announce(user, laptop, true);
    hears_of(&mut heard, user).await;
    assert_eq!(state(there, user).await, Some(PresenceState::Online), "the best device counts");
    here.presence.announce(user, phone, false);
    until("a push may go at once", async || there.presence.live_sessions(&[user]).await == [laptop].into())
        .await;

    here.presence.announce(user, laptop, false);
    until("nothing is live", async || there.presence.live_sessions(&[user]).await.is_empty()).await;
    assert_eq!(state(there, user).await, Some(PresenceState::Online), "within the grace");
    here.presence.announce(user, laptop, true);
    until("it is back", async || !there.presence.live_sessions(&[user]).await.is_empty()).await;
    assert!(!has_heard(&mut heard, user), "nobody was told anything");

    let left = Instant::now();
    here.presence.announce(user, laptop, false);
    until("the grace has passed", async || {
        here.presence.expire();
        state(there, user).await == Some(PresenceState::Offline)
    })
    .await;
    assert!(left.elapsed() >= PRESENCE_GRACE, "{:?}", left.elapsed());
    hears_of(&mut heard, user).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process_people_come_and_go_without_a_flicker() {
    let node = in_process();
    comes_and_goes_without_a_flicker(&node, &node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_redis_people_come_and_go_without_a_flicker() {
    let Some(url) = server() else { return };
    let prefix = format!("confab:test-{:x}", random_number());
    let ((here, _), (there, _)) = (node(&url, &prefix).await, node(&url, &prefix).await);
    comes_and_goes_without_a_flicker(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_who_listen_hear_and_only_of_what_they_listen_to() {
    let Some(url) = server() else { return };
    let prefix = format!("confab:test-{:x}", random_number());
    let ((here, _), (there, _)) = (node(&url, &prefix).await, node(&url, &prefix).await);
    let (wanted, other) = (UserId(7), UserId(8));
    let mut heard = there.whispers.hear();
    there.whispers.listen(&[Topic::User(wanted)]);
    let anew = timeout(SOON, heard.recv()).await.expect("in time").expect("open");
    assert_eq!(anew, Heard::Anew(vec![Topic::User(wanted)]), "what was missed before is to be looked up");
    here.whispers.say(Whisper::PresenceChanged(other));
    here.whispers.say(Whisper::VisibilityChanged(wanted));
    let first = timeout(SOON, heard.recv()).await.expect("in time").expect("open");
    assert_eq!(first, Heard::Whisper(Whisper::VisibilityChanged(wanted)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_leaves_its_users_the_time_to_come_back() {
    let Some(url) = server() else { return };
    let prefix = format!("confab:test-{:x}", random_number());
    let ((here, _), (there, _)) = (node(&url, &prefix).await, node(&url, &prefix).await);
    let (user, session) = (UserId(7), SessionId(7));
    here.presence.announce(user, session, true);
    until_state(&there, user, PresenceState::Online).await;
    let nodes = there.presence.standings(&[user]).await.there[&user].nodes.clone();
    assert_eq!(nodes.len(), 1, "the node that says so is named");
    assert_eq!(there.presence.fallen(&nodes).await, Some(Vec::new()));
    let stopped = Instant::now();
    here.stop.cancel();
    until("pushes may go", async || there.presence.live_sessions(&[user]).await.is_empty()).await;
    assert_eq!(state(&there, user).await, Some(PresenceState::Online), "within the grace");
    until("the node is gone", async || there.presence.fallen(&nodes).await == Some(nodes.clone())).await;
    assert!(stopped.elapsed() + Duration::from_secs(1) >= PRESENCE_GRACE, "{:?}", stopped.elapsed());
    assert_eq!(state(&there, user).await, Some(PresenceState::Offline));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_everything_is_told_again_and_one_that_is_away_leaves_the_own_node() {
    let Some(mut server) = RedisServer::start(&[]).await else { return };
    let url = format!("redis://127.0.0.1:{}", server.port);
    let ((here, _), (there, _)) = (node(&url, "confab:test").await, node(&url, "confab:test").await);
    let (user, session, other) = (UserId(7), SessionId(7), UserId(8));
    here.presence.announce(user, session, true);
    there.presence.announce(other, SessionId(8), true);
    until_state(&there, user, PresenceState::Online).await;
    let client = redis::Client::open(url).expect("an address");
    let mut admin = client.get_multiplexed_async_connection().await.expect("connects");
    redis::cmd("FLUSHALL").exec_async(&mut admin).await.expect("flushes");
    until_state(&there, user, PresenceState::Online).await;
    server.kill();
    until("the other node is unknown", async || state(&there, user).await.is_none()).await;
    assert_eq!(state(&there, other).await, Some(PresenceState::Online), "of its own it knows");
    assert_eq!(there.presence.fallen(&[]).await, Some(Vec::new()));
}

/// Whom the caller talks to, and who shows it.
async fn known(chat: &Chat, caller: &Caller, users: &[Caller]) -> (BTreeSet<UserId>, BTreeSet<UserId>) {
    let ids: Vec<UserId> = users.iter().map(|user| user.user).collect();
    let scope = chat.activity_scope(caller, &ids, &[], 0).await.expect("asks");
    let contacts = scope.contacts.iter();
    (
        contacts.clone().map(|contact| contact.user).collect(),
        contacts.filter(|contact| contact.shows).map(|contact| contact.user).collect(),
    )
}

fn ids(users: &[&Caller]) -> BTreeSet<UserId> {
    users.iter().map(|user| user.user).collect()
}

on_every_database! {
    async fn presence_is_for_those_who_talk_to_each_other(db: TestDatabase) {
        let chat = db.chat_with(Limits { fanout_inline_members_max: 3, ..Limits::default() });
        let users = db.users(6).await;
        let [ada, bob, cy, dee, eve, stranger] = &users[..] else { panic!("six") };
        chat.open_direct_conversation(ada, bob.user).await.expect("opens");
        let small = group(&chat, ada, &[*cy]).await;
        let large = group(&chat, ada, &[*bob, *cy, *dee, *eve]).await;
        assert_eq!(known(&chat, ada, &users).await.0, ids(&[ada, bob, cy]), "a large group makes no contacts");
        assert_eq!(known(&chat, stranger, &users).await.0, ids(&[stranger]));

        chat.set_presence_visibility(bob, PresenceVisibility::Nobody).await.expect("sets");
        chat.set_presence_visibility(bob, PresenceVisibility::Nobody).await.expect("sets again");
        assert_eq!(chat.presence_visibility(bob).await.expect("asks"), PresenceVisibility::Nobody);
        assert_eq!(known(&chat, ada, &users).await, (ids(&[ada, bob, cy]), ids(&[ada, cy])));
        assert_eq!(known(&chat, bob, &users).await.1, ids(&[ada, bob]), "one's own shows");
        chat.set_presence_visibility(bob, PresenceVisibility::EveryoneITalkTo).await.expect("sets");
        assert_eq!(known(&chat, ada, &users).await.1, ids(&[ada, bob, cy]));

        let all = [small, large];
        let scope = chat.activity_scope(ada, &[], &all, 100).await.expect("asks");
        assert_eq!(scope.conversations.len(), 2);
        let members: BTreeSet<UserId> = scope.contacts.iter().map(|contact| contact.user).collect();
        assert_eq!(members, ids(&[ada, cy]), "those of the small one");
        assert!(!scope.too_many && chat.activity_scope(ada, &[], &all, 1).await.expect("asks").too_many);
        assert_eq!(chat.activity_scope(stranger, &[], &all, 100).await.expect("asks"), ActivityScope::default());

        chat.remove_member(ada, RemoveMember { conversation: small, user: cy.user }).await.expect("removes");
        assert_eq!(known(&chat, ada, &users).await.0, ids(&[ada, bob]));
        assert_eq!(known(&chat, cy, &users).await.0, ids(&[cy]));
    }

    async fn when_a_session_was_last_used_moves_forward_alone(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(2).await;
        chat.open_direct_conversation(&users[0], users[1].user).await.expect("opens");
        let last_used = async || {
            let scope = chat.activity_scope(&users[0], &[users[1].user], &[], 0).await.expect("asks");
            scope.contacts[0].last_used_at.expect("known")
        };
        let begun = last_used().await;
        let later = begun + Duration::from_mins(1);
        for until in [later, begun] {
            db.store.note_used(&[users[1].session, SessionId(1)], until).await.expect("notes");
            assert_eq!(last_used().await, later);
        }
        db.store.note_used(&[], Timestamp(1)).await.expect("nothing");
    }
}
