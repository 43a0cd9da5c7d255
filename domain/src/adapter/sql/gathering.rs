//! Questions of subscriptions that open, until somebody reads for all that wait.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::sleep};

use super::missed::Question;
use crate::port::{StoreError, conversations::Missed};

/// Subscriptions that are read for at once.
const QUESTIONS_MAX: usize = 64;
/// So many at once are a storm.
const MANY: usize = 8;
/// How long whoever reads in a storm waits for more: the fewer snapshots it takes, the less work it is (`bench b8`). All that this adds to
/// is the time until they are live again.
const STORM_PAUSE: Duration = Duration::from_millis(4);

/// Cheap to clone; nobody waits longer than for a turn, and for the pause of a storm.
#[derive(Clone, Default)]
pub(super) struct Gathering {
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    /// Whether many came together last.
    is_storm: Arc<AtomicBool>,
}

pub(super) struct Waiting {
    pub question: Question,
    pub reply: oneshot::Sender<Answer>,
}

pub(super) enum Answer {
    Read(Result<Missed, StoreError>),
    /// Too much for reading together.
    ReadAlone,
}

impl Gathering {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(&self, question: Question) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        self.lock().push_back(Waiting { question, reply });
        answer
    }

    /// Those that wait the longest, as long as they are asked with the same bounds; in a storm, after a moment in which more may come.
    pub async fn take(&self) -> Vec<Waiting> {
        let waiting = self.lock().len();
        if waiting == 0 {
            return Vec::new();
        }
        if waiting < QUESTIONS_MAX && self.is_storm.load(Ordering::Relaxed) {
            sleep(STORM_PAUSE).await;
        }
        let taken = self.take_now();
        self.is_storm.store(taken.len() >= MANY, Ordering::Relaxed);
        taken
    }

    fn take_now(&self) -> Vec<Waiting> {
        let mut waiting = self.lock();
        // Nobody waits for these any more.
        waiting.retain(|one| !one.reply.is_closed());
        let bounds = waiting.front().map(|first| first.question.bounds);
        let same = waiting.iter().take_while(|one| Some(one.question.bounds) == bounds).count();
        waiting.drain(..same.min(QUESTIONS_MAX)).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{UserId, port::conversations::MissedBounds};

    fn ask(gathering: &Gathering, count: usize) -> Vec<oneshot::Receiver<Answer>> {
        let question = Question {
            viewer: UserId(1),
            since: None,
            only: None,
            bounds: MissedBounds { events_max: 1, receipts_members_max: 1 },
        };
        (0..count).map(|_| gathering.enter(question.clone())).collect()
    }

    #[tokio::test]
    async fn in_a_storm_whoever_reads_waits_a_moment_for_more() {
        let gathering = Gathering::default();
        let now = || gathering.take().now_or_never().map(|taken| taken.len());
        let few = ask(&gathering, MANY - 1);
        assert_eq!(now(), Some(few.len()), "nobody waits for more who may never come");
        let many = ask(&gathering, MANY);
        assert_eq!(now(), Some(many.len()));
        let first = ask(&gathering, 1);
        let mut taking = Box::pin(gathering.take());
        assert!((&mut taking).now_or_never().is_none(), "more may come");
        let more = ask(&gathering, 2);
        assert_eq!(taking.await.len(), first.len() + more.len());
        let last = ask(&gathering, 1);
        assert_eq!(now(), Some(last.len()), "the storm is over");
        let too_many = ask(&gathering, 2 * QUESTIONS_MAX);
        assert_eq!(now(), Some(QUESTIONS_MAX));
        assert_eq!(now(), Some(too_many.len() - QUESTIONS_MAX), "there is no room for more");
    }
}
