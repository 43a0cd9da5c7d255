//! One API node, composed in dependency order: schema, hub, edges, listener.

use std::{io, net::IpAddr, sync::Arc};

use async_graphql::{Request, Response, ServerError};
use async_trait::async_trait;
use domain::{Caller, Chat, DocumentHash, ServiceError, ServiceResult, Spent};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    activity::{self, Activity, ActivityLimits},
    edge::{Edge, EdgeError},
    executor::{Executor, Operation, Subscription},
    hub::{Hub, HubLimits, HubSetup},
    refusal::is_request_error,
    schema::{self, ChatSchema, request_data},
    server::{BindError, Server, TlsError},
    settings::Settings,
    trusted::ManifestError,
    typesystem::{TypeSystem, TypeSystemError},
    websocket::{Sockets, Watched},
};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the schema cannot be read back")]
    Schema(#[from] TypeSystemError),
    #[error("the database cannot be read")]
    Domain(#[from] ServiceError),
    #[error("trusted documents: {0}")]
    Trusted(#[from] ManifestError),
    #[error("cannot listen")]
    Listen(#[source] io::Error),
    #[error("TLS: {0}")]
    Tls(#[source] TlsError),
}

impl From<EdgeError> for StartError {
    fn from(error: EdgeError) -> Self {
        match error {
            EdgeError::Schema(error) => Self::Schema(error),
            EdgeError::Trusted(error) => Self::Trusted(error),
        }
    }
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Listen(error) => Self::Listen(error),
            BindError::Tls(error) => Self::Tls(error),
        }
    }
}

/// What a node is made of.
pub struct ApiSetup {
    pub chat: Chat,
    pub settings: Settings,
    /// What browsers know us by when they subscribe to pushes.
    pub web_push_key: Option<String>,
    pub hub: HubLimits,
    pub activity: ActivityLimits,
    pub tasks: TaskTracker,
    /// Stops the hub; the listener has a token of its own and stops first.
    pub stop: CancellationToken,
}

/// A node that is bound to its address and ready to serve.
pub async fn start(setup: ApiSetup) -> Result<(Server, Hub), StartError> {
    let ApiSetup { chat, settings, web_push_key, hub, activity, tasks, stop } = setup;
    // Before the first request, so that no ended session slips through.
    chat.load_ended_sessions().await?;
    let sdl = schema::sdl();
    let types = Arc::new(TypeSystem::parse(&sdl)?);
    let of_valid = schema::build_for_valid(chat.clone(), web_push_key.clone(), &settings);
    let schema = schema::build(chat.clone(), web_push_key, &settings);
    let sockets = Sockets::new(&settings.sockets);
    let revoked = sockets.clone();
    let activity = Activity::start(chat.clone(), schema.clone(), activity, tasks.clone(), stop.clone());
    let seeing = activity.clone();
    let hub = Hub::start(HubSetup {
        chat: chat.clone(),
        schema: schema.clone(),
        types,
        limits: hub,
        tasks,
        on_session_ended: Arc::new(move |session| revoked.close_session(session)),
        on_event: Arc::new(move |event| seeing.sees(event)),
        stop,
    })
    .await?;
    let (clock, random) = (chat.clock().clone(), chat.random().clone());
    let executor =
        Arc::new(ChatExecutor { chat, schema, of_valid, rules: schema::rules(), hub: hub.clone(), activity });
    let edge = Arc::new(Edge::new(settings, &sdl, executor, clock, random)?);
    if let Some(invalid) = edge.invalid_trusted().await {
        return Err(invalid.into());
    }
    let server = Server::bind(edge, sockets, sdl.into())?;
    Ok((server, hub))
}

/// The schema and the hub behind the edges.
struct ChatExecutor {
    chat: Chat,
    schema: ChatSchema,
    /// The same schema for documents that are known to keep its rules.
    of_valid: ChatSchema,
    /// The same schema, which runs nothing.
    rules: ChatSchema,
    hub: Hub,
    activity: Activity,
}

#[async_trait]
impl Executor for ChatExecutor {
    async fn execute(&self, operation: Operation) -> Response {
        let Operation { request, document, caller, address, paid } = operation;
        let valid = document.is_valid();
        let schema = if valid { &self.of_valid } else { &self.schema };
        let request = request_data(request.data(paid), &self.chat, caller, address);
        let response = schema::execute(schema, request).await;
        if !valid && !is_request_error(&response) {
            document.set_valid();
        }
        response
    }

    async fn validate(&self, request: Request) -> Vec<ServerError> {
        self.rules.execute(request).await.errors
    }

    async fn spend(
        &self,
        caller: Option<&Caller>,
        address: Option<IpAddr>,
        cost: u32,
    ) -> ServiceResult<Option<Spent>> {
        self.chat.spend(caller, address, cost).await
    }

    async fn document(&self, hash: DocumentHash) -> Option<Arc<str>> {
        self.chat.document(hash).await
    }

    async fn keep_document(&self, hash: DocumentHash, text: &str) {
        self.chat.keep_document(hash, text).await;
    }

    fn authenticate(&self, access_token: &str) -> ServiceResult<Caller> {
        self.chat.authenticate(access_token)
    }

    fn subscribe(&self, subscription: Subscription) -> Box<dyn Watched> {
        let operation = subscription.document.operation(subscription.operation_name.as_deref());
        let is_activity = operation.is_ok_and(|(_, operation)| {
            subscription.document.has_root_field(&operation.node, activity::ROOT_FIELD)
        });
        if is_activity {
            return self.activity.subscribe(subscription, &self.hub);
        }
        self.hub.subscribe(subscription)
    }
}
