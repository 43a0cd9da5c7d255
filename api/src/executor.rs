//! What the edges need from behind them: somebody who answers operations, knows tokens and feeds subscriptions.

use std::{net::IpAddr, sync::Arc};

use async_graphql::{Request, Response, ServerError, Variables};
use async_trait::async_trait;
use domain::{Caller, DocumentHash, ServiceResult, Spent, trace::TraceContext};

use crate::{
    document::Document,
    websocket::{Outbound, Watched},
};

/// The schema and the hub, as the edges see them; their tests have a small one of their own.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Answers a query or mutation. It is run in a task that nobody cancels.
    async fn execute(&self, operation: Operation) -> Response;

    /// What is wrong with a request whose variables are coerced, by the rules of the schema; nothing runs.
    async fn validate(&self, request: Request) -> Vec<ServerError>;

    /// Takes an operation's cost from the budgets of the caller and the address; `RATE_LIMITED` when there is not enough, `None`
    /// where rates are not limited.
    async fn spend(
        &self,
        caller: Option<&Caller>,
        address: Option<IpAddr>,
        cost: u32,
    ) -> ServiceResult<Option<Spent>>;

    /// The text of a document that was registered on any node.
    async fn document(&self, hash: DocumentHash) -> Option<Arc<str>>;

    /// Registers a valid document on all nodes.
    async fn keep_document(&self, hash: DocumentHash, text: &str);

    /// Who an access token speaks for. Every request asks, so it is known here, without waiting for anybody.
    fn authenticate(&self, access_token: &str) -> ServiceResult<Caller>;

    /// Feeds a subscription until what it returns is dropped. Returns at once; what is wrong with the operation goes to
    /// [`Outbound::error`].
    fn subscribe(&self, subscription: Subscription) -> Box<dyn Watched>;
}

/// A query or mutation, guarded, with its variables coerced.
pub struct Operation {
    /// Holds a copy of the parsed document; its `query` text is empty.
    pub request: Request,
    pub document: Arc<Document>,
    /// `None` when it came without a token.
    pub caller: Option<Caller>,
    /// After trusted proxies.
    pub address: Option<IpAddr>,
    pub paid: Paid,
}

/// What an operation costs, and what is left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paid {
    pub cost: u32,
    /// `None` where rates are not limited.
    pub spent: Option<Spent>,
    /// Whether the answer is to tell.
    pub told: bool,
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
