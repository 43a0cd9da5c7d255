//! Copies of rows: the contract of the port in this process and over Redis, and what Redis alone can do to it.

#![expect(clippy::disallowed_methods, reason = "tests read the environment")]

use std::{sync::Arc, time::Duration};

use domain::{
    ConversationId, MemberId, Timestamp, User, UserId,
    adapter::{
        in_process::InProcessCache,
        redis::{COMMAND_TIMEOUT, RedisCache, RedisCommands},
    },
    port::{
        Cache,
        cache::{CacheKey, Cached, Kept},
    },
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    harness::{held, random_number},
    redis_server::{RedisServer, commands, connected, servers, until},
};

const LIFE: Duration = Duration::from_mins(1);

fn key() -> CacheKey {
    let conversation = ConversationId::group(7);
    CacheKey::Membership(MemberId { conversation, user: UserId(9) })
}

fn kept(rev: i32, read_seq: i32) -> Kept {
    Kept { key: key(), rev, value: Cached::Membership { read_seq }, life: LIFE }
}

async fn read_seq(cache: &dyn Cache) -> Option<i32> {
    match cache.get(&[key()]).await.expect("answers").pop().expect("one for each key") {
        Some(Cached::Membership { read_seq }) => Some(read_seq),
        None => None,
        other => panic!("{other:?}"),
    }
}

/// The shared Redis, with keys of a test's own.
async fn over_redis() -> Option<(RedisCache, DropGuard)> {
    let Ok(url) = std::env::var("CONFAB_TEST_REDIS_URL") else {
        eprintln!("SKIPPED on Redis: CONFAB_TEST_REDIS_URL is not set (scripts/test sets it)");
        return None;
    };
    let (commands, stop) = commands(servers(&url)).await;
    Some((RedisCache::new(commands, format!("test-{:x}", random_number())), stop))
}

/// Runs a contract on every cache there is.
macro_rules! on_every_cache {
    ($(async fn $name:ident($cache:ident: Arc<dyn Cache>) $body:block)*) => {
        $(
            mod $name {
                use super::*;

                async fn contract($cache: Arc<dyn Cache>) $body

                #[tokio::test]
                async fn in_process() {
                    contract(Arc::new(InProcessCache::default())).await;
                }

                #[tokio::test]
                async fn redis() {
                    if let Some((cache, _stop)) = over_redis().await {
                        contract(Arc::new(cache)).await;
                    }
                }
            }
        )*
    };
}

on_every_cache! {
    async fn each_kind_of_copy_comes_back_as_it_was_kept(cache: Arc<dyn Cache>) {
        let user = User {
            id: UserId(5),
            username: "ada".into(),
            display_name: "Ada \u{1F600} = \"A\"".into(),
            created_at: Timestamp(1_234_567),
        };
        let conversation = ConversationId::group(8);
        let copies = [
            (CacheKey::User(user.id), Cached::User(user)),
            (key(), Cached::Membership { read_seq: 3 }),
            (CacheKey::Head(conversation), Cached::Head { last_seq: 4 }),
        ];
        let keep = |(key, value): &(CacheKey, Cached)| Kept { key: *key, rev: 1, value: value.clone(), life: LIFE };
        cache.put(copies.iter().map(keep).collect()).await;
        let mut keys: Vec<CacheKey> = copies.iter().map(|(key, _)| *key).collect();
        keys.insert(1, CacheKey::User(UserId(6)));
        let found = cache.get(&keys).await.expect("answers");
        let [ada, membership, head] = copies.map(|(_, value)| Some(value));
        assert_eq!(found, [ada, None, membership, head]);
    }

    async fn a_stale_copy_after_a_void_does_not_come_back(cache: Arc<dyn Cache>) {
        cache.put(vec![kept(5, 1)]).await;
        assert_eq!(read_seq(&*cache).await, Some(1));
        cache.void(&[(key(), 7)]).await;
        assert_eq!(read_seq(&*cache).await, None);
        // Read before the change, kept after it.
        cache.put(vec![kept(6, 2)]).await;
        assert_eq!(read_seq(&*cache).await, None);
        cache.put(vec![kept(7, 3)]).await;
        assert_eq!(read_seq(&*cache).await, Some(3));
    }

    async fn only_what_is_newer_replaces_what_is_known(cache: Arc<dyn Cache>) {
        cache.put(vec![kept(10, 1)]).await;
        cache.put(vec![kept(9, 2)]).await;
        cache.void(&[(key(), 9)]).await;
        assert_eq!(read_seq(&*cache).await, Some(1));
        cache.put(vec![kept(11, 4)]).await;
        assert_eq!(read_seq(&*cache).await, Some(4));
    }

    async fn copies_end_with_their_life(cache: Arc<dyn Cache>) {
        cache.put(vec![Kept { life: Duration::from_millis(300), ..kept(1, 1) }]).await;
        assert_eq!(read_seq(&*cache).await, Some(1));
        until("the copy ends", async || read_seq(&*cache).await.is_none()).await;
    }
}

#[tokio::test]
async fn installations_that_share_a_redis_do_not_see_each_other() {
    let (Some((here, _a)), Some((there, _b))) = (over_redis().await, over_redis().await) else { return };
    here.put(vec![kept(1, 1)]).await;
    there.void(&[(key(), 9)]).await;
    assert_eq!((read_seq(&here).await, read_seq(&there).await), (Some(1), None));
}

#[tokio::test]
async fn where_nobody_listens_calls_fail_at_once() {
    // Nobody listens there.
    let stop = CancellationToken::new();
    let commands = RedisCommands::start(servers("redis://127.0.0.1:1"), &held(&stop));
    let _stop = stop.drop_guard();
    let cache = RedisCache::new(commands, "test".to_owned());
    let begun = Instant::now();
    for _ in 0..1000 {
        assert!(cache.get(&[key()]).await.is_err());
        cache.put(vec![kept(1, 1)]).await;
        cache.void(&[(key(), 1)]).await;
    }
    assert!(begun.elapsed() < COMMAND_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redis_that_is_stuck_costs_one_deadline_and_what_it_missed_is_void_when_it_is_back() {
    let Some(server) = RedisServer::start(&[]).await else { return };
    let (commands, _stop) = commands(servers(&server.url())).await;
    let cache = RedisCache::new(commands.clone(), "test".to_owned());
    cache.put(vec![kept(1, 1)]).await;
    server.freeze();
    let begun = Instant::now();
    assert!(cache.get(&[key()]).await.is_err());
    let first = begun.elapsed();
    cache.void(&[(key(), 2)]).await;
    for _ in 0..1000 {
        assert!(cache.get(&[key()]).await.is_err());
    }
    let all = begun.elapsed();
    server.thaw();
    assert!(first < 2 * COMMAND_TIMEOUT && all < first + COMMAND_TIMEOUT, "{first:?}, {all:?}");
    connected(&commands).await;
    until("it answers again", async || cache.get(&[key()]).await.is_ok()).await;
    assert_eq!(read_seq(&cache).await, None);
    cache.put(vec![kept(1, 1)]).await;
    assert_eq!(read_seq(&cache).await, None, "the tombstone was placed afterwards");
}
