//! Subscriptions that open, all at once as after a node's end, and those who send meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use domain::{ErrorCode, Limits, wiring::Wiring};
use tokio::task::JoinSet;

use crate::{
    harness::{group, send},
    on_every_database,
};

/// Many more than are read while one send takes its course on a busy machine.
const OPENINGS: usize = 4500;

on_every_database! {
    async fn a_storm_of_openings_leaves_connections_to_those_who_send(db: TestDatabase) {
        // Two connections for transactions, so that it takes no more than two openings to have them all.
        let store = db.store_of(4).await;
        let chat = Wiring::new(store, db.keys.clone(), Limits::default()).build();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        send(&chat, &users[0], id, "before").await;
        let done = Arc::new(AtomicUsize::new(0));
        let mut openings = JoinSet::new();
        for _ in 0..OPENINGS {
            let (chat, user, done) = (chat.clone(), users[1], done.clone());
            openings.spawn(async move {
                let outcome = chat.missed(&user, None, None).await;
                done.fetch_add(1, Ordering::Relaxed);
                outcome.map(|missed| missed.memberships.len())
            });
        }
        // Once the first is through, the others wait in line.
        while done.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        send(&chat, &users[0], id, "meanwhile").await;
        let overtaken = OPENINGS - done.load(Ordering::Relaxed);
        assert!(overtaken > OPENINGS / 2, "a send waited behind all openings but {overtaken}");
        let mut opened = 0;
        while let Some(outcome) = openings.join_next().await {
            match outcome.expect("no panic") {
                Ok(memberships) => {
                    assert_eq!(memberships, 1);
                    opened += 1;
                }
                // Those that waited too long.
                Err(refusal) => assert_eq!((refusal.code(), refusal.retryable()), (ErrorCode::Unavailable, true)),
            }
        }
        assert!(opened > 0);
        assert!(chat.missed(&users[1], None, None).await.is_ok(), "it goes on");
    }
}
