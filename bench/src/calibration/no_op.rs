//! The no-op ceiling: all that the product does with a request but the work itself.
//!
//! Listener, edges, settings, token verification and type system are the product's, and so are the schema's other types; only the
//! mutation root is another one, so that the product's schema has nothing for benchmarks.

use std::{net::IpAddr, path::Path, sync::Arc};

use api::{
    edge::Edge,
    executor::{Executor, Operation, Subscription as Subscribed},
    refusal::is_request_error,
    schema::{
        self, Query, Subscription,
        mutation::send_message::SendMessageInput,
        request_data,
        types::{event::ConversationEvent, message::Message, user_error::UserError},
    },
    server::Server,
    settings::Settings,
    websocket::{About, Sight, Sockets, Watched},
};
use async_graphql::{
    Context, Object, Request, Response, SDLExportOptions, Schema, SchemaBuilder, ServerError, SimpleObject,
    ValidationMode,
};
use async_trait::async_trait;
use domain::{
    Caller, Chat, Content, ConversationId, DocumentHash, Limits, Mentions, MessageId, ServiceResult, Spent,
    Timestamp, UserId,
    adapter::{
        ambient::{SystemClock, SystemRandom},
        sql::{PoolSettings, SqlStore},
    },
    keys::KeyRing,
    wiring::Wiring,
};
use migration::SCHEMA_VERSION;
use tokio_util::sync::CancellationToken;

struct NoOp;

/// The answer to `sendMessage`.
#[derive(SimpleObject)]
struct SendMessagePayload {
    message: Option<Message>,
    user_errors: Vec<UserError>,
}

#[Object(name = "Mutation")]
impl NoOp {
    /// Reads its input, and answers as if it had been committed.
    async fn send_message(&self, ctx: &Context<'_>, input: SendMessageInput) -> Option<SendMessagePayload> {
        drop(input);
        let message = Arc::clone(ctx.data_unchecked::<Arc<domain::Message>>());
        Some(SendMessagePayload { message: Some(Message::new(message)), user_errors: Vec::new() })
    }
}

type NoOpSchema = Schema<Query, NoOp, Subscription>;

pub(crate) async fn serve(database: &str, keys: &Path) {
    let store = SqlStore::open(database, PoolSettings::default(), SCHEMA_VERSION).await.expect("a database");
    let ring = KeyRing::open(keys).expect("keys");
    let chat = Wiring::new(store, ring, Limits { rate_limits: false, ..Limits::default() }).build();
    chat.load_ended_sessions().await.expect("the log");
    let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), ..Settings::default() };
    let sdl = builder(&chat)
        .finish()
        .sdl_with_options(SDLExportOptions::new().include_specified_by().use_space_ident());
    let executor = Arc::new(NoOpExecutor {
        schema: builder(&chat).finish(),
        of_valid: builder(&chat).validation_mode(ValidationMode::Fast).finish(),
        chat,
    });
    let sockets = Sockets::new(&settings.sockets);
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let edge = Arc::new(Edge::new(settings, &sdl, executor, clock, random).expect("a schema"));
    let server = Server::bind(edge, sockets, sdl.into()).expect("a port");
    crate::listening(server.address().expect("bound").port());
    server.serve(CancellationToken::new()).await;
}

fn builder(chat: &Chat) -> SchemaBuilder<Query, NoOp, Subscription> {
    Schema::build(Query, NoOp, Subscription)
        .register_output_type::<ConversationEvent>()
        .data(chat.clone())
        .data(Arc::new(committed()))
}

fn committed() -> domain::Message {
    domain::Message {
        id: MessageId(1),
        conversation: ConversationId::group(1),
        seq: 1,
        rev: 1,
        created_rev: 1,
        pos: 1,
        sender: Some(UserId(1)),
        client_key: None,
        content_hash: [0; 16],
        content: Content::Text("sent".into()),
        mentions: Mentions::default(),
        created_at: Timestamp(1),
        countable: 1,
    }
}

struct NoOpExecutor {
    chat: Chat,
    schema: NoOpSchema,
    of_valid: NoOpSchema,
}

/// As the product's own.
#[async_trait]
impl Executor for NoOpExecutor {
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

    async fn validate(&self, _: Request) -> Vec<ServerError> {
        Vec::new()
    }

    async fn spend(
        &self,
        caller: Option<&Caller>,
        address: Option<IpAddr>,
        cost: u32,
    ) -> ServiceResult<Option<Spent>> {
        self.chat.spend(caller, address, cost).await
    }

    async fn document(&self, _: DocumentHash) -> Option<Arc<str>> {
        None
    }

    async fn keep_document(&self, _: DocumentHash, _: &str) {}

    fn authenticate(&self, access_token: &str) -> ServiceResult<Caller> {
        self.chat.authenticate(access_token)
    }

    fn subscribe(&self, _: Subscribed) -> Box<dyn Watched> {
        Box::new(Silent)
    }
}

/// A subscription that tells nothing.
struct Silent;

impl Watched for Silent {
    fn sight(&self, _: About) -> Sight {
        Sight::Shown
    }
}
