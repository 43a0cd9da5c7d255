//! What both edges do with a request, and what they share to do it.
//!
//! [`Edge::find`] and [`Edge::prepare`] refuse what must not run; [`Edge::run`] runs the rest in a task of its own, which
//! a client that goes away does not cancel: a transaction cut half way could take others' writes with it.

use std::{
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_graphql::{
    Request, Response, Value, Variables,
    parser::types::{OperationDefinition, OperationType},
    value,
};
use domain::{
    Caller, DocumentHash, ErrorCode, Spent, measure,
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
    cost::{Counted, cost},
    document::{Document, Documents, kind_name},
    executor::{Executor, Operation, Paid},
    parameters::Parameters,
    refusal::{Refusal, complete_errors},
    rules::{FAULTS_MAX, more_faults},
    schema::types::scalars::DateTime,
    settings::Settings,
    trusted::{ManifestError, Trusted},
    typesystem::{TypeSystem, TypeSystemError},
};

/// What registering a document costs beyond its operation: as much as a write.
const REGISTRATION: u32 = 10;

/// Bytes of a document that are read and held against the rules for one. A choice, so that what is refused has an end and what is
/// read in earnest is not dear: no document was timed against it.
const BYTES_FOR_ONE: usize = 256;

/// What the edges are made of.
pub struct Edge {
    pub settings: Settings,
    pub executor: Arc<dyn Executor>,
    pub documents: Documents,
    /// The documents that alone may run; `None` where all may.
    trusted: Option<Trusted>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// What must end before the process does.
    pub tasks: TaskTracker,
    running: Arc<Semaphore>,
}

/// Who asks, and from where.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker {
    /// `None` without a token.
    pub caller: Option<Caller>,
    /// After trusted proxies.
    pub address: Option<IpAddr>,
}

/// The document that a request means.
pub struct Found {
    pub document: Arc<Document>,
    pub kind: OperationType,
    /// Under which it is to be registered once it is known to be valid.
    register: Option<DocumentHash>,
}

/// An operation that may run, and is paid for.
pub struct Prepared {
    pub document: Arc<Document>,
    pub operation_name: Option<String>,
    pub variables: Variables,
    pub paid: Paid,
}

impl Prepared {
    pub fn into_request(self) -> Request {
        let mut request = Request::new(String::new()).variables(self.variables);
        request.operation_name = self.operation_name;
        request.set_parsed_query(self.document.parsed.clone());
        request
    }
}

/// The edges cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error(transparent)]
    Schema(#[from] TypeSystemError),
    #[error(transparent)]
    Trusted(#[from] ManifestError),
}

impl Edge {
    pub fn new(
        settings: Settings,
        sdl: &str,
        executor: Arc<dyn Executor>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, EdgeError> {
        let types = Arc::new(TypeSystem::parse(sdl)?);
        let mut seed = [0; 8];
        random.fill(&mut seed);
        let documents = Documents::new(
            settings.limits.clone(),
            types,
            settings.cached_documents_bytes_max,
            u64::from_ne_bytes(seed),
        );
        let trusted = Trusted::read(&settings.trusted_documents, &documents)?;
        let running = Arc::new(Semaphore::new(settings.operations_max));
        let tasks = TaskTracker::new();
        Ok(Self { settings, executor, documents, trusted, clock, random, tasks, running })
    }

    /// The document of a request, and what kind of operation it asks for.
    pub async fn find(&self, parameters: &Parameters) -> Result<Found, Refusal> {
        let (text, id) = (parameters.query.as_deref(), parameters.document_id.as_deref());
        let (document, register) = match (&self.trusted, text, id) {
            (Some(trusted), text, id) => (self.documents.read(trusted.find(id, text)?)?, None),
            (None, Some(text), None) => (self.documents.read(text)?, None),
            (None, Some(text), Some(id)) => {
                let hash = DocumentHash::parse(id).filter(|hash| DocumentHash::of(text) == *hash);
                let hash =
                    hash.ok_or_else(|| Refusal::bad_request("the hash is not that of the document"))?;
                (self.documents.read(text)?, Some(hash))
            }
            (None, None, id) => {
                let hash = id.and_then(DocumentHash::parse);
                let hash = hash.ok_or_else(Refusal::persisted_query_not_found)?;
                let text = self.executor.document(hash).await;
                (self.documents.read(&text.ok_or_else(Refusal::persisted_query_not_found)?)?, None)
            }
        };
        let (_, operation) = document.operation(parameters.operation_name.as_deref())?;
        let kind = operation.node.ty;
        Ok(Found { document, kind, register })
    }

    /// Coerces the variables, counts what the operation may cost with them, and takes that from the asker's budget. Nothing has run
    /// when it fails.
    pub async fn prepare(
        &self,
        parameters: Parameters,
        found: Found,
        asker: Asker,
    ) -> Result<Prepared, Vec<Refusal>> {
        let Parameters { operation_name, variables, wants_cost, .. } = parameters;
        let Found { document, register, .. } = found;
        let (variables, cost) = self.check(&document, operation_name.as_deref(), variables)?;
        let registering = if register.is_some() { REGISTRATION } else { 0 };
        // Nothing is free: even what reads no row takes time, and so does a document that is seen for the first time, or never
        // keeps the rules.
        let least = if document.is_valid() { 1 } else { reading(document.source().len()) };
        let cost = u32::try_from(cost).unwrap_or(u32::MAX).max(least).saturating_add(registering);
        let spent = self.pay(asker, cost).await.map_err(|refusal| vec![refusal])?;
        let paid = Paid { cost, spent, told: wants_cost };
        let prepared = Prepared { document, operation_name, variables, paid };
        if let Some(hash) = register {
            self.register(hash, &prepared).await?;
        }
        Ok(prepared)
    }

    /// What an asker gets for a request that is refused: that takes time, too, the more the longer its document is, so that even refusals
    /// have an end.
    pub async fn refuse(
        &self,
        mut refusals: Vec<Refusal>,
        document_bytes: usize,
        asker: Asker,
    ) -> Vec<Refusal> {
        if refusals.iter().any(|refusal| refusal.code == ErrorCode::RateLimited) {
            return refusals;
        }
        if refusals.len() > FAULTS_MAX {
            refusals.truncate(FAULTS_MAX);
            refusals.push(more_faults());
        }
        // What is too long was not read.
        let read = document_bytes.min(self.settings.limits.document_bytes_max);
        match self.pay(asker, reading(read)).await {
            Ok(_) => refusals,
            Err(refusal) => vec![refusal],
        }
    }

    /// The first trusted document that the schema refuses, with the reason.
    pub async fn invalid_trusted(&self) -> Option<ManifestError> {
        self.trusted.as_ref()?.first_fault(async |text| self.fault_of(text).await).await
    }

    async fn fault_of(&self, text: &str) -> Option<String> {
        let document = match self.documents.read(text) {
            Ok(document) => document,
            Err(refusal) => return Some(refusal.message.into_owned()),
        };
        if let Some(fault) = document.faults.first() {
            return Some(fault.message.to_string());
        }
        // Any of its operations will do: all are looked at.
        let name = document.parsed.operations.iter().next().and_then(|(name, _)| name);
        let mut request = Request::new(String::new());
        request.operation_name = name.map(ToString::to_string);
        request.set_parsed_query(document.parsed.clone());
        self.executor.validate(request).await.into_iter().next().map(|error| error.message)
    }

    fn check(
        &self,
        document: &Document,
        operation_name: Option<&str>,
        variables: Variables,
    ) -> Result<(Variables, u64), Vec<Refusal>> {
        if !document.faults.is_empty() {
            return Err(document.faults.clone());
        }
        let types = self.documents.types();
        let (_, operation) = document.operation(operation_name).map_err(|refusal| vec![refusal])?;
        let operation = &operation.node;
        let variables = coerce_variables(types, operation, variables)?;
        // The hub reads those of a subscription's one field.
        if let Some(root) = types.root(operation.ty).filter(|_| operation.ty != OperationType::Subscription) {
            check_arguments(types, &document.parsed, operation, root, &variables)
                .map_err(|refusal| vec![refusal])?;
        }
        let cost = match document.fixed_cost.get() {
            Some(cost) => *cost,
            None => self.count(document, operation, &variables),
        };
        let max = self.settings.limits.cost_max;
        if cost > max {
            let message = format!(
                "the operation costs {cost}, more than {max}: ask for smaller pages, or for less in each item"
            );
            return Err(vec![Refusal::limit_exceeded(message)]);
        }
        Ok((variables, cost))
    }

    fn count(&self, document: &Document, operation: &OperationDefinition, variables: &Variables) -> u64 {
        let Counted { cost, is_fixed } = cost(self.documents.types(), &document.parsed, operation, variables);
        if is_fixed && document.is_single() {
            document.fixed_cost.get_or_init(|| cost);
        }
        cost
    }

    async fn pay(&self, asker: Asker, cost: u32) -> Result<Option<Spent>, Refusal> {
        let Asker { caller, address } = asker;
        self.executor.spend(caller.as_ref(), address, cost).await.map_err(|error| Refusal::from(&error))
    }

    /// Keeps a document for all nodes unless it is known. Only a valid one: nobody fills the store with what never runs.
    async fn register(&self, hash: DocumentHash, prepared: &Prepared) -> Result<(), Vec<Refusal>> {
        if self.executor.document(hash).await.is_some() {
            return Ok(());
        }
        let Prepared { document, operation_name, variables, .. } = prepared;
        let mut request = Request::new(String::new()).variables(variables.clone());
        request.operation_name.clone_from(operation_name);
        request.set_parsed_query(document.parsed.clone());
        let errors = self.executor.validate(request).await;
        if errors.is_empty() {
            document.set_valid();
            self.executor.keep_document(hash, document.source()).await;
            return Ok(());
        }
        Err(errors.into_iter().map(Refusal::of_rule).collect())
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
        let (deadline, max) = (self.settings.operation_timeout, self.settings.limits.cost_max);
        let (request_id, paid) = (trace.id, operation.paid);
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
                    if paid.told {
                        response.extensions.insert("cost".to_owned(), told_cost(paid, max));
                    }
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

    /// Who a token speaks for.
    pub fn authenticate(&self, access_token: &str) -> Result<Caller, Refusal> {
        let asked = catch_unwind(AssertUnwindSafe(|| self.executor.authenticate(access_token)));
        match asked {
            Ok(Ok(caller)) if caller.expires_at > self.clock.now() => Ok(caller),
            Ok(Ok(_)) => Err(Refusal::unauthenticated()),
            Ok(Err(error)) => Err(Refusal::from(&error)),
            Err(_) => Err(Refusal::new(ErrorCode::Internal, "internal error")),
        }
    }
}

/// What reading a document costs.
fn reading(bytes: usize) -> u32 {
    u32::try_from(1 + bytes / BYTES_FOR_ONE).unwrap_or(u32::MAX)
}

/// What `extensions.cost` of an answer says; the budget only where there is one.
fn told_cost(paid: Paid, max: u64) -> Value {
    let requested = paid.cost;
    match paid.spent {
        None => value!({ "requested": requested, "max": max }),
        Some(spent) => value!({
            "requested": requested,
            "max": max,
            "budget": {
                "burst": spent.budget.burst,
                "perSecond": spent.budget.per_second,
                "remaining": spent.left,
                "fullAt": async_graphql::ScalarType::to_value(&DateTime(spent.full_at)),
            },
        }),
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
