//! The operations of one socket: opened, bounded in number, and sends kept in the order they came.

use std::{
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_graphql::{ServerError, parser::types::OperationType};
use domain::{
    Caller, ErrorCode,
    trace::{TraceContext, TraceId},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::outbound::{Outbound, serialise_response};
use crate::{
    connection::{ConnectionRenewal, SendTurn},
    document::kind_name,
    edge::{Asker, Edge, Prepared},
    executor::{Operation, Subscription},
    parameters::Parameters,
    refusal::{Refusal, is_request_error},
};

/// The mutation whose calls on one socket take effect in the order they came.
const ORDERED_MUTATION: &str = "sendMessage";

pub(super) struct Opener {
    edge: Arc<Edge>,
    outbound: Outbound,
    /// One for each operation until it has ended and, for queries and mutations, stopped running.
    permits: Arc<Semaphore>,
    permits_max: usize,
    address: Option<IpAddr>,
    caller: Option<Caller>,
    renewal: Option<ConnectionRenewal>,
    /// Resolves when the last send is enqueued.
    last_send: Option<oneshot::Receiver<()>>,
}

impl Opener {
    pub(super) fn new(
        edge: Arc<Edge>,
        outbound: Outbound,
        permits: Arc<Semaphore>,
        address: Option<IpAddr>,
    ) -> Self {
        let permits_max = permits.available_permits();
        let (caller, renewal, last_send) = (None, None, None);
        Self { edge, outbound, permits, permits_max, address, caller, renewal, last_send }
    }

    /// Lets operations renew for whom the socket speaks.
    pub(super) fn renewed_by(&mut self, renewal: ConnectionRenewal) {
        self.renewal = Some(renewal);
    }

    /// Speaks for a caller from now on.
    pub(super) fn sign_in(&mut self, caller: Caller) {
        self.caller = Some(caller);
    }

    /// Returns when no query or mutation runs any more.
    pub(super) async fn idle(&self) {
        let all = u32::try_from(self.permits_max).unwrap_or(u32::MAX);
        // Never closed.
        let _ = self.permits.acquire_many(all).await;
    }

    /// Opens an operation whose id is free. What is wrong with it goes to the client as an `error`.
    ///
    /// The socket is not read meanwhile, so that what comes next may rely on the order: that is the time in which a shared budget or a
    /// registered document is asked for, and Redis has a short deadline.
    pub(super) async fn open(&mut self, id: &str, parameters: Parameters) {
        let id: Arc<str> = id.into();
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            let message = format!("more than {} operations on one socket", self.permits_max);
            self.outbound.refuse(&id, &[Refusal::limit_exceeded(message).into()]);
            return;
        };
        let trace = TraceId::generate(&*self.edge.random).into();
        let asker = Asker { caller: self.caller, address: self.address };
        let document_bytes = parameters.document_bytes();
        match self.prepare(parameters, asker).await {
            Err(refusals) => {
                let refusals = self.edge.refuse(refusals, document_bytes, asker).await;
                let errors: Vec<ServerError> = refusals.into_iter().map(ServerError::from).collect();
                self.outbound.refuse(&id, &errors);
            }
            Ok((prepared, OperationType::Subscription)) => self.subscribe(&id, permit, prepared, trace),
            Ok((prepared, kind)) => self.run(&id, permit, prepared, kind, trace),
        }
    }

    async fn prepare(
        &self,
        parameters: Parameters,
        asker: Asker,
    ) -> Result<(Prepared, OperationType), Vec<Refusal>> {
        let found = self.edge.find(&parameters).await.map_err(|refusal| vec![refusal])?;
        let kind = found.kind;
        Ok((self.edge.prepare(parameters, found, asker).await?, kind))
    }

    fn subscribe(
        &self,
        id: &Arc<str>,
        permit: OwnedSemaphorePermit,
        prepared: Prepared,
        trace: TraceContext,
    ) {
        self.outbound.queue.open(id, Some(permit), self.caller);
        // For the opening alone: what comes of it belongs to the requests that cause it.
        let _opening = crate::trace::operation(trace, kind_name(OperationType::Subscription), || {
            let (name, _) = prepared.document.operation(prepared.operation_name.as_deref()).ok()?;
            name.map(ToString::to_string)
        });
        let subscription = Subscription {
            operation_id: Arc::clone(id),
            document: prepared.document,
            operation_name: prepared.operation_name,
            variables: prepared.variables,
            caller: self.caller,
            address: self.address,
            outbound: self.outbound.clone(),
            trace,
        };
        let _span = trace.id.span().entered();
        let executor = &self.edge.executor;
        match catch_unwind(AssertUnwindSafe(|| executor.subscribe(subscription))) {
            Ok(guard) => self.outbound.queue.attach(id, guard),
            Err(_) => {
                tracing::error!(request_id = %trace.id, "a subscription panicked");
                let mut response = Refusal::new(ErrorCode::Internal, "internal error").into_response();
                crate::refusal::complete_errors(&mut response, &trace.id.to_string());
                self.outbound.error(id, &response.errors);
            }
        }
    }

    fn run(
        &mut self,
        id: &Arc<str>,
        permit: OwnedSemaphorePermit,
        prepared: Prepared,
        kind: OperationType,
        trace: TraceContext,
    ) {
        self.outbound.queue.open(id, None, None);
        let is_send = kind == OperationType::Mutation && is_send(&prepared);
        let (paid, document) = (prepared.paid, Arc::clone(&prepared.document));
        let mut request = prepared.into_request();
        if is_send {
            request = request.data(self.next_turn());
        }
        if let Some(renewal) = &self.renewal {
            request = request.data(renewal.clone());
        }
        // Held by the request as long as the operation runs, and by the answer until it is in the queue.
        let permit = Arc::new(permit);
        let request = request.data(Arc::clone(&permit));
        let operation = Operation { request, document, caller: self.caller, address: self.address, paid };
        let (outbound, id) = (self.outbound.clone(), Arc::clone(id));
        self.edge.run(operation, kind, trace, async move |response| {
            if is_request_error(&response) {
                drop(permit);
                outbound.error(&id, &response.errors);
            } else {
                outbound.answer(&id, serialise_response(&response), permit).await;
            }
        });
    }

    fn next_turn(&mut self) -> SendTurn {
        let (done, enqueued) = oneshot::channel();
        SendTurn::new(self.last_send.replace(enqueued), done)
    }
}

fn is_send(prepared: &Prepared) -> bool {
    let operation = prepared.document.operation(prepared.operation_name.as_deref());
    operation.is_ok_and(|(_, operation)| prepared.document.has_root_field(&operation.node, ORDERED_MUTATION))
}
