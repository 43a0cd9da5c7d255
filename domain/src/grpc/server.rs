//! `confab domain`: the calls of a `Chat` of this process, for others.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream, stream::BoxStream};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Response, Status, Streaming,
    service::interceptor::InterceptedService,
    transport::{Error, Server, server::TcpIncoming},
};
use tonic_health::ServingStatus;

use super::{
    HEALTH_INTERVAL, HEALTH_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    calls::calls,
    convert::{Reply, address, client_key, history_pages, list_request, page_request, send_command, title},
    metadata::{self, Incoming, ServiceSecret, caller_of_bytes},
    status::{to_proto, to_status},
};
use crate::{
    ActivityScope, Chat, ConversationId, ConversationView, Credentials, DeadTask, ErrorCode, LoggedBatch,
    Member, MemberId, Message, MessageId, Page, Positions, PresenceVisibility, PushBatch, PushProvider,
    PushTask, QuietHours, RelayBacklog, RelayLane, ServiceError, ServiceResult, Session, SessionId,
    Timestamp, User, UserId, WorkerId,
    contract::{
        proto::{
            self, DESCRIPTORS, SendMessagesReply, SendMessagesRequest,
            domain_server::{Domain, DomainServer},
            send_messages_reply::Outcome,
        },
        wire::Wire,
    },
    port::{conversations::Missed, log::Heads},
    service::{
        add_members::AddMembers, change_password::ChangePassword, create_group::CreateGroup,
        mark_read::MarkRead, register::Register, register::SignedIn, remove_member::RemoveMember,
        set_member_role::SetMemberRole, sign_in::SignIn, update_group::UpdateGroup,
    },
    trace::{self, ExportedSpan, TraceContext},
};

/// The name under which health is asked.
pub(super) const SERVICE: &str = "confab.v1.Domain";
/// Answers to sends that wait for a slow reader; the committers' queues bound what is on its way.
const REPLIES_MAX: usize = 1024;
/// Streams of one connection: calls of one API node at the same time.
const STREAMS_MAX: u32 = 4096;
/// How long a connection is silent before its other end is asked whether it is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Streams that their caller gave up before they were looked at; one more ends the connection with all its calls (`too_many_resets`).
/// h2 allows 20, against strangers who open and reset streams without end (CVE-2023-44487). Ours are processes with a secret, and one
/// that takes this domain for dead gives up all of its calls at once.
const RESET_UNSEEN_MAX: usize = STREAMS_MAX as usize;

pub struct ServerSetup {
    pub chat: Chat,
    pub listener: TcpListener,
    pub secret: ServiceSecret,
    /// Calls take no longer than this, whatever the caller asks for.
    pub timeout: Duration,
    pub tasks: TaskTracker,
    /// From here on no new calls; those that run are finished.
    pub stop: CancellationToken,
}

/// Serves until it is stopped and what ran is done.
pub async fn serve(setup: ServerSetup) -> Result<(), Error> {
    let ServerSetup { chat, listener, secret, timeout: longest, tasks, stop } = setup;
    let (health, health_service) = tonic_health::server::health_reporter();
    // Known before the first caller asks.
    health.set_service_status(SERVICE, status_of(&chat).await).await;
    let reported = chat.clone();
    let ended = CancellationToken::new();
    let watching = ended.clone();
    let stopping = stop.clone();
    let lifeline = chat.lifeline().clone();
    tasks.spawn(lifeline.hold("report of the domain's health", async move {
        let report = async {
            loop {
                let waited = stopping.run_until_cancelled(sleep(HEALTH_INTERVAL)).await;
                if waited.is_none() {
                    health.set_service_status(SERVICE, ServingStatus::NotServing).await;
                    return;
                }
                health.set_service_status(SERVICE, status_of(&reported).await).await;
            }
        };
        watching.run_until_cancelled(report).await
    }));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let reflection =
        reflection.ok().map(|service| InterceptedService::new(service, Incoming(secret.clone())));
    let calls = DomainServer::new(Calls { chat, tasks, stop: stop.clone() })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REPLY_BYTES_MAX);
    // Callers see it in the health and turn to others before the connections close.
    let turned = |stop: CancellationToken| async move {
        stop.cancelled().await;
        sleep(HEALTH_INTERVAL * 2).await;
    };
    let (drained, turned_away) = (turned(stop.clone()), turned(stop));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEPALIVE));
    let serving = Server::builder()
        .timeout(longest)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESET_UNSEEN_MAX))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(health_service)
        .add_optional_service(reflection)
        .add_service(InterceptedService::new(calls, Incoming(secret)))
        .serve_with_incoming_shutdown(incoming, drained);
    // No call runs for longer. A connection that is still open has a caller who does not answer, or never said a word: HTTP/2 waits
    // without end for the first of them.
    let overdue = async {
        turned_away.await;
        sleep(longest).await;
    };
    let served = tokio::select! {
        served = serving => served,
        () = overdue => {
            tracing::warn!("callers who do not close their connections are left behind");
            Ok(())
        }
    };
    ended.cancel();
    served
}

/// Whether calls can be answered: not without the database.
async fn status_of(chat: &Chat) -> ServingStatus {
    match timeout(HEALTH_TIMEOUT, chat.heads()).await {
        Ok(Ok(_)) => ServingStatus::Serving,
        _ => ServingStatus::NotServing,
    }
}

struct Calls {
    chat: Chat,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Runs a call in the trace of its caller.
async fn answer<R: Reply>(
    trace: Option<TraceContext>,
    name: &'static str,
    call: impl Future<Output = Result<ServiceResult<R>, Status>>,
) -> Result<Response<R::Proto>, Status> {
    let span = ExportedSpan::part_of(trace, || trace::rpc("server", SERVICE, name));
    let told = span.clone();
    match trace::scope_of(trace, span.around(call)).await? {
        Ok(output) => Ok(Response::new(output.to_reply())),
        Err(error) => {
            told.fail(error.code().name());
            Err(to_status(&error))
        }
    }
}

macro_rules! server {
    ($($(#[$doc:meta])* $vis:vis $name:ident $([$caller:ident])? ($($arg:ident: $kind:ty),*) -> $output:ty
        = $rpc:ident($message:ident { $($field:ident: $value:expr),* $(,)? }) | $request:ident => ($($given:expr),*)
        by $route:expr, again $again:ident;)*) => {
        #[tonic::async_trait]
        impl Domain for Calls {
            $(async fn $rpc(
                &self,
                request: Request<proto::$message>,
            ) -> Result<Response<<$output as Reply>::Proto>, Status> {
                let trace = metadata::trace(request.metadata());
                $(let $caller = metadata::caller(request.metadata())?;)?
                let $request = request.into_inner();
                answer::<$output>(trace, stringify!($rpc), async {
                    tracing::debug!(call = stringify!($name), "answering");
                    Ok(self.chat.$name($(&$caller,)? $($given),*).await)
                }).await
            })*

            async fn describe(
                &self,
                request: Request<proto::DescribeRequest>,
            ) -> Result<Response<proto::DescribeReply>, Status> {
                tracing::info!(version = request.into_inner().version, "a process reaches this domain");
                Ok(Response::new(proto::DescribeReply {
                    installation: self.chat.installation().to_owned(),
                    lanes: self.chat.layout().count.into(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                }))
            }

            type SendMessagesStream = BoxStream<'static, Result<SendMessagesReply, Status>>;

            async fn send_messages(
                &self,
                request: Request<Streaming<SendMessagesRequest>>,
            ) -> Result<Response<Self::SendMessagesStream>, Status> {
                let (replies, answered) = mpsc::channel(REPLIES_MAX);
                let (chat, tasks) = (self.chat.clone(), self.tasks.clone());
                let taken = take_in_order(chat, tasks, request.into_inner(), replies);
                let stop = self.stop.clone();
                // A stream has no end of its own; what is left of it comes again as single calls.
                self.tasks.spawn(async move { stop.run_until_cancelled(taken).await });
                let stream = stream::unfold(answered, |mut answered| async move {
                    answered.recv().await.map(|reply| (Ok(reply), answered))
                });
                Ok(Response::new(stream.boxed()))
            }
        }
    };
}

calls!(server);

/// Gives each message its place in the queue before the next is looked at; answers come as they are committed.
async fn take_in_order(
    chat: Chat,
    tasks: TaskTracker,
    mut requests: Streaming<SendMessagesRequest>,
    replies: mpsc::Sender<SendMessagesReply>,
) {
    while let Ok(Some(request)) = requests.message().await {
        let number = request.number;
        let trace = TraceContext::of_traceparent(&request.traceparent);
        let span = ExportedSpan::part_of(trace, || trace::rpc("server", SERVICE, "send_messages"));
        let pending = trace::within(span.context(), || enqueue(&chat, request));
        let told = span.clone();
        let replies = replies.clone();
        let reply = async move {
            tracing::debug!(call = "send_message", "answering");
            let outcome = match pending {
                Ok(pending) => pending.await,
                Err(error) => Err(error),
            };
            let outcome = match outcome {
                Ok(message) => Outcome::Message(message.to_proto()),
                Err(error) => {
                    told.fail(error.code().name());
                    Outcome::Error(to_proto(&error))
                }
            };
            let _ = replies.send(SendMessagesReply { number, outcome: Some(outcome) }).await;
        };
        match trace {
            Some(trace) => drop(tasks.spawn(trace::scope(trace, span.around(reply)))),
            None => drop(tasks.spawn(reply)),
        }
    }
}

fn enqueue(
    chat: &Chat,
    request: SendMessagesRequest,
) -> ServiceResult<impl Future<Output = ServiceResult<Arc<Message>>> + Send + use<>> {
    let unsound = |status: &Status| ServiceError::new(ErrorCode::BadRequest, status.message().to_owned());
    let caller = caller_of_bytes(&request.caller).map_err(|status| unsound(&status))?;
    let message = request.message.ok_or_else(|| ServiceError::new(ErrorCode::BadRequest, "no message"))?;
    let command = send_command(message).map_err(|error| unsound(&error.into()))?;
    chat.enqueue_message(&caller, command)
}
