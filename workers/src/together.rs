//! Calls that are made together: what is asked while one is on its way waits, and goes with the next one as one.
//!
//! Nobody waits longer for company than for an answer, and what is asked alone goes alone, at once.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::{
    ServiceError, ServiceResult,
    trace::{self, TraceContext},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{sync::oneshot, task::yield_now};
use tokio_util::task::TaskTracker;

type Call<Q, A> = Box<dyn Fn(Vec<Q>) -> BoxFuture<'static, ServiceResult<Vec<A>>> + Send + Sync>;

pub struct Together<Q, A> {
    /// Answers each question, in their order.
    call: Call<Q, A>,
    bounds: Bounds<Q>,
    /// Calls run here, whoever of those that asked goes away.
    tasks: TaskTracker,
    waiting: Mutex<Waiting<Q, A>>,
}

pub struct Bounds<Q> {
    /// Calls on their way.
    pub calls: usize,
    /// What a call may weigh; a question that weighs more goes alone.
    pub weight: usize,
    pub weight_of: fn(&Q) -> usize,
}

/// As many as ask: who asks waits.
struct Waiting<Q, A> {
    asked: VecDeque<Asked<Q, A>>,
    calls: usize,
}

struct Asked<Q, A> {
    question: Q,
    trace: Option<TraceContext>,
    answer: oneshot::Sender<ServiceResult<A>>,
}

impl<Q, A> Together<Q, A>
where
    Q: Clone + Send + 'static,
    A: Send + 'static,
{
    pub fn new(call: Call<Q, A>, bounds: Bounds<Q>, tasks: TaskTracker) -> Arc<Self> {
        let waiting = Mutex::new(Waiting { asked: VecDeque::new(), calls: 0 });
        Arc::new(Self { call, bounds, tasks, waiting })
    }

    /// Whoever stops waiting has still asked.
    pub async fn ask(self: &Arc<Self>, question: Q) -> ServiceResult<A> {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.lock();
            waiting.asked.push_back(Asked { question, trace: trace::current(), answer });
            if waiting.calls < self.bounds.calls {
                waiting.calls += 1;
                self.tasks.spawn(self.clone().run());
            }
        }
        answered.await.unwrap_or_else(|error| Err(ServiceError::internal(error)))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<Q, A>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self: Arc<Self>) {
        loop {
            // Those that are about to ask come along.
            yield_now().await;
            let asked = self.take();
            // Within one trace, as a call has one parent.
            let Some(first) = asked.first() else { return };
            self.answer_all(first.trace, asked).await;
        }
    }

    /// Nothing when nobody waits; then this call is over.
    fn take(&self) -> Vec<Asked<Q, A>> {
        let mut waiting = self.lock();
        let mut asked: Vec<Asked<Q, A>> = Vec::new();
        let mut weight = 0_usize;
        let mut fits = |next: &mut Asked<Q, A>| {
            weight = weight.saturating_add((self.bounds.weight_of)(&next.question));
            weight <= self.bounds.weight
        };
        while let Some(next) = waiting.asked.pop_front_if(|next| fits(next) || asked.is_empty()) {
            asked.push(next);
        }
        if asked.is_empty() {
            waiting.calls -= 1;
        }
        asked
    }

    async fn answer_all(&self, trace: Option<TraceContext>, asked: Vec<Asked<Q, A>>) {
        let questions: Vec<Q> = asked.iter().map(|one| one.question.clone()).collect();
        match self.call(trace, questions).await {
            Ok(answers) => {
                for (one, answer) in asked.into_iter().zip(answers) {
                    let _ = one.answer.send(Ok(answer));
                }
            }
            // One of them may be what fails, and must not take the others with it.
            Err(error) if asked.len() > 1 && !error.code().retryable() => {
                for one in asked {
                    let alone = self.call(one.trace, vec![one.question]).await;
                    let _ = one.answer.send(alone.and_then(only));
                }
            }
            Err(error) => {
                for one in asked {
                    let _ = one.answer.send(Err(error.clone()));
                }
            }
        }
    }

    async fn call(&self, trace: Option<TraceContext>, questions: Vec<Q>) -> ServiceResult<Vec<A>> {
        let count = questions.len();
        let call = AssertUnwindSafe((self.call)(questions)).catch_unwind();
        let outcome = trace::scope_of(trace, call).await;
        let answers = outcome.unwrap_or_else(|_| Err(ServiceError::internal("a call panicked")))?;
        if answers.len() == count {
            Ok(answers)
        } else {
            Err(ServiceError::internal("not every question was answered"))
        }
    }
}

fn only<A>(answers: Vec<A>) -> ServiceResult<A> {
    answers.into_iter().next().ok_or_else(|| ServiceError::internal("not every question was answered"))
}

#[cfg(test)]
mod tests {
    use domain::ErrorCode;
    use futures_util::future::join_all;

    use super::*;

    type Calls = Arc<Mutex<Vec<Vec<u32>>>>;

    /// Answers tens of times as much; what is seven fails, and eight panics.
    fn ten_times() -> (Arc<Together<u32, u32>>, Calls) {
        let calls = Calls::default();
        let seen = calls.clone();
        let call = move |questions: Vec<u32>| {
            seen.lock().expect("sound").push(questions.clone());
            let answer = async move {
                yield_now().await;
                assert!(!questions.contains(&8), "as a defect would");
                if questions.contains(&7) {
                    return Err(ServiceError::internal("seven"));
                }
                Ok(questions.iter().map(|one| one * 10).collect())
            };
            answer.boxed()
        };
        let bounds = Bounds { calls: 1, weight: 4, weight_of: |_| 1 };
        (Together::new(Box::new(call), bounds, TaskTracker::new()), calls)
    }

    #[tokio::test]
    async fn what_is_asked_at_once_is_called_together_within_the_bound_and_each_gets_its_own_answer() {
        let (together, calls) = ten_times();
        let answers = join_all((0..6).map(|number| together.ask(number))).await;
        let answers: Vec<u32> = answers.into_iter().map(|answer| answer.expect("answers")).collect();
        assert_eq!(answers, [0, 10, 20, 30, 40, 50]);
        assert_eq!(*calls.lock().expect("sound"), [vec![0, 1, 2, 3], vec![4, 5]]);
        assert_eq!(together.ask(9).await.expect("answers"), 90);
    }

    #[tokio::test]
    async fn what_fails_by_itself_fails_alone() {
        let (together, _) = ten_times();
        for bad in [7, 8] {
            let answers = join_all([1, bad, 2].map(|number| together.ask(number))).await;
            let codes: Vec<Result<u32, ErrorCode>> =
                answers.into_iter().map(|answer| answer.map_err(|error| error.code())).collect();
            assert_eq!(codes, [Ok(10), Err(ErrorCode::Internal), Ok(20)]);
        }
    }

    #[tokio::test]
    async fn a_question_is_asked_though_nobody_waits_for_the_answer() {
        let (together, calls) = ten_times();
        let asking = together.ask(1).now_or_never();
        assert!(asking.is_none());
        together.ask(2).await.expect("answers");
        assert_eq!(calls.lock().expect("sound").concat(), [1, 2]);
    }
}
