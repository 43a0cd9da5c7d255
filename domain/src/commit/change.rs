//! One change, in one transaction of its lane, tried again as a whole when it meets another.

use async_trait::async_trait;
use tracing::Instrument as _;

use super::{back_off, facts_of, publish};
use crate::{
    Domain, Event, LaneId, ServiceError, ServiceResult, Timestamp,
    port::{LaneTransaction, StoreError},
    trace::{self, ExportedSpan, TraceContext},
};

/// Something durable to do under the lock of a lane. `apply` may run several times; it keeps nothing from a run that failed.
#[async_trait]
pub trait Change: Send + 'static {
    type Output: Send + 'static;

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<Self::Output>, ChangeError>;
}

/// What a change did. Committed also where it found itself done already: InnoDB shows what another has committed before that is on
/// disk, and only a commit of its own, whose flush covers what was before, lets the answer promise it. A read position that stands and a direct
/// conversation that is there are answered without one: whoever asks again makes them anew.
pub struct Changed<T> {
    pub events: Vec<Event>,
    pub output: T,
}

impl<T> Changed<T> {
    pub const fn nothing(output: T) -> Self {
        Self { events: Vec::new(), output }
    }

    pub const fn new(events: Vec<Event>, output: T) -> Self {
        Self { events, output }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] ServiceError),
}

impl Domain {
    /// Runs a change in a task of its own: a caller that goes away never cancels a transaction half way (trap 1).
    pub(crate) async fn change<C: Change>(&self, lane: LaneId, change: C) -> ServiceResult<C::Output> {
        let domain = self.clone();
        let timeout = self.services.limits.send_timeout;
        let span = ExportedSpan::part(|| trace::commit(1));
        let trace = span.context();
        let attempted = async move { domain.attempt(lane, change, trace).await };
        let attempted = span.around_result(attempted, |error| error.code().name());
        let task = self.services.tasks.spawn(attempted.in_current_span());
        match tokio::time::timeout(timeout, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(join)) => Err(ServiceError::internal(join)),
            Err(_) => Err(ServiceError::unknown_fate()),
        }
    }

    async fn attempt<C: Change>(
        &self,
        lane: LaneId,
        mut change: C,
        trace: Option<TraceContext>,
    ) -> ServiceResult<C::Output> {
        let mut attempt = 0;
        loop {
            match self.run_once(lane, &mut change, trace).await {
                Ok(output) => return Ok(output),
                Err(ChangeError::Refused(refusal)) => return Err(refusal),
                Err(ChangeError::Store(StoreError::Conflict(_) | StoreError::Duplicate(_)))
                    if attempt < self.services.limits.retries_max =>
                {
                    back_off(attempt, &*self.services.random).await;
                    attempt += 1;
                }
                Err(ChangeError::Store(error)) => return Err(error.into()),
            }
        }
    }

    async fn run_once<C: Change>(
        &self,
        lane: LaneId,
        change: &mut C,
        trace: Option<TraceContext>,
    ) -> Result<C::Output, ChangeError> {
        let now = self.services.clock.now();
        let mut tx = self.services.log.begin(&[lane]).await?;
        let pos = tx.pos(lane);
        match change.apply(&mut *tx, now).await {
            Ok(mut changed) => {
                changed.events.iter_mut().for_each(|event| event.trace = trace);
                let facts = [(lane, facts_of(&changed.events))];
                tx.commit(&facts, now).await?;
                publish(&*self.services.bus, lane, pos, changed.events);
                let [(_, facts)] = &facts;
                self.services.copies.members_changed(facts.iter().map(|logged| &logged.fact)).await;
                Ok(changed.output)
            }
            Err(error) => {
                tx.rollback().await;
                Err(error)
            }
        }
    }
}
