//! What both edges do with a request, and what they share to do it.
//!
//! [`Edge::read`] and [`Edge::prepare`] refuse what must not run; [`Edge::run`] runs the rest in a task of its own, which
//! a client that goes away does not cancel: a transaction cut half way could take others' writes with it.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_graphql::{Request, Response, Variables, parser::types::OperationType};
use domain::{
    Caller, ErrorCode, measure,
    port::{Clock, Random},
    trace::{self, TraceContext, TraceId},
};
use futures_util::FutureExt;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    coercion::{check_arguments, coerce_variables},
    cost::cost,
    document::{Document, Documents, kind_name},
    executor::{Executor, Operation},
    parameters::Parameters,
    refusal::{Refusal, complete_errors},
    settings::Settings,
    typesystem::{TypeSystem, TypeSystemError},
};

/// What the edges are made of.
pub struct Edge {
    pub settings: Settings,
    pub executor: Arc<dyn Executor>,
    pub documents: Documents,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// What must end before the process does.
    pub tasks: TaskTracker,
    running: Arc<Semaphore>,
}

/// An operation that may run.
pub struct Prepared {
    pub document: Arc<Document>,
    pub operation_name: Option<String>,
    pub variables: Variables,
}

impl Prepared {
    pub fn into_request(self) -> Request {
        let mut request = Request::new(String::new()).variables(self.variables);
        request.operation_name = self.operation_name;
        request.set_parsed_query(self.document.parsed.clone());
        request
    }
}

impl Edge {
    pub fn new(
        settings: Settings,
        sdl: &str,
        executor: Arc<dyn Executor>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, TypeSystemError> {
        let types = Arc::new(TypeSystem::parse(sdl)?);
        let mut seed = [0; 8];
        random.fill(&mut seed);
        let documents = Documents::new(
            settings.limits.clone(),
            types,
            settings.cached_documents_bytes_max,
            u64::from_ne_bytes(seed),
        );
        let running = Arc::new(Semaphore::new(settings.operations_max));
        Ok(Self { settings, executor, documents, clock, random, tasks: TaskTracker::new(), running })
    }

    /// The document of a request, and what kind of operation it asks for.
    pub fn read(&self, parameters: &Parameters) -> Result<(Arc<Document>, OperationType), Refusal> {
        let document = self.documents.read(&parameters.query)?;
        let (_, operation) = document.operation(parameters.operation_name.as_deref())?;
        let kind = operation.node.ty;
        Ok((document, kind))
    }

    /// Coerces the variables, and counts what the operation may cost with them. Nothing has run when it fails.
    pub fn prepare(&self, parameters: Parameters, document: Arc<Document>) -> Result<Prepared, Vec<Refusal>> {
        let types = self.documents.types();
        let (_, operation) =
            document.operation(parameters.operation_name.as_deref()).map_err(|refusal| vec![refusal])?;
        let operation = &operation.node;
        let variables = coerce_variables(types, operation, parameters.variables)?;
        // The hub reads those of a subscription's one field.
        if let Some(root) = types.root(operation.ty).filter(|_| operation.ty != OperationType::Subscription) {
            check_arguments(types, &document.parsed, operation, root, &variables)
                .map_err(|refusal| vec![refusal])?;
        }
        let (cost, max) =
            (cost(types, &document.parsed, operation, &variables), self.settings.limits.cost_max);
        if cost > max {
            let message = format!(
                "the operation costs {cost}, more than {max}: ask for smaller pages, or for less in each item"
            );
            return Err(vec![Refusal::limit_exceeded(message)]);
        }
        Ok(Prepared { document, operation_name: parameters.operation_name, variables })
    }

    /// Runs a query or mutation, whoever still waits for it, and hands over one answer: its own, or `UNAVAILABLE` once the
    /// deadline has passed, or `INTERNAL` when it panicked. At the deadline a query stops; a mutation goes on to its end.
    pub fn run<F>(
        &self,
        mut operation: Operation,
        kind: OperationType,
        trace: TraceContext,
        answer: impl FnOnce(Response) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let permit = Arc::clone(&self.running).try_acquire_owned();
        let executor = Arc::clone(&self.executor);
        let deadline = self.settings.operation_timeout;
        let request_id = trace.id;
        let span =
            crate::trace::operation(trace, kind_name(kind), || crate::trace::name_of(&mut operation.request));
        let told = span.clone();
        let work = async move {
            let _running = measure::Open::new(measure::OPERATIONS_RUNNING);
            let begun = Instant::now();
            let measured = move |outcome| {
                let kind = kind_name(kind);
                measure::count(measure::OPERATIONS, &[("kind", kind), ("outcome", outcome)], 1);
                measure::latency(measure::OPERATION_SECONDS, &[("kind", kind)], begun);
            };
            let Ok(_permit) = permit else {
                measured("refused");
                told.fail("refused");
                let refusal = Refusal::new(ErrorCode::Unavailable, "too many operations are running");
                return answer(refusal.into_response()).await;
            };
            tracing::debug!("an operation runs");
            let mut work = AssertUnwindSafe(executor.execute(operation)).catch_unwind();
            match timeout(deadline, &mut work).await {
                Ok(outcome) => {
                    let mut response = outcome.unwrap_or_else(|_| panicked(&request_id));
                    complete_errors(&mut response, &request_id.to_string());
                    if !response.errors.is_empty() {
                        told.fail("graphql");
                    }
                    measured(if response.errors.is_empty() { "ok" } else { "error" });
                    answer(response).await;
                }
                Err(_) => {
                    tracing::warn!("an operation passed its deadline");
                    told.fail("deadline");
                    measured("error");
                    let late = Refusal::late().into_response();
                    if kind == OperationType::Query {
                        // It has no effects; what it would still read is for nobody.
                        drop(work);
                        return answer(late).await;
                    }
                    let (outcome, ()) = tokio::join!(work, answer(late));
                    if outcome.is_err() {
                        panicked(&request_id);
                    }
                }
            }
        };
        self.tasks.spawn(trace::scope(trace, span.around(work)));
    }

    /// Who a token speaks for, asked in a task of its own.
    pub async fn authenticate(&self, access_token: &str, trace: TraceContext) -> Result<Caller, Refusal> {
        let executor = Arc::clone(&self.executor);
        let token = access_token.to_owned();
        let asked = async move { executor.authenticate(&token).await };
        let asked = self.tasks.spawn(trace::scope(trace, asked));
        match timeout(self.settings.operation_timeout, asked).await {
            Ok(Ok(Ok(caller))) if caller.expires_at > self.clock.now() => Ok(caller),
            Ok(Ok(Ok(_))) => Err(Refusal::unauthenticated()),
            Ok(Ok(Err(error))) => Err(Refusal::from(&error)),
            Ok(Err(_)) => Err(Refusal::new(ErrorCode::Internal, "internal error")),
            Err(_) => Err(Refusal::late()),
        }
    }
}

/// The token of `Bearer <token>`; `None` for anything else.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    let token = token.trim_start();
    let valid = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    valid.then_some(token)
}

/// Longer ones are none of ours.
const TOKEN_BYTES_MAX: usize = 4096;

/// What panicked is on standard error, from the panic hook.
fn panicked(request_id: &TraceId) -> Response {
    tracing::error!(request_id = %request_id, "an operation panicked");
    Refusal::new(ErrorCode::Internal, "internal error").into_response()
}
