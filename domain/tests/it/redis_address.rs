//! Every kind of Redis: with TLS and an ACL, behind Sentinels, as a cluster. Bus, presence and cache work over each.

use std::{sync::Arc, time::Duration};

use domain::{
    ConversationId, Event, Fact, Heard, LaneId, LaneLayout, LoggedBatch, SessionId, Switches, Topic, UserId,
    Whisper,
    adapter::redis::{
        RedisAddress, RedisBus, RedisBusSetup, RedisCache, RedisCommands, RedisPresence, RedisPresenceSetup,
        RedisServers, RedisWhispers, RedisWhispersSetup,
    },
    port::{
        Bus as _, Cache as _, Presence as _, Whispers as _,
        cache::{CacheKey, Cached, Kept},
    },
};
use tokio::{
    sync::{broadcast::Receiver, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    harness::{held, random_number},
    redis_server::{RedisServer, SOON, cluster, connected, servers, until},
};

const LAYOUT: LaneLayout = LaneLayout { count: 4 };

struct Node {
    bus: RedisBus,
    presence: RedisPresence,
    whispers: Arc<RedisWhispers>,
    cache: RedisCache,
    commands: RedisCommands,
    _stop: DropGuard,
}

fn node(servers: &RedisServers) -> Node {
    let (stop, node) = (CancellationToken::new(), random_number());
    let prefix = "confab:test".to_owned();
    let bus = RedisBus::start(RedisBusSetup {
        servers: servers.clone(),
        installation: "test".to_owned(),
        layout: LAYOUT,
        node,
        backlog_bytes_max: 1 << 20,
        held: held(&stop),
    });
    let commands = RedisCommands::start(servers.clone(), &held(&stop));
    let (to, prefix_too) = (commands.clone(), prefix.clone());
    let whispers = Arc::new(RedisWhispers::start(RedisWhispersSetup {
        servers: servers.clone(),
        commands: commands.clone(),
        prefix: prefix.clone(),
        node,
        held: held(&stop),
    }));
    let presence = RedisPresence::start(RedisPresenceSetup {
        commands: to,
        prefix: prefix_too,
        node,
        whispers: whispers.clone(),
        switches: watch::channel(Switches::default()).1,
        held: held(&stop),
    });
    let cache = RedisCache::new(commands.clone(), prefix);
    Node { bus, presence, whispers, cache, commands, _stop: stop.drop_guard() }
}

async fn meet(from: &RedisBus, to: &mut Receiver<Arc<LoggedBatch>>) {
    let fact = Fact::TitleChanged { conversation: ConversationId::group(7), rev: 1 };
    let event = Event { fact, conversation: None, message: None, member: None, trace: None };
    let batch = Arc::new(LoggedBatch { lane: LaneId(2), pos: 1, events: vec![Arc::new(event)] });
    let end = Instant::now() + SOON;
    while to.try_recv().is_ok() {}
    loop {
        from.publish(batch.clone());
        if timeout(Duration::from_millis(100), to.recv()).await.is_ok() {
            return;
        }
        assert!(Instant::now() < end, "what is published here is not heard there");
    }
}

/// What one node says, another hears.
async fn holds(here: &Node, there: &Node) {
    connected(&here.commands).await;
    connected(&there.commands).await;
    meet(&here.bus, &mut there.bus.subscribe()).await;
    meet(&there.bus, &mut here.bus.subscribe()).await;
    // Keys that a cluster spreads over all of its nodes.
    let conversations =
        (1..=60).map(|number| ConversationId::group(number + random_number().cast_signed() / 4));
    let keys: Vec<CacheKey> = conversations.map(CacheKey::Head).collect();
    let value = Cached::Head { last_seq: 3 };
    let copies = keys.iter().map(|key| Kept { key: *key, rev: 1, value: value.clone(), life: SOON });
    here.cache.put(copies.collect()).await;
    let found = there.cache.get(&keys).await.expect("answers");
    assert!(found.iter().all(|found| *found == Some(value.clone())), "{found:?}");
    here.cache.void(&keys.iter().map(|key| (*key, 2)).collect::<Vec<_>>()).await;
    assert!(there.cache.get(&keys).await.expect("answers").iter().all(Option::is_none));
    let user = UserId(random_number().cast_signed().abs() / 2);
    let session = SessionId(user.0);
    let mut heard = there.whispers.hear();
    there.whispers.listen(&[Topic::User(user)]);
    until_heard(&mut heard, &Heard::Anew(vec![Topic::User(user)])).await;
    here.presence.announce(user, session, true);
    until_heard(&mut heard, &Heard::Whisper(Whisper::PresenceChanged(user))).await;
    until("the session is live", async || {
        there.presence.live_sessions(&[user, UserId(1)]).await.contains(&session)
    })
    .await;
}

/// Passes over what is said of others: behind a new server a node says all again.
async fn until_heard(heard: &mut Receiver<Heard>, wanted: &Heard) {
    let found = async { while heard.recv().await.expect("open") != *wanted {} };
    timeout(SOON, found).await.unwrap_or_else(|_| panic!("{wanted:?} is not heard"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_and_an_acl() {
    let users = "--user default off --user confab on >p@ss ~confab:* &confab:* +@all -@dangerous";
    let Some((server, authority)) = RedisServer::with_tls(&users.split(' ').collect::<Vec<_>>()).await else {
        return;
    };
    let port = server.port;
    let address = |login: &str| -> RedisAddress {
        format!("rediss://{login}127.0.0.1:{port}").parse().expect("an address")
    };
    let servers = RedisServers::new(&address("confab:p%40ss@"), Some(&authority)).expect("an authority");
    servers.check().await.expect("answers");
    holds(&node(&servers), &node(&servers)).await;
    for login in ["", "confab:wrong@"] {
        let refused = RedisServers::new(&address(login), Some(&authority)).expect("an authority");
        let error = refused.check().await.expect_err("no login, no answer").to_string();
        assert!(!error.contains("wrong"), "{error}");
    }
    let strangers = RedisServers::new(&address("confab:p%40ss@"), None).expect("the system's authorities");
    strangers.check().await.expect_err("nobody that the system trusts has certified it");
}

#[tokio::test]
async fn a_file_of_authorities_is_read_at_the_start_and_fits_the_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    let tls: RedisAddress = "rediss://127.0.0.1".parse().expect("an address");
    assert!(RedisServers::new(&tls, Some(&file)).is_err(), "it does not exist");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n").expect("writes");
    assert!(RedisServers::new(&tls, Some(&file)).is_err(), "it holds no certificate");
    let plain: RedisAddress = "redis://127.0.0.1".parse().expect("an address");
    assert!(RedisServers::new(&plain, Some(&file)).is_err(), "nobody would ask for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_sentinels_the_next_master_is_found() {
    let user = "--user confab on >secret ~* &* +@all";
    let Some(mut master) = RedisServer::start(&user.split(' ').collect::<Vec<_>>()).await else { return };
    let replica = format!("{user} --replicaof 127.0.0.1 {}", master.port);
    let Some(replica) = RedisServer::start(&replica.split(' ').collect::<Vec<_>>()).await else { return };
    until("the replica follows", async || {
        let info: String = replica.ask(&["INFO", "replication"]).await.expect("answers");
        info.contains("master_link_status:up")
    })
    .await;
    let Some(sentinel) = RedisServer::sentinel(master.port).await else { return };
    until("the Sentinel knows the replica", async || {
        let state: String = sentinel.ask(&["INFO", "sentinel"]).await.expect("answers");
        state.contains("status=ok") && state.contains("slaves=1")
    })
    .await;
    let url = format!("redis+sentinel://confab:secret@127.0.0.1:1,127.0.0.1:{}/main", sentinel.port);
    let servers = servers(&url);
    let (here, there) = (node(&servers), node(&servers));
    holds(&here, &there).await;
    master.kill();
    until("the replica is appointed", async || {
        // Whom Sentinel appoints it also tells to drop its clients, which this question may be one of.
        let info = replica.ask::<String>(&["INFO", "replication"]).await;
        info.is_ok_and(|info| info.contains("role:master"))
    })
    .await;
    until("commands go to the next master", async || {
        let key = [CacheKey::Head(ConversationId::group(1))];
        here.cache.get(&key).await.is_ok() && there.cache.get(&key).await.is_ok()
    })
    .await;
    holds(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_cluster_from_whichever_node() {
    let Some(nodes) = cluster().await else { return };
    let url = |node: &RedisServer| format!("redis+cluster://127.0.0.1:1,127.0.0.1:{}", node.port);
    // Each bus on a node of its own.
    let (here, there) = (servers(&url(&nodes[0])), servers(&url(&nodes[1])));
    here.check().await.expect("answers");
    holds(&node(&here), &node(&there)).await;
}
