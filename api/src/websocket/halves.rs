//! Two futures in one task, of which only the one that was woken is polled: an event wakes a socket's writer, and need not wake its reader.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// What wakes one of the two.
struct Half {
    woken: AtomicBool,
    task: Arc<AtomicWaker>,
}

impl Half {
    /// To be polled at once.
    fn of(task: &Arc<AtomicWaker>) -> Arc<Self> {
        Arc::new(Self { woken: AtomicBool::new(true), task: Arc::clone(task) })
    }

    fn poll<T>(&self, waker: &Waker, future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        match self.woken.swap(false, Ordering::AcqRel) {
            true => future.poll(&mut Context::from_waker(waker)),
            false => Poll::Pending,
        }
    }
}

impl Wake for Half {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// What the first of them to end comes to.
pub(super) async fn first<T>(
    mut one: Pin<&mut impl Future<Output = T>>,
    mut other: Pin<&mut impl Future<Output = T>>,
) -> T {
    let task = Arc::new(AtomicWaker::new());
    let halves = [Half::of(&task), Half::of(&task)];
    let wakers = halves.clone().map(Waker::from);
    let mut turn = false;
    poll_fn(move |context| {
        // Before either is looked at: whoever is woken from now on wakes the task.
        task.register(context.waker());
        let mut poll_one = || halves[0].poll(&wakers[0], one.as_mut());
        let mut poll_other = || halves[1].poll(&wakers[1], other.as_mut());
        // In turns: the first may use up what the runtime grants a task at a time, as a reader does that is flooded.
        turn = !turn;
        let ended = if turn { poll_one() } else { poll_other() };
        if ended.is_ready() {
            return ended;
        }
        if turn { poll_other() } else { poll_one() }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, pin::pin, time::Duration};

    use futures_util::FutureExt as _;
    use tokio::{sync::Notify, task::coop::consume_budget, time::timeout};

    use super::*;

    /// Counts its polls, and ends when it is told a second time.
    async fn told(notify: &Notify, polls: &Cell<u32>, name: &'static str) -> &'static str {
        for _ in 0..2 {
            let mut notified = pin!(notify.notified());
            poll_fn(|context| {
                polls.set(polls.get() + 1);
                notified.as_mut().poll(context)
            })
            .await;
        }
        name
    }

    #[test]
    fn only_the_one_that_was_woken_is_polled() {
        let (told_one, told_other, one, other) = (Notify::new(), Notify::new(), Cell::new(0), Cell::new(0));
        let halves = (pin!(told(&told_one, &one, "one")), pin!(told(&told_other, &other, "other")));
        let mut both = pin!(first(halves.0, halves.1));
        assert_eq!(both.as_mut().now_or_never(), None);
        assert_eq!((one.get(), other.get()), (1, 1), "both begin");
        told_other.notify_one();
        assert_eq!(both.as_mut().now_or_never(), None);
        assert_eq!((one.get(), other.get()), (1, 3), "told once, and waiting again");
        told_one.notify_one();
        assert_eq!(both.as_mut().now_or_never(), None);
        assert_eq!((one.get(), other.get()), (3, 3));
        told_other.notify_one();
        assert_eq!(both.as_mut().now_or_never(), Some("other"));
    }

    #[tokio::test]
    async fn one_that_is_never_done_leaves_a_turn_to_the_other() {
        let busy = async {
            for _ in 0..u64::MAX {
                consume_budget().await;
            }
            "one"
        };
        let other = async {
            consume_budget().await;
            "other"
        };
        let ended = timeout(Duration::from_secs(5), first(pin!(busy), pin!(other))).await;
        assert_eq!(ended, Ok("other"));
    }
}
