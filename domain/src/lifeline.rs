//! What a process lives by: the tasks without which it would go on as half a process.
//!
//! A committer that has panicked leaves a queue that answers "too many writes" for ever. So long-lived tasks run held by a
//! [`Lifeline`]; it breaks when one of them panics or ends by itself, and whoever runs the process ends it then.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use futures_util::FutureExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Cheap to clone; all clones break as one.
#[derive(Clone, Default)]
pub struct Lifeline {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    broken: CancellationToken,
    /// The first task that failed.
    by: OnceLock<&'static str>,
}

impl Lifeline {
    /// Runs a task that ends when nobody needs it any more. Only its panic breaks the lifeline.
    pub fn hold<F>(&self, task: &'static str, work: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future + Send,
    {
        let lifeline = self.clone();
        async move {
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                lifeline.break_at(task, &format!("it panicked: {}", message_of(&*panic)));
            }
        }
    }

    /// Runs a task that has to go on until `stop`. A panic, or an end before that, breaks the lifeline.
    pub fn hold_until<F>(
        &self,
        stop: &CancellationToken,
        task: &'static str,
        work: F,
    ) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future + Send,
    {
        let (lifeline, stop) = (self.clone(), stop.clone());
        self.hold(task, async move {
            work.await;
            if !stop.is_cancelled() {
                lifeline.break_at(task, "it ended by itself");
            }
        })
    }

    /// Answers once the lifeline is broken, with the task that broke it.
    pub async fn broken(&self) -> &'static str {
        self.inner.broken.cancelled().await;
        self.inner.by.get().copied().unwrap_or("a task")
    }

    fn break_at(&self, task: &'static str, why: &str) {
        tracing::error!(task, why, "a task that the process lives by has failed; the process ends");
        let _ = self.inner.by.set(task);
        self.inner.broken.cancel();
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

/// Where long-lived tasks are spawned: tracked, stopped as one, and held.
pub struct Held {
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    pub lifeline: Lifeline,
}

impl Held {
    /// Runs a task until all are stopped, or nobody needs it any more.
    pub fn spawn<F>(&self, task: &'static str, work: F)
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let stop = self.stop.clone();
        let work = async move { drop(stop.run_until_cancelled(work).await) };
        self.tasks.spawn(self.lifeline.hold(task, work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_broken(lifeline: &Lifeline) -> Option<&'static str> {
        lifeline.broken().now_or_never()
    }

    #[tokio::test]
    async fn a_panic_breaks_it_and_the_first_one_is_named() {
        let lifeline = Lifeline::default();
        lifeline.hold("first", async { panic!("of {}", "old age") }).await;
        lifeline.hold_until(&CancellationToken::new(), "second", async { panic!() }).await;
        assert_eq!(is_broken(&lifeline.clone()), Some("first"));
    }

    #[tokio::test]
    async fn an_end_before_its_time_breaks_it() {
        let (lifeline, stop) = (Lifeline::default(), CancellationToken::new());
        lifeline.hold_until(&stop, "relay", async {}).await;
        assert_eq!(is_broken(&lifeline), Some("relay"));
    }

    #[tokio::test]
    async fn an_end_that_was_asked_for_leaves_it_whole() {
        let (lifeline, stop) = (Lifeline::default(), CancellationToken::new());
        lifeline.hold("committer", async {}).await;
        let work = lifeline.hold_until(&stop, "relay", stop.cancelled());
        stop.cancel();
        work.await;
        assert_eq!(is_broken(&lifeline), None);
    }
}
