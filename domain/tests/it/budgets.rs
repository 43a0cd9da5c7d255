//! Budgets: the contract of the port in this process and over Redis.

#![expect(clippy::disallowed_methods, reason = "tests read the environment")]

use std::{net::IpAddr, sync::Arc, time::Duration};

use domain::{
    Network, Refill, Taken, UserId,
    adapter::{
        ambient::SystemClock,
        in_process::InProcessBuckets,
        redis::{RedisBuckets, RedisCommands},
    },
    port::{
        Buckets, Clock as _,
        buckets::{Ask, NotTaken, Owner},
    },
};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{held, random_number},
    redis_server::{commands, servers},
};

/// Comes back so slowly that no test sees it.
const REFILL: Refill = Refill { burst: 100, per_second: 1 };

async fn take(buckets: &dyn Buckets, owner: Owner, needed: u32, wanted: u32) -> Result<Taken, NotTaken> {
    buckets.take(Ask { owner, refill: REFILL, needed, wanted }, SystemClock.now()).await
}

fn network(address: &str) -> Owner {
    Owner::Network(Network::of(Some(address.parse::<IpAddr>().expect("an address"))))
}

/// Runs a contract on all buckets there are.
macro_rules! on_all_buckets {
    ($(async fn $name:ident($buckets:ident: Arc<dyn Buckets>) $body:block)*) => {
        $(
            mod $name {
                use super::*;

                async fn contract($buckets: Arc<dyn Buckets>) $body

                #[tokio::test]
                async fn in_process() {
                    contract(Arc::new(InProcessBuckets::default())).await;
                }

                #[tokio::test]
                async fn redis() {
                    let Ok(url) = std::env::var("CONFAB_TEST_REDIS_URL") else {
                        eprintln!("SKIPPED on Redis: CONFAB_TEST_REDIS_URL is not set (scripts/test sets it)");
                        return;
                    };
                    let (commands, _stop) = commands(servers(&url)).await;
                    contract(Arc::new(RedisBuckets::new(commands, format!("test-{:x}", random_number())))).await;
                }
            }
        )*
    };
}

on_all_buckets! {
    async fn a_bucket_gives_what_it_has_and_then_says_how_long_to_wait(buckets: Arc<dyn Buckets>) {
        let owner = Owner::User(UserId(7));
        assert_eq!(take(&*buckets, owner, 30, 30).await, Ok(Taken { tokens: 30, left: 70 }));
        assert_eq!(take(&*buckets, owner, 1, 60).await, Ok(Taken { tokens: 60, left: 10 }));
        let Err(NotTaken::Wait(wait)) = take(&*buckets, owner, 12, 50).await else { panic!("it had 12") };
        assert!(wait > Duration::from_secs(1) && wait <= Duration::from_secs(2), "{wait:?}");
        assert_eq!(take(&*buckets, owner, 1, 50).await, Ok(Taken { tokens: 10, left: 0 }), "less than wanted");
        assert!(matches!(take(&*buckets, owner, 1, 1).await, Err(NotTaken::Wait(_))));
    }

    async fn owners_do_not_share(buckets: Arc<dyn Buckets>) {
        let owners = [
            Owner::User(UserId(1)), Owner::User(UserId(2)), network("192.0.2.1"), network("192.0.2.2"),
            network("2001:db8::1"), network("2001:db8:0:1::1"), Owner::Network(Network::Unknown),
        ];
        for owner in owners {
            assert_eq!(take(&*buckets, owner, 100, 100).await, Ok(Taken { tokens: 100, left: 0 }), "{owner:?}");
        }
        for same in [network("2001:db8::2"), network("::ffff:192.0.2.1")] {
            assert!(take(&*buckets, same, 1, 1).await.is_err(), "{same:?}");
        }
    }

    async fn more_than_a_bucket_holds_is_all_of_it(buckets: Arc<dyn Buckets>) {
        let owner = Owner::User(UserId(7));
        assert_eq!(take(&*buckets, owner, 5000, 5000).await, Ok(Taken { tokens: 100, left: 0 }));
        assert!(take(&*buckets, owner, 5000, 5000).await.is_err());
    }

    async fn who_comes_at_once_does_not_get_more(buckets: Arc<dyn Buckets>) {
        let asked = join_all((0..50).map(|_| take(&*buckets, Owner::User(UserId(7)), 3, 3))).await;
        assert_eq!(asked.into_iter().flatten().count(), 33);
    }
}

#[tokio::test]
async fn where_nobody_listens_nobody_can_tell() {
    let stop = CancellationToken::new();
    let commands = RedisCommands::start(servers("redis://127.0.0.1:1"), &held(&stop));
    let _stop = stop.drop_guard();
    let buckets = RedisBuckets::new(commands, "test".to_owned());
    assert_eq!(take(&buckets, Owner::User(UserId(7)), 1, 1).await, Err(NotTaken::Away));
}
