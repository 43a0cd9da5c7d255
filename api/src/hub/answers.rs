//! Answers that openings share: what several subscriptions are told at about the same time is executed once, and each gets the bytes with a
//! cursor of its own.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::Utf8Bytes;
use domain::{ConversationId, Event, UserId};
use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::sync::OnceCell;

use super::group::GroupKey;
use crate::schema::types::event::{AsSeen, EventBody};

/// As long as an answer may be told to others: nothing in it is older than that, names included.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Answers kept at once; each is about as long as the longest message at most.
const ANSWERS_MAX: u64 = 1024;

/// What the answers of shared documents depend on beside the cursor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    group: GroupKey,
    said: Said,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Said {
    Opened,
    Live,
    /// In one history of the database (`epoch`), all that an event tells of a conversation follows from the conversation's `rev` then, `head_rev`.
    Durable {
        epoch: i64,
        conversation: ConversationId,
        head_rev: i32,
        rev: i32,
        as_seen: AsSeen,
        member: Option<UserId>,
    },
}

impl Key {
    /// `None` for what is told too seldom to be shared.
    pub fn of(group: GroupKey, epoch: i64, body: &EventBody) -> Option<Self> {
        let said = match body {
            EventBody::StreamOpened => Said::Opened,
            EventBody::StreamLive => Said::Live,
            EventBody::ResyncRequired { .. } => return None,
            EventBody::Durable { event, as_seen } => {
                let Event { fact, conversation, .. } = &**event;
                let head = conversation.as_ref()?;
                Said::Durable {
                    epoch,
                    conversation: head.id,
                    head_rev: head.rev,
                    rev: fact.rev(),
                    as_seen: *as_seen,
                    member: fact.member(),
                }
            }
        };
        Some(Self { group, said })
    }
}

/// What was executed lately.
pub(super) struct Answers {
    known: Cache<Key, Arc<OnceCell<Answer>>>,
    /// Stands for the cursor while an answer is made. Nobody ever sees it, so that nobody can write it into a message.
    mark: Arc<str>,
}

impl Answers {
    /// The bytes are random.
    pub fn new(mark: [u8; 16]) -> Self {
        let known = Cache::builder()
            .max_capacity(ANSWERS_MAX)
            .time_to_live(AGE_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let mark = format!("{:032x}", u128::from_ne_bytes(mark)).into();
        Self { known, mark }
    }

    pub const fn mark(&self) -> &Arc<str> {
        &self.mark
    }

    /// The answer to this, made once: whoever comes meanwhile waits for it. `None` when it could not be made.
    pub async fn get(&self, key: Key, make: impl Future<Output = Option<Utf8Bytes>>) -> Option<Answer> {
        let cell = self.known.get_with(key, Arc::default);
        let answer =
            cell.get_or_try_init(async || make.await.map(|text| Answer::parse(&text, &self.mark)).ok_or(()));
        answer.await.ok().cloned()
    }
}

/// The text around each place of the cursor.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    parts: Arc<[Box<str>]>,
}

impl Answer {
    fn parse(text: &str, mark: &str) -> Self {
        Self { parts: text.split(mark).map(Into::into).collect() }
    }

    /// Cursors are of characters that JSON leaves as they are.
    pub fn with(&self, cursor: &str) -> Utf8Bytes {
        self.parts.join(cursor).into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[test]
    fn an_answer_has_the_cursor_wherever_it_was_asked_for() {
        for (made, expected) in [
            (r#"{"a":"MARK","b":["MARK"],"c":"MAR"}"#, r#"{"a":"xyz","b":["xyz"],"c":"MAR"}"#),
            ("MARKMARK", "xyzxyz"),
            ("none", "none"),
            ("", ""),
        ] {
            let answer = Answer::parse(made, "MARK");
            assert_eq!(answer.with("xyz").as_str(), expected);
        }
    }

    #[tokio::test]
    async fn an_answer_is_made_once_and_one_that_failed_is_tried_again() {
        let answers = Answers::new([7; 16]);
        let key = || Key { group: GroupKey::default(), said: Said::Opened };
        assert!(answers.get(key(), async { None }).await.is_none());
        let count = AtomicUsize::new(0);
        let make = async || {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Some(format!("<{}>", answers.mark()).into())
        };
        let got = join_all((0..9).map(|_| answers.get(key(), make()))).await;
        assert!(
            got.iter().all(|answer| answer.as_ref().is_some_and(|answer| answer.with("c").as_str() == "<c>"))
        );
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
