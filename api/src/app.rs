//! One API node, composed in dependency order: schema, hub, edges, listener.

use std::{io, sync::Arc};

use async_graphql::Response;
use async_trait::async_trait;
use domain::{Caller, Chat, ServiceError, ServiceResult};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    edge::Edge,
    executor::{Executor, Operation, Subscription},
    hub::{Hub, HubLimits, HubSetup},
    schema::{self, ChatSchema, request_data},
    server::Server,
    settings::Settings,
    typesystem::{TypeSystem, TypeSystemError},
    websocket::{Sockets, Watched},
};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the schema cannot be read back")]
    Schema(#[from] TypeSystemError),
    #[error("the database cannot be read")]
    Domain(#[from] ServiceError),
    #[error("cannot listen")]
    Listen(#[from] io::Error),
}

/// What a node is made of.
pub struct ApiSetup {
    pub chat: Chat,
    pub settings: Settings,
    /// What browsers know us by when they subscribe to pushes.
    pub web_push_key: Option<String>,
    pub hub: HubLimits,
    pub tasks: TaskTracker,
    /// Stops the hub; the listener has a token of its own and stops first.
    pub stop: CancellationToken,
}

/// A node that is bound to its address and ready to serve.
pub async fn start(setup: ApiSetup) -> Result<(Server, Hub), StartError> {
    let ApiSetup { chat, settings, web_push_key, hub, tasks, stop } = setup;
    // Before the first request, so that no ended session slips through.
    chat.load_ended_sessions().await?;
    let sdl = schema::sdl();
    let types = Arc::new(TypeSystem::parse(&sdl)?);
    let schema = schema::build(chat.clone(), web_push_key);
    let sockets = Sockets::new(&settings.sockets);
    let revoked = sockets.clone();
    let hub = Hub::start(HubSetup {
        chat: chat.clone(),
        schema: schema.clone(),
        types,
        limits: hub,
        tasks,
        on_session_ended: Arc::new(move |session| revoked.close_session(session)),
        stop,
    })
    .await?;
    let (clock, random) = (chat.clock().clone(), chat.random().clone());
    let executor = Arc::new(ChatExecutor { chat, schema, hub: hub.clone() });
    let edge = Arc::new(Edge::new(settings, &sdl, executor, clock, random)?);
    let server = Server::bind(edge, sockets, sdl.into()).await?;
    Ok((server, hub))
}

/// The schema and the hub behind the edges.
struct ChatExecutor {
    chat: Chat,
    schema: ChatSchema,
    hub: Hub,
}

#[async_trait]
impl Executor for ChatExecutor {
    async fn execute(&self, operation: Operation) -> Response {
        let Operation { request, caller, address } = operation;
        schema::execute(&self.schema, request_data(request, &self.chat, caller, address)).await
    }

    async fn authenticate(&self, access_token: &str) -> ServiceResult<Caller> {
        self.chat.authenticate(access_token)
    }

    fn subscribe(&self, subscription: Subscription) -> Box<dyn Watched> {
        self.hub.subscribe(subscription)
    }
}
