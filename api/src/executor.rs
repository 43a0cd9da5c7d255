//! What the edges need from behind them: somebody who answers operations, knows tokens and feeds subscriptions.

use std::{net::IpAddr, sync::Arc};

use async_graphql::{Request, Response, Variables};
use async_trait::async_trait;
use domain::{Caller, ServiceResult, trace::TraceContext};

use crate::{
    document::Document,
    websocket::{Outbound, Watched},
};

/// The schema and the hub, as the edges see them; their tests have a small one of their own.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Answers a query or mutation. It is run in a task that nobody cancels.
    async fn execute(&self, operation: Operation) -> Response;

    /// Who an access token speaks for.
    async fn authenticate(&self, access_token: &str) -> ServiceResult<Caller>;

    /// Feeds a subscription until what it returns is dropped. Returns at once; what is wrong with the operation goes to
    /// [`Outbound::error`].
    fn subscribe(&self, subscription: Subscription) -> Box<dyn Watched>;
}

/// A query or mutation, guarded, with its variables coerced.
pub struct Operation {
    /// Holds the parsed document; its `query` text is empty.
    pub request: Request,
    /// `None` when it came without a token.
    pub caller: Option<Caller>,
    /// After trusted proxies.
    pub address: Option<IpAddr>,
}

/// A subscription that a socket asked for.
pub struct Subscription {
    /// Names the operation on its socket. The same text is another operation in another `Arc`.
    pub operation_id: Arc<str>,
    pub document: Arc<Document>,
    /// Which of the document's operations; `None` when it has one.
    pub operation_name: Option<String>,
    /// Coerced, with defaults.
    pub variables: Variables,
    pub caller: Option<Caller>,
    pub address: Option<IpAddr>,
    pub outbound: Outbound,
    /// Of its opening.
    pub trace: TraceContext,
}
