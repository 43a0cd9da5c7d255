//! The entrance to the committers: a bounded queue for each, and the keys that are in flight.
//!
//! Keys in flight are unique in the process: a second send with the same key waits for the first one's result.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::{
    IdSource,
    batch::{Answer, same_message},
    committer::Committer,
};
use crate::{
    ClientKey, ConversationId, ConversationView, LaneLayout, Limits, MemberId, Message, MessageDraft,
    ServiceError, ServiceResult, UserId,
    lifeline::Lifeline,
    port::{Bus, Clock, Log, Random},
};

/// Sends that may wait for one key; a hundred is a storm of retries, more is an attack. Not a setting: nothing honest comes near it.
const FOLLOWERS_MAX: usize = 1024;
/// What the committers need.
pub struct CommittersSetup {
    pub log: Arc<dyn Log>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub ids: Arc<IdSource>,
    pub limits: Limits,
    pub tasks: TaskTracker,
    /// Broken when a committer fails: nobody else takes what waits in front of it.
    pub lifeline: Lifeline,
}

/// The entrance: one queue a committer, each committer with lanes of its own.
#[derive(Clone)]
pub struct Committers {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub setup: CommittersSetup,
    layout: LaneLayout,
    queues: Vec<mpsc::Sender<Waiting>>,
    in_flight: Mutex<InFlight>,
}

/// Keys being committed, each with the sends that wait for its result.
type InFlight = HashMap<(UserId, ClientKey), Vec<(MessageDraft, oneshot::Sender<Reply>)>>;

pub(super) type Reply = ServiceResult<Answer>;

pub(super) struct Waiting {
    pub work: Work,
    pub expires: Instant,
    pub replies: Vec<oneshot::Sender<Reply>>,
}

pub(super) enum Work {
    Send(MessageDraft),
    Read { member: MemberId, seq: i32 },
}

impl Committers {
    /// Starts the committers. They end when the last handle is dropped and what waits is committed.
    pub fn start(setup: CommittersSetup) -> Self {
        let layout = setup.log.layout();
        let count = committers(layout);
        let (queues, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::channel(setup.limits.commit_queue_max)).unzip();
        let (tasks, lifeline) = (setup.tasks.clone(), setup.lifeline.clone());
        let inner = Arc::new(Inner { setup, layout, queues, in_flight: Mutex::default() });
        for (number, receiver) in receivers.into_iter().enumerate() {
            let committer = Committer::new(&inner, move |lane| lane.index() % count == number);
            tasks.spawn(lifeline.hold("committer", committer.run(receiver)));
        }
        Self { inner }
    }

    /// Takes the send's place in its lane's queue at once; the future waits for the commit.
    pub fn send(
        &self,
        draft: MessageDraft,
    ) -> ServiceResult<impl Future<Output = ServiceResult<Arc<Message>>> + Send + use<>> {
        let (reply, answer) = oneshot::channel();
        self.inner.enqueue_send(draft, reply)?;
        let timeout = self.inner.setup.limits.send_timeout;
        Ok(async move {
            match wait(answer, timeout).await? {
                Answer::Message(message) => Ok(message),
                Answer::Refused(refusal) => Err(refusal),
                Answer::Read(_) => Err(ServiceError::internal("a send was answered as a read")),
            }
        })
    }

    /// Moves a read position forward. Answers when the move is committed, also when nothing moved, with how the reader sees the
    /// conversation then.
    pub async fn mark_read(&self, member: MemberId, seq: i32) -> ServiceResult<ConversationView> {
        let (reply, answer) = oneshot::channel();
        let expires = Instant::now() + self.inner.setup.limits.send_timeout;
        let waiting = Waiting { work: Work::Read { member, seq }, expires, replies: vec![reply] };
        self.inner.enqueue(waiting).map_err(|_| queue_full())?;
        match wait(answer, self.inner.setup.limits.send_timeout).await? {
            Answer::Refused(refusal) => Err(refusal),
            Answer::Read(view) => Ok(*view),
            Answer::Message(_) => Err(ServiceError::internal("a read was answered as a send")),
        }
    }
}

async fn wait(answer: oneshot::Receiver<Reply>, timeout: Duration) -> Reply {
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => Err(ServiceError::unavailable("the server is stopping; send again with the same key")),
        Err(_) => Err(ServiceError::unavailable("not committed in time; send again with the same key")),
    }
}

pub(super) fn queue_full() -> ServiceError {
    ServiceError::unavailable("too many writes are waiting; try again").after(Duration::from_secs(1))
}

/// As many transactions at once as there are cores to prepare them: more would only be smaller. A lane belongs to one
/// committer, whose transactions take all of its lanes that have something waiting.
fn committers(layout: LaneLayout) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.clamp(1, usize::from(layout.count))
}

impl Inner {
    #[expect(clippy::result_large_err, reason = "what finds no place goes back to whom it belongs")]
    fn enqueue(&self, waiting: Waiting) -> Result<(), Waiting> {
        let lane = self.layout.of_conversation(waiting.conversation());
        let Some(queue) = self.queues.get(lane.index() % self.queues.len()) else { return Err(waiting) };
        queue.try_send(waiting).map_err(mpsc::error::TrySendError::into_inner)
    }

    fn in_flight(&self) -> std::sync::MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue_send(&self, draft: MessageDraft, reply: oneshot::Sender<Reply>) -> ServiceResult<()> {
        let key = (draft.sender, draft.client_key.clone());
        let mut in_flight = self.in_flight();
        if let Some(followers) = in_flight.get_mut(&key) {
            if followers.len() >= FOLLOWERS_MAX {
                return Err(queue_full());
            }
            followers.push((draft, reply));
            return Ok(());
        }
        let expires = Instant::now() + self.setup.limits.send_timeout;
        let waiting = Waiting { work: Work::Send(draft), expires, replies: vec![reply] };
        self.enqueue(waiting).map_err(|_| queue_full())?;
        in_flight.insert(key, Vec::new());
        Ok(())
    }

    /// Answers items and whoever waited for their keys. All at once, because those who are answered come for the keys again.
    pub fn settle(&self, settled: Vec<(Waiting, Reply)>) {
        let mut in_flight = self.in_flight();
        let settled = settled.into_iter().map(|(waiting, result)| {
            let followers = match waiting.work {
                Work::Send(draft) => in_flight.remove(&(draft.sender, draft.client_key)),
                Work::Read { .. } => None,
            };
            (waiting.replies, result, followers.unwrap_or_default())
        });
        let settled: Vec<_> = settled.collect();
        drop(in_flight);
        for (replies, result, followers) in settled {
            for (follower, reply) in followers {
                self.settle_follower(follower, reply, &result);
            }
            answer(replies, result);
        }
    }

    fn settle_follower(&self, draft: MessageDraft, reply: oneshot::Sender<Reply>, result: &Reply) {
        if let Ok(Answer::Message(message)) = result {
            let same = same_message(message, &draft).map(|()| Answer::Message(message.clone()));
            let _ = reply.send(same);
            return;
        }
        // What was refused to the first, perhaps for its own content, may hold for this one: it takes its own turn. The first
        // of several leads the rest again.
        let (retry, retried) = oneshot::channel();
        match self.enqueue_send(draft, retry) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(()) => drop(self.setup.tasks.spawn(async move {
                if let Ok(result) = retried.await {
                    let _ = reply.send(result);
                }
            })),
        }
    }
}

/// Nobody listens any more when the client's deadline has passed; the commit stands.
pub(super) fn answer(mut replies: Vec<oneshot::Sender<Reply>>, result: Reply) {
    let last = replies.pop();
    for reply in replies {
        let _ = reply.send(result.clone());
    }
    if let Some(reply) = last {
        let _ = reply.send(result);
    }
}

impl Waiting {
    pub fn conversation(&self) -> ConversationId {
        match &self.work {
            Work::Send(draft) => draft.conversation,
            Work::Read { member, .. } => member.conversation,
        }
    }

    pub fn body_bytes(&self) -> usize {
        match &self.work {
            Work::Send(draft) => draft.body_bytes(),
            Work::Read { .. } => 0,
        }
    }
}
