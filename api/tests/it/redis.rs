//! The Redis that tests share, with keys of a test's own.

#![expect(clippy::disallowed_methods, reason = "tests find their servers in the environment")]

use std::{env, sync::Arc, time::Duration};

use domain::{
    Limits,
    adapter::{
        ambient::SystemRandom,
        redis::{RedisBuckets, RedisCommands, RedisDocuments, RedisServers},
    },
    lifeline::{Held, Lifeline},
    port::Random as _,
};
use tokio::time::timeout;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::test_server::Shared;

/// What a node shares by a connection of its own.
pub struct Node {
    pub shared: Shared,
    _stop: DropGuard,
}

/// So many nodes of one installation; `None`, loudly, without Redis.
pub async fn nodes(count: usize, limits: &Limits) -> Option<Vec<Node>> {
    let Ok(url) = env::var("CONFAB_TEST_REDIS_URL") else {
        eprintln!("SKIPPED on Redis: CONFAB_TEST_REDIS_URL is not set (scripts/test sets it)");
        return None;
    };
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes);
    let prefix = format!("test-{:x}", u64::from_ne_bytes(bytes));
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(node(&url, &prefix, limits).await);
    }
    Some(nodes)
}

async fn node(url: &str, prefix: &str, limits: &Limits) -> Node {
    let (node, commands) = begin(url, prefix, limits);
    let mut connected = commands.is_connected();
    let connecting = connected.wait_for(|connected| *connected);
    timeout(Duration::from_secs(15), connecting).await.expect("connects").expect("runs");
    node
}

/// A node whose Redis does not answer.
pub fn unreachable(limits: &Limits) -> Node {
    begin("redis://127.0.0.1:1/0", "nobody", limits).0
}

fn begin(url: &str, prefix: &str, limits: &Limits) -> (Node, RedisCommands) {
    let servers = RedisServers::new(&url.parse().expect("an address"), None).expect("no files are needed");
    let stop = CancellationToken::new();
    let held = Held { tasks: TaskTracker::new(), stop: stop.clone(), lifeline: Lifeline::default() };
    let commands = RedisCommands::start(servers, &held);
    let shared = Shared {
        cache: None,
        documents: Some(Arc::new(RedisDocuments::new(commands.clone(), prefix, limits.documents))),
        buckets: Some(Arc::new(RedisBuckets::new(commands.clone(), prefix.to_owned()))),
    };
    (Node { shared, _stop: stop.drop_guard() }, commands)
}
