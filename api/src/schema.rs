//! The schema: what clients can ask, and how answers are put together.
//!
//! Roots are `query`, `mutation` (one operation a file, with the verb of the service it calls) and `subscription`;
//! the objects they answer with are in `types`. Resolvers decode, call one service and encode. Rows of the same kind
//! are read together by `loaders`, whose batches run as `batching` says.
//!
//! [`execute`] and [`execute_stream`] run a request; its data comes from [`request_data`].

pub mod batching;
pub mod error;
pub mod id;
pub mod loaders;
pub mod mutation;
pub mod paging;
pub mod query;
pub mod request;
pub mod shareable;
pub mod subscription;
pub mod types;

use std::{pin::pin, sync::Arc};

use async_graphql::{
    ObjectType, Request, Response, SDLExportOptions, Schema, SchemaBuilder, SubscriptionType, ValidationMode,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute},
};
use async_trait::async_trait;
use domain::Chat;
use futures_util::{StreamExt, stream::BoxStream};

use self::{
    loaders::Loaders,
    types::{event::ConversationEvent, limits::Limits, push::WebPushPublicKey},
};
pub use self::{
    mutation::Mutation,
    query::Query,
    request::request_data,
    subscription::{ActivityFeed, EventFeed, Subscription},
};
use crate::settings::Settings;

pub type ChatSchema = Schema<Query, Mutation, Subscription>;

/// The schema over a running domain; `web_push_key` is what browsers know us by, `settings` are told to clients as limits.
pub fn build(chat: Chat, web_push_key: Option<String>, settings: &Settings) -> ChatSchema {
    over(chat, web_push_key, settings).finish()
}

/// As [`build`], for documents that are known to keep the schema's rules: they are not looked at again.
pub fn build_for_valid(chat: Chat, web_push_key: Option<String>, settings: &Settings) -> ChatSchema {
    over(chat, web_push_key, settings).validation_mode(ValidationMode::Fast).finish()
}

fn over(
    chat: Chat,
    web_push_key: Option<String>,
    settings: &Settings,
) -> SchemaBuilder<Query, Mutation, Subscription> {
    let limits = Limits::new(settings, chat.limits());
    let builder = builder().data(chat).data(limits);
    match web_push_key {
        Some(key) => builder.data(WebPushPublicKey(key)),
        None => builder,
    }
}

/// The schema that holds requests against its rules and runs nothing: what is wrong is all that it answers.
pub fn rules() -> ChatSchema {
    builder().extension(RulesAlone).finish()
}

/// Ends every request where its execution would begin.
struct RulesAlone;

impl ExtensionFactory for RulesAlone {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait]
impl Extension for RulesAlone {
    async fn execute(&self, _: &ExtensionContext<'_>, _: Option<&str>, _: NextExecute<'_>) -> Response {
        Response::default()
    }
}

/// The schema in the definition language, as it is committed in `schema.graphql` and served to clients.
pub fn sdl() -> String {
    let options = SDLExportOptions::new().include_specified_by().use_space_ident();
    builder().finish().sdl_with_options(options)
}

/// Answers a query or mutation. Of any roots: those of the schema may stand beside others in a benchmark.
pub async fn execute<Q, M, S>(schema: &Schema<Q, M, S>, request: Request) -> Response
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
{
    let batches = Loaders::batches_of(&request);
    let answer = pin!(schema.execute(request));
    match batches {
        Some(batches) => batches.drive(answer).await,
        None => answer.await,
    }
}

/// Answers any operation: one response for a query or mutation, one an event for a subscription.
pub fn execute_stream(schema: &ChatSchema, request: Request) -> BoxStream<'static, Response> {
    match Loaders::batches_of(&request) {
        Some(batches) => batches.drive_stream(schema.execute_stream(request)).boxed(),
        None => schema.execute_stream(request),
    }
}

pub(crate) fn builder() -> SchemaBuilder<Query, Mutation, Subscription> {
    // Nothing returns `ConversationEvent` itself, so that it would be left out as unused.
    Schema::build(Query, Mutation, Subscription).register_output_type::<ConversationEvent>()
}
