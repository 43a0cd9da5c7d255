//! One `confab domain`, and whether it answers.
//!
//! A connection that looks open says little: a stopped process still accepts (trap 8). So each endpoint is asked for its health twice
//! a second, and what waits for one that went out is let go at once.

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};
use tonic::{
    Code, ConnectError, Request, Response, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint as Transport},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    HEALTH_INTERVAL, HEALTH_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    metadata::{Outgoing, ServiceSecret},
    sends::Sends,
    server::SERVICE,
    status::refusal,
};
use crate::{LaneId, ServiceError, contract::proto::domain_client::DomainClient, lifeline::Held, measure};

pub(crate) type Client = DomainClient<InterceptedService<Channel, Outgoing>>;

pub(super) struct Endpoint {
    pub address: String,
    client: Client,
    health: watch::Receiver<Health>,
    pub sends: Sends,
    seed: u64,
}

/// What an endpoint said when it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Serving,
    /// It answers, but its database does not, or it stops: what it is asked it refuses by itself, in its own time.
    Troubled,
    Silent,
}

/// Why a call brought no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The domain said no.
    Refused(ServiceError),
    /// It never left this process.
    Unsent,
    /// It may or may not have been done.
    Unknown(Status),
}

impl Lost {
    /// For spans.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code().name(),
            Self::Unsent => "unsent",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Endpoint {
    pub fn start(address: String, transport: Transport, secret: ServiceSecret, held: &Held) -> Self {
        let transport = transport
            .connect_timeout(HEALTH_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = transport.connect_lazy();
        let client = DomainClient::with_interceptor(channel.clone(), Outgoing(secret))
            .max_decoding_message_size(REPLY_BYTES_MAX)
            .max_encoding_message_size(REQUEST_BYTES_MAX);
        // Trusted until the first answer, or a process that has just started would refuse its first calls.
        let (report, health) = watch::channel(Health::Serving);
        held.spawn("watch of a domain's health", watch_health(address.clone(), channel, report));
        let sends = Sends::start(client.clone(), health.clone(), held);
        let seed = xxh3_64(address.as_bytes());
        Self { address, client, health, sends, seed }
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn is_up(&self) -> bool {
        *self.health.borrow() == Health::Serving
    }

    fn is_silent(&self) -> bool {
        *self.health.borrow() == Health::Silent
    }

    /// Rendezvous hashing (Thaler and Ravishankar, 1998): a lane belongs to the endpoint where this is highest, and moves only when
    /// that one goes.
    pub fn score(&self, lane: LaneId) -> u64 {
        xxh3_64_with_seed(&lane.0.to_be_bytes(), self.seed)
    }

    /// Waits for an answer as long as the endpoint is up; one that is down is given until its next sign of life, and one that gives such
    /// signs and is the `last_resort` as long as it takes to say what it lacks.
    pub async fn attempt<P>(
        &self,
        deadline: Instant,
        last_resort: bool,
        call: impl Future<Output = Result<Response<P>, Status>>,
    ) -> Result<P, Lost> {
        let mut health = self.health.clone();
        let waits = self.is_up() || last_resort && !self.is_silent();
        let wait = if waits { deadline } else { deadline.min(Instant::now() + HEALTH_TIMEOUT) };
        let gone = async {
            if *health.borrow_and_update() == Health::Serving {
                let _ = health.wait_for(|health| *health != Health::Serving).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            answer = timeout_at(wait, call) => match answer {
                Ok(Ok(response)) => Ok(response.into_inner()),
                Ok(Err(status)) => Err(lost(status)),
                Err(_) => Err(Lost::Unknown(Status::deadline_exceeded("no answer in time"))),
            },
            () = gone => Err(Lost::Unknown(Status::unavailable("the endpoint stopped answering"))),
        }
    }
}

pub(super) fn lost(status: Status) -> Lost {
    if let Some(refusal) = refusal(&status) {
        return Lost::Refused(refusal);
    }
    match status.code() {
        Code::Unavailable if never_connected(&status) => Lost::Unsent,
        // The last is how a connection ends whose other side has had enough (GOAWAY with ENHANCE_YOUR_CALM): the domain's own
        // refusals are told apart above.
        Code::Unavailable
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Unknown
        | Code::Internal
        | Code::ResourceExhausted => Lost::Unknown(status),
        // The other side speaks another language: a wrong secret, another version, too large a message.
        _ => Lost::Refused(ServiceError::internal(status)),
    }
}

fn never_connected(status: &Status) -> bool {
    let mut next = std::error::Error::source(status);
    while let Some(cause) = next {
        if cause.is::<ConnectError>() {
            return true;
        }
        next = cause.source();
    }
    false
}

async fn watch_health(address: String, channel: Channel, report: watch::Sender<Health>) {
    let mut client = HealthClient::new(channel);
    let mut ticks = interval(HEALTH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let request = Request::new(HealthCheckRequest { service: SERVICE.to_owned() });
        let answer = timeout(HEALTH_TIMEOUT, client.check(request)).await;
        let health = match &answer {
            Ok(Ok(said)) if said.get_ref().status() == ServingStatus::Serving => Health::Serving,
            Ok(Ok(_)) => Health::Troubled,
            Ok(Err(_)) | Err(_) => Health::Silent,
        };
        let serving = health == Health::Serving;
        measure::set_of(measure::ENDPOINT_UP, "address", address.clone(), f64::from(u8::from(serving)));
        let before = report.send_replace(health);
        let changed = (before == Health::Serving) != serving;
        if changed && serving {
            tracing::info!(domain.address = %address, "a domain endpoint serves again");
        } else if changed {
            let why = match answer {
                Ok(Ok(_)) => "it says that it does not serve".to_owned(),
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => "no answer in time".to_owned(),
            };
            tracing::warn!(domain.address = %address, error = %why, "a domain endpoint is out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, grpc::status::to_status};

    #[test]
    fn only_the_domain_itself_refuses_for_want_of_resources() {
        let told = lost(to_status(&ServiceError::new(ErrorCode::RateLimited, "slower")));
        assert!(matches!(told, Lost::Refused(refusal) if refusal.code() == ErrorCode::RateLimited));
        let broken = lost(Status::resource_exhausted("h2 protocol error: too_many_resets"));
        assert!(matches!(broken, Lost::Unknown(_)), "{broken:?}");
    }
}
