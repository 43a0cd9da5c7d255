//! Messages on their way to one endpoint, in the order they were given: a stream there and a stream back.
//!
//! Calls of their own would overtake each other on the way. What a broken stream leaves open is the sender's to try again, with the
//! same key.

use std::collections::HashMap;

use futures_util::stream;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tonic::{Status, Streaming};

use super::{
    HEALTH_INTERVAL,
    endpoint::{Client, Health, Lost, lost},
    status::from_proto,
};
use crate::{
    Message,
    contract::{
        proto::{SendMessagesReply, SendMessagesRequest, send_messages_reply::Outcome},
        wire::Wire as _,
    },
    lifeline::Held,
};

/// Messages that wait for the stream.
const QUEUE_MAX: usize = 4096;
/// Messages sent and not yet answered on one stream.
const UNANSWERED_MAX: usize = 8192;
/// Messages between the queue and the connection.
const BUFFER: usize = 64;

type Answer = oneshot::Sender<Result<Message, Lost>>;

pub(super) struct Sends {
    queue: mpsc::Sender<(SendMessagesRequest, Answer)>,
}

impl Sends {
    pub fn start(client: Client, health: watch::Receiver<Health>, held: &Held) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let sender = Sender { client, health, waiting, unanswered: HashMap::new(), number: 0 };
        held.spawn("sends to a domain", sender.run());
        Self { queue }
    }

    /// Takes the message's place at once; `None` when too many wait.
    pub fn enqueue(&self, request: SendMessagesRequest) -> Option<oneshot::Receiver<Result<Message, Lost>>> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send((request, answer)).ok().map(|()| answered)
    }
}

struct Sender {
    client: Client,
    health: watch::Receiver<Health>,
    waiting: mpsc::Receiver<(SendMessagesRequest, Answer)>,
    unanswered: HashMap<u64, Answer>,
    number: u64,
}

impl Sender {
    async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            if !self.is_up_soon().await {
                let _ = first.1.send(Err(Lost::Unsent));
                continue;
            }
            let (outgoing, mut taken) = mpsc::channel(BUFFER);
            self.forward(first, |request| outgoing.try_send(request).is_ok());
            let requests = stream::poll_fn(move |context| taken.poll_recv(context));
            let mut health = self.health.clone();
            let mut client = self.client.clone();
            let opened = tokio::select! {
                opened = client.send_messages(requests) => opened.map(tonic::Response::into_inner),
                _ = health.wait_for(|health| *health != Health::Serving) => Err(Status::unavailable("the endpoint stopped answering")),
            };
            let broken = match opened {
                Ok(replies) => self.exchange(&outgoing, replies).await,
                Err(status) => status,
            };
            for (_, answer) in self.unanswered.drain() {
                let _ = answer.send(Err(lost(broken.clone())));
            }
        }
    }

    /// An endpoint out for a moment keeps the order of what waits for it; one that stays out gives it to others.
    async fn is_up_soon(&mut self) -> bool {
        let is_up = self.health.wait_for(|health| *health == Health::Serving);
        timeout(HEALTH_INTERVAL * 2, is_up).await.is_ok_and(|up| up.is_ok())
    }

    /// Until the stream breaks.
    async fn exchange(
        &mut self,
        outgoing: &mpsc::Sender<SendMessagesRequest>,
        mut replies: Streaming<SendMessagesReply>,
    ) -> Status {
        let ended = || Status::unavailable("the stream of messages ended");
        let mut health = self.health.clone();
        loop {
            let room = self.unanswered.len() < UNANSWERED_MAX;
            tokio::select! {
                reply = replies.message() => match reply {
                    Ok(Some(reply)) => self.settle(reply),
                    Ok(None) => return ended(),
                    Err(status) => return status,
                },
                _ = health.wait_for(|health| *health != Health::Serving) => return Status::unavailable("the endpoint stopped answering"),
                // Room first: a message that was taken is never dropped between the two.
                taken = async {
                    let permit = outgoing.reserve().await.ok()?;
                    Some((permit, self.waiting.recv().await?))
                }, if room => {
                    let Some((permit, next)) = taken else { return ended() };
                    self.forward(next, |request| {
                        permit.send(request);
                        true
                    });
                }
            }
        }
    }

    fn forward(
        &mut self,
        (mut request, answer): (SendMessagesRequest, Answer),
        send: impl FnOnce(SendMessagesRequest) -> bool,
    ) {
        self.number += 1;
        request.number = self.number;
        if send(request) {
            self.unanswered.insert(self.number, answer);
        }
    }

    fn settle(&mut self, reply: SendMessagesReply) {
        let Some(answer) = self.unanswered.remove(&reply.number) else { return };
        let outcome = match reply.outcome {
            Some(Outcome::Message(message)) => Message::from_proto(message)
                .map_err(|error| Lost::Refused(crate::ServiceError::internal(error))),
            Some(Outcome::Error(error)) => Err(Lost::Refused(from_proto(error))),
            None => Err(Lost::Unknown(Status::unavailable("an answer without an outcome"))),
        };
        let _ = answer.send(outcome);
    }
}
