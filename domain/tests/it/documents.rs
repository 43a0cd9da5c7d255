//! Registered documents: the contract of the port in this process and over Redis, and what Redis alone can do to it.

#![expect(clippy::disallowed_methods, reason = "tests read the environment")]

use std::sync::Arc;

use domain::{
    DocumentBounds, DocumentHash,
    adapter::{
        in_process::InProcessDocuments,
        redis::{RedisCommands, RedisDocuments},
    },
    port::Documents,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{held, random_number},
    redis_server::{commands, servers},
};

const BOUNDS: DocumentBounds = DocumentBounds { documents_max: 3, bytes_max: 100 };

async fn keep(documents: &dyn Documents, text: &str) {
    documents.put(DocumentHash::of(text), text).await;
}

async fn knows(documents: &dyn Documents, text: &str) -> bool {
    match documents.get(DocumentHash::of(text)).await {
        Some(found) => {
            assert_eq!(&*found, text);
            true
        }
        None => false,
    }
}

/// Runs a contract on every store there is.
macro_rules! on_every_store {
    ($(async fn $name:ident($documents:ident: Arc<dyn Documents>) $body:block)*) => {
        $(
            mod $name {
                use super::*;

                async fn contract($documents: Arc<dyn Documents>) $body

                #[tokio::test]
                async fn in_process() {
                    contract(Arc::new(InProcessDocuments::new(BOUNDS))).await;
                }

                #[tokio::test]
                async fn redis() {
                    let Ok(url) = std::env::var("CONFAB_TEST_REDIS_URL") else {
                        eprintln!("SKIPPED on Redis: CONFAB_TEST_REDIS_URL is not set (scripts/test sets it)");
                        return;
                    };
                    let (commands, _stop) = commands(servers(&url)).await;
                    let prefix = format!("test-{:x}", random_number());
                    contract(Arc::new(RedisDocuments::new(commands, &prefix, BOUNDS))).await;
                }
            }
        )*
    };
}

on_every_store! {
    async fn a_text_comes_back_as_it_was_kept(documents: Arc<dyn Documents>) {
        let text = "query Ä { a(b: \"\u{1F600}\\n\") }";
        assert!(!knows(&*documents, text).await);
        keep(&*documents, text).await;
        keep(&*documents, text).await;
        assert!(knows(&*documents, text).await);
        keep(&*documents, "").await;
        assert!(knows(&*documents, "").await);
    }

    async fn no_more_than_the_bound_are_kept(documents: Arc<dyn Documents>) {
        for text in ["a", "b", "c", "d", "e"] {
            keep(&*documents, text).await;
        }
        let mut known = 0;
        for text in ["a", "b", "c", "d", "e"] {
            known += usize::from(knows(&*documents, text).await);
        }
        assert_eq!(known, BOUNDS.documents_max);
    }

    async fn no_more_bytes_than_the_bound_are_kept(documents: Arc<dyn Documents>) {
        let (forty, fifty, ninety) = ("4".repeat(40), "5".repeat(50), "9".repeat(90));
        keep(&*documents, &forty).await;
        keep(&*documents, &fifty).await;
        assert!(knows(&*documents, &forty).await && knows(&*documents, &fifty).await);
        keep(&*documents, &ninety).await;
        assert!(!knows(&*documents, &forty).await && !knows(&*documents, &fifty).await);
        assert!(knows(&*documents, &ninety).await);
        keep(&*documents, &"x".repeat(101)).await;
        assert!(knows(&*documents, &ninety).await, "what can never be kept takes no place");
        keep(&*documents, "ten").await;
        assert!(knows(&*documents, "ten").await && knows(&*documents, &ninety).await, "the bytes were given back");
    }
}

#[tokio::test]
async fn what_was_asked_for_lately_stays() {
    let documents = InProcessDocuments::new(BOUNDS);
    for text in ["a", "b", "c"] {
        keep(&documents, text).await;
    }
    assert!(knows(&documents, "a").await);
    keep(&documents, "d").await;
    assert!(knows(&documents, "a").await && !knows(&documents, "b").await);
}

#[tokio::test]
async fn where_nobody_listens_nothing_is_known_and_nobody_waits() {
    let stop = CancellationToken::new();
    let commands = RedisCommands::start(servers("redis://127.0.0.1:1"), &held(&stop));
    let _stop = stop.drop_guard();
    let documents = RedisDocuments::new(commands, "test", BOUNDS);
    let begun = Instant::now();
    for _ in 0..1000 {
        keep(&documents, "a").await;
        assert!(!knows(&documents, "a").await);
    }
    assert!(begun.elapsed() < domain::adapter::redis::COMMAND_TIMEOUT, "{:?}", begun.elapsed());
}
