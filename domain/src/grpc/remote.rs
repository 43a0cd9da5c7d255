//! The domain in other processes, as one.

use std::{
    cmp::Reverse,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tonic::{Code, Request, Response, Status, transport};

use super::{
    endpoint::{Client, Endpoint, Lost},
    metadata::{ServiceSecret, caller_to_bytes, set_caller},
    server::SERVICE,
};
use crate::{
    Caller, ConversationId, LaneId, LaneLayout, Message, ServiceError, ServiceResult, UserId,
    contract::{proto, wire::Wire as _},
    lifeline::Held,
    service::send_message::SendMessage,
    trace::{self, ExportedSpan, TraceContext},
};

/// Between two rounds over all endpoints.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Between two words about a domain that is not there yet.
const WAITING_NOTE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("{0}: expected addresses such as http://127.0.0.1:4100, separated by commas")]
    Address(String, #[source] transport::Error),
    #[error("the domain refuses this process: {0}")]
    Refused(String),
}

/// How the domain is reached.
pub struct RemoteSetup {
    /// `http://host:port` of each `confab domain`.
    pub endpoints: Vec<String>,
    pub secret: ServiceSecret,
    /// How long a call may take, with all its attempts.
    pub timeout: Duration,
    /// Where what watches the endpoints runs.
    pub held: Held,
}

pub struct Remote {
    endpoints: Vec<Endpoint>,
    timeout: Duration,
    /// Spreads calls that have no lane.
    turn: AtomicUsize,
    pub installation: String,
    pub layout: LaneLayout,
}

/// Whose lane decides where a call goes first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    Any,
    Lane(LaneId),
    User(UserId),
    Conversation(ConversationId),
}

impl Route {
    pub fn direct(a: UserId, b: UserId) -> Self {
        ConversationId::direct(a, b).map_or(Self::Any, Self::Conversation)
    }
}

/// Whether a call whose fate is unknown may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Twice does the same as once.
    Always,
    /// Only while it is certain that nobody has seen it.
    IfUnsent,
}

/// What is to be known of a call beside its request.
pub(crate) struct Ask<'a> {
    pub name: &'static str,
    pub caller: Option<&'a Caller>,
    pub route: Route,
    pub again: Again,
}

/// A call of the generated client.
pub(crate) type Rpc<Q, P> = fn(Client, Request<Q>) -> BoxFuture<'static, Result<Response<P>, Status>>;

impl Remote {
    /// Waits until some endpoint says what installation it is of, however long that takes.
    pub async fn connect(setup: RemoteSetup) -> Result<Self, RemoteError> {
        let RemoteSetup { endpoints, secret, timeout, held } = setup;
        let start = |address: String| match transport::Endpoint::from_shared(address.clone()) {
            Ok(transport) => Ok(Endpoint::start(address, transport, secret.clone(), &held)),
            Err(error) => Err(RemoteError::Address(address, error)),
        };
        let endpoints = endpoints.into_iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let mut noted = None;
        loop {
            for endpoint in &endpoints {
                let request =
                    Request::new(proto::DescribeRequest { version: env!("CARGO_PKG_VERSION").to_owned() });
                let mut client = endpoint.client();
                let answer = timeout_at(Instant::now() + timeout, client.describe(request)).await;
                match answer {
                    Ok(Ok(reply)) => {
                        let proto::DescribeReply { installation, lanes, .. } = reply.into_inner();
                        let layout = LaneLayout { count: u16::try_from(lanes).unwrap_or(0).max(1) };
                        return Ok(Self {
                            endpoints,
                            timeout,
                            turn: AtomicUsize::new(0),
                            installation,
                            layout,
                        });
                    }
                    Ok(Err(status)) if status.code() == Code::Unauthenticated => {
                        return Err(RemoteError::Refused(status.message().to_owned()));
                    }
                    _ => {}
                }
            }
            if noted.is_none_or(|noted: Instant| noted.elapsed() >= WAITING_NOTE) {
                noted = Some(Instant::now());
                let addresses: Vec<&str> = endpoints.iter().map(|one| one.address.as_str()).collect();
                tracing::warn!(domain.addresses = ?addresses, "no domain answers yet; waiting for one");
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Makes a call, at the endpoint of its lane or else at another, until the deadline.
    pub(crate) async fn call<Q: Clone, P>(
        &self,
        ask: Ask<'_>,
        request: Q,
        rpc: Rpc<Q, P>,
    ) -> ServiceResult<P> {
        let deadline = Instant::now() + self.timeout;
        loop {
            for endpoint in self.by_preference(ask.route) {
                // Not a moment before it: what is tried then ends unknown, and was never sent.
                if Instant::now() >= deadline {
                    return Err(ServiceError::away());
                }
                let mut request = Request::new(request.clone());
                request.set_timeout(deadline.saturating_duration_since(Instant::now()));
                if let Some(caller) = ask.caller {
                    set_caller(request.metadata_mut(), caller);
                }
                let span = ExportedSpan::part(|| trace::rpc("client", SERVICE, ask.name));
                let last_resort = !self.endpoints.iter().any(Endpoint::is_up);
                let attempt = endpoint.attempt(deadline, last_resort, rpc(endpoint.client(), request));
                match span.around_result(attempt, Lost::name).await {
                    Ok(reply) => return Ok(reply),
                    Err(Lost::Refused(refusal)) => return Err(refusal),
                    Err(Lost::Unknown(status)) if ask.again == Again::IfUnsent => {
                        return Err(ServiceError::unknown_fate().caused_by(status));
                    }
                    Err(Lost::Unsent | Lost::Unknown(_)) => {}
                }
            }
            sleep_until(deadline.min(Instant::now() + RETRY_PAUSE)).await;
        }
    }

    /// Puts a message into the stream of its lane's endpoint at once; the future waits for the commit.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        caller: &Caller,
        command: SendMessage,
    ) -> ServiceResult<impl Future<Output = ServiceResult<Arc<Message>>> + Send + use<>> {
        let route = Route::Conversation(command.conversation);
        let span = ExportedSpan::part(|| trace::rpc("client", SERVICE, "send_messages"));
        let message = proto::SendMessageRequest {
            conversation: command.conversation.to_proto(),
            client_key: command.client_key.as_str().to_owned(),
            text: command.text.into_string(),
            mentions: command.mentions.iter().map(|user| user.0).collect(),
        };
        let request = proto::SendMessagesRequest {
            number: 0,
            caller: caller_to_bytes(caller).to_vec(),
            message: Some(message.clone()),
            traceparent: span.context().map(TraceContext::to_traceparent).unwrap_or_default(),
        };
        let preferred = self.by_preference(route).into_iter().next();
        let answered = preferred.and_then(|endpoint| endpoint.sends.enqueue(request));
        let answered =
            answered.ok_or_else(|| ServiceError::unavailable("too many messages wait; try again"))?;
        let (remote, caller, deadline) = (self.clone(), *caller, Instant::now() + self.timeout);
        let sent = async move {
            match timeout_at(deadline, answered).await {
                Ok(Ok(Ok(message))) => Ok(Arc::new(message)),
                Ok(Ok(Err(Lost::Refused(refusal)))) => Err(refusal),
                Err(_) => {
                    Err(ServiceError::unavailable("the commit took too long; send again with the same key"))
                }
                // The stream broke: with the same key, a second time is safe.
                Ok(Ok(Err(Lost::Unsent | Lost::Unknown(_))) | Err(_)) => {
                    let ask =
                        Ask { name: "send_message", caller: Some(&caller), route, again: Again::Always };
                    let again = remote.call(ask, message, |mut client, request| {
                        Box::pin(async move { client.send_message(request).await })
                    });
                    let message = again.await?;
                    Message::from_proto(message).map(Arc::new).map_err(ServiceError::internal)
                }
            }
        };
        Ok(span.around_result(sent, |error: &ServiceError| error.code().name()))
    }

    /// Endpoints that answer before those that do not, the lane's own first.
    fn by_preference(&self, route: Route) -> Vec<&Endpoint> {
        let lane = match route {
            Route::Any => None,
            Route::Lane(lane) => Some(lane),
            Route::User(user) => Some(self.layout.of_user(user)),
            Route::Conversation(conversation) => Some(self.layout.of_conversation(conversation)),
        };
        let mut endpoints: Vec<&Endpoint> = self.endpoints.iter().collect();
        match lane {
            Some(lane) => endpoints.sort_by_cached_key(|one| Reverse((one.is_up(), one.score(lane)))),
            None => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1);
                endpoints.rotate_left(turn);
                endpoints.sort_by_key(|one| Reverse(one.is_up()));
            }
        }
        endpoints
    }
}
