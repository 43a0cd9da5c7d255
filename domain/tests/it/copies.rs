//! Reads that are answered from copies, on several nodes of one database.

use std::{sync::Arc, time::Duration};

use domain::{
    Caller, Chat, ConversationId, Limits, Mentions, UserId,
    adapter::redis::{RedisBus, RedisBusSetup, RedisCache},
    measure,
    port::Cache,
    service::{mark_read::MarkRead, remove_member::RemoveMember, send_message::SendMessage},
    wiring::Wiring,
};
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    harness::{Kind, TestDatabase, database, group, held, key, random_number, send, text},
    on_every_database,
    recorder::Counters,
    redis_server::{RedisServer, commands, servers, until},
};

struct Node {
    chat: Chat,
    _stop: DropGuard,
    _commands: DropGuard,
}

/// One of several processes on a database and a Redis.
async fn node(db: &TestDatabase, url: &str) -> Node {
    let stop = CancellationToken::new();
    let installation = db.store.installation().to_owned();
    let bus = Arc::new(RedisBus::start(RedisBusSetup {
        servers: servers(url),
        installation: installation.clone(),
        layout: domain::port::Log::layout(&db.store),
        node: random_number(),
        backlog_bytes_max: 1 << 20,
        held: held(&stop),
    }));
    let mut connected = bus.is_connected();
    connected.wait_for(|connected| *connected).await.expect("hears itself");
    let (commands, stop_commands) = commands(servers(url)).await;
    let cache: Arc<dyn Cache> = Arc::new(RedisCache::new(commands, format!("confab:{installation}")));
    let chat = Wiring { bus, cache: Some(cache), ..db.wiring(Limits::default()) }.build();
    Node { chat, _stop: stop.drop_guard(), _commands: stop_commands }
}

async fn name(chat: &Chat, caller: &Caller, user: UserId) -> String {
    let found = chat.users(caller, &[user]).await.expect("answers").remove(&user);
    found.expect("a user").display_name.to_string()
}

on_every_database! {
    async fn a_new_name_is_seen_by_its_owner_at_once_and_by_others_after_a_moment(db: TestDatabase) {
        let Some(server) = RedisServer::start(&[]).await else { return };
        let (here, there) = (node(&db, &server.url()).await, node(&db, &server.url()).await);
        let (ada, bob) = (db.user("ada").await, db.user("bob").await);
        for node in [&here, &there] {
            for reader in [&ada, &bob] {
                assert_eq!(name(&node.chat, reader, ada.user).await, "ada");
            }
        }
        for round in 0..3 {
            let new = format!("Ada {round}");
            here.chat.update_profile(&ada, Some(new.clone())).await.expect("renamed");
            assert_eq!(name(&here.chat, &bob, ada.user).await, new, "where it changed, at once");
            assert_eq!(name(&there.chat, &ada, ada.user).await, new, "one's own, at once");
            let changed = Instant::now();
            until("others see it", async || name(&there.chat, &bob, ada.user).await == new).await;
            assert!(changed.elapsed() < Duration::from_secs(2), "{:?}", changed.elapsed());
        }
    }

    async fn what_redis_forgets_and_does_not_answer_is_read_from_the_database(db: TestDatabase) {
        let Some(server) = RedisServer::start(&[]).await else { return };
        let (here, there) = (node(&db, &server.url()).await, node(&db, &server.url()).await);
        let (ada, bob) = (db.user("ada").await, db.user("bob").await);
        let conversation = group(&here.chat, &ada, &[bob]).await;
        let command = SendMessage { conversation, client_key: key("one"), text: text("hello"), mentions: Mentions::default() };
        let sent = here.chat.send_message(&ada, command.clone()).await.expect("a message");
        assert_eq!(name(&there.chat, &bob, ada.user).await, "ada");
        server.ask::<()>(&["FLUSHALL"]).await.expect("flushes");
        assert_eq!(name(&there.chat, &ada, ada.user).await, "ada");
        let again = there.chat.send_message(&ada, command.clone()).await.expect("the same message");
        assert_eq!((again.id, again.seq), (sent.id, sent.seq));
        server.freeze();
        let begun = Instant::now();
        here.chat.update_profile(&ada, Some("Ada".to_owned())).await.expect("renamed");
        let view = there.chat.mark_read(&bob, MarkRead { conversation, seq: 1 }).await.expect("marked");
        assert_eq!((view.viewer.read_seq, view.unread_count()), (1, 0));
        for _ in 0..10 {
            assert_eq!(name(&there.chat, &ada, ada.user).await, "Ada");
        }
        here.chat.remove_member(&ada, RemoveMember { conversation, user: bob.user }).await.expect("removed");
        let taken = begun.elapsed();
        server.thaw();
        assert!(taken < Duration::from_secs(3), "{taken:?}");
        let refused = there.chat.mark_read(&bob, MarkRead { conversation, seq: 1 }).await;
        assert!(refused.is_err(), "no copy lets anybody in");
    }

    async fn copies_of_a_membership_let_nobody_mark_after_a_removal(db: TestDatabase) {
        let Some(server) = RedisServer::start(&[]).await else { return };
        let (here, there) = (node(&db, &server.url()).await, node(&db, &server.url()).await);
        let (ada, bob) = (db.user("ada").await, db.user("bob").await);
        let conversation = group(&here.chat, &ada, &[bob]).await;
        let first = send(&here.chat, &ada, conversation, "one").await;
        there.chat.mark_read(&bob, MarkRead { conversation, seq: first.seq }).await.expect("marked");
        send(&here.chat, &ada, conversation, "two").await;
        here.chat.remove_member(&ada, RemoveMember { conversation, user: bob.user }).await.expect("removed");
        let refused = there.chat.mark_read(&bob, MarkRead { conversation, seq: 2 }).await;
        assert_eq!(refused.err().map(|error| error.code()), Some(domain::ErrorCode::NotFound));
    }

    async fn a_mark_answers_with_what_was_committed(db: TestDatabase) {
        let chat = db.chat();
        let (ada, bob) = (db.user("ada").await, db.user("bob").await);
        let conversation = group(&chat, &ada, &[bob]).await;
        for number in 1..=6 {
            send(&chat, &ada, conversation, &number.to_string()).await;
        }
        for seq in [2, 5, 5, 3] {
            let view = chat.mark_read(&bob, MarkRead { conversation, seq }).await.expect("marked");
            let read = chat.conversations(&bob, &[conversation]).await.expect("reads").remove(&conversation);
            assert_eq!(Some(view), read, "{seq}");
        }
    }
}

#[tokio::test]
async fn marks_of_what_was_heard_ask_the_database_nothing() {
    let Some(db) = database(Kind::Sqlite).await else { return };
    let counters = Counters::default();
    let _counting = metrics::set_default_local_recorder(&counters);
    let chat = db.chat();
    let (ada, bob) = (db.user("ada").await, db.user("bob").await);
    let conversation = group(&chat, &ada, &[bob]).await;
    for seq in 1..=3 {
        send(&chat, &ada, conversation, "hello").await;
        chat.mark_read(&bob, MarkRead { conversation, seq }).await.expect("marked");
    }
    let reads = |labels: &[&str]| counters.sum(measure::CACHE_READS, labels);
    assert_eq!((reads(&["kind=head", "outcome=near"]), reads(&["kind=head", "outcome=miss"])), (3, 0));
    let membership =
        ["near", "miss"].map(|outcome| reads(&["kind=membership", &format!("outcome={outcome}")]));
    assert_eq!(membership, [2, 1], "the first mark alone");
}

#[tokio::test]
async fn a_key_that_another_node_committed_spoils_no_batch() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let Some(db) = database(Kind::Sqlite).await else { return };
    let counters = Counters::default();
    let _counting = metrics::set_default_local_recorder(&counters);
    let (here, there) = (node(&db, &server.url()).await, node(&db, &server.url()).await);
    let ada = db.user("ada").await;
    let conversation = group(&here.chat, &ada, &[]).await;
    let mut heard = there.chat.live();
    for number in 0..20 {
        let command = SendMessage {
            conversation,
            client_key: key(format!("k{number}")),
            text: text("hello"),
            mentions: Mentions::default(),
        };
        let sent = here.chat.send_message(&ada, command.clone()).await.expect("a message");
        while !heard
            .recv()
            .await
            .expect("arrives there")
            .events
            .iter()
            .any(|event| event.message.as_ref().is_some_and(|message| message.id == sent.id))
        {}
        let again = there.chat.send_message(&ada, command).await.expect("the same message");
        assert_eq!(again.id, sent.id);
    }
    assert_eq!(counters.sum(measure::COMMITS_SPOILED, &[]), 0);
    // One that knows of nothing finds out by the unique index.
    let stranger = db.chat();
    let command = SendMessage {
        conversation,
        client_key: key("k0"),
        text: text("hello"),
        mentions: Mentions::default(),
    };
    stranger.send_message(&ada, command).await.expect("the same message");
    assert_eq!(counters.sum(measure::COMMITS_SPOILED, &[]), 1);
}

const GROUPS: usize = 100;
const MEMBERS: usize = 10;
const SENDS: usize = 6000;
/// Sends at the same time, each of another group.
const AT_ONCE: usize = 4;

/// Small groups on two nodes: everybody opens the app and sees the names in their group; then each message is shown on both
/// nodes with its sender.
#[tokio::test]
async fn small_groups_are_served_from_copies_within_the_budget_of_commands() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let Some(db) = database(Kind::Sqlite).await else { return };
    let counters = Counters::default();
    let _counting = metrics::set_default_local_recorder(&counters);
    let nodes = [node(&db, &server.url()).await, node(&db, &server.url()).await];
    let mut groups: Vec<(ConversationId, Vec<Caller>)> = Vec::new();
    for _ in 0..GROUPS {
        let members = db.users(MEMBERS).await;
        groups.push((group(&nodes[0].chat, &members[0], &members[1..]).await, members));
    }
    for (_, members) in &groups {
        let ids: Vec<UserId> = members.iter().map(|member| member.user).collect();
        for (place, member) in members.iter().enumerate() {
            let names = nodes[place % 2].chat.users(member, &ids).await.expect("answers");
            assert_eq!(names.len(), MEMBERS);
        }
    }
    let commands = async || -> usize {
        let info: String = server.ask(&["INFO", "stats"]).await.expect("answers");
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.expect("a total").trim().parse().expect("a number")
    };
    let (before, begun) = (commands().await, Instant::now());
    let deliver = async |number: usize| {
        let (conversation, members) = &groups[number % GROUPS];
        let sender = &members[number / GROUPS % MEMBERS];
        let viewer = &members[(number / GROUPS + 1) % MEMBERS];
        send(&nodes[0].chat, sender, *conversation, "hello").await;
        join_all(nodes.iter().map(|node| name(&node.chat, viewer, sender.user))).await;
    };
    for first in (0..SENDS).step_by(AT_ONCE) {
        join_all((first..first + AT_ONCE).map(&deliver)).await;
    }
    let (after, seconds) = (commands().await, begun.elapsed().as_secs_f64());
    let read = |outcome: &str| {
        let of = |kind: &str| counters.sum(measure::CACHE_READS, &[kind, &format!("outcome={outcome}")]);
        of("kind=user")
    };
    let [near, far, miss, away] = ["near", "far", "miss", "away"].map(read);
    let hits = near + far;
    println!(
        "{near} near, {far} far, {miss} missed; {} commands for {SENDS} messages in {seconds:.1} s",
        after - before
    );
    assert_eq!(away, 0);
    assert!(hits * 100 >= 95 * (hits + miss), "{hits} of {}", hits + miss);
    // Two heartbeats a second, and the two questions themselves.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a test")]
    let others = 2 * (seconds as usize + 1) + 20;
    assert!(after - before <= (nodes.len() + 1) * SENDS + others, "{} commands", after - before);
}
