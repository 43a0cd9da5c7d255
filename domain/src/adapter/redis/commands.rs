//! The one connection for commands that presence and cache share: what many ask at the same time goes out in one write.
//!
//! Nobody waits for a Redis that is away. A call has a deadline; one that fails for the connection's sake takes the connection
//! away from all, and until a task of its own has connected anew, calls fail at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    Pause,
    servers::{Link, RedisServers, in_time},
};
use crate::lifeline::Held;

/// How long one call may take. Redis answers in less than 1 ms; whoever asks a cache has something better to do than to wait.
pub const COMMAND_TIMEOUT: Duration = Duration::from_millis(200);
/// A connection that lived for so long was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Clone)]
pub struct RedisCommands(Arc<Shared>);

struct Shared {
    servers: RedisServers,
    current: Mutex<Current>,
    lost: Notify,
    connected: watch::Sender<bool>,
}

#[derive(Default)]
struct Current {
    link: Option<Link>,
    /// Counts connections.
    number: u64,
}

impl RedisCommands {
    /// Starts to connect, again and again until it is stopped.
    pub fn start(servers: RedisServers, held: &Held) -> Self {
        let shared = Arc::new(Shared {
            servers,
            current: Mutex::default(),
            lost: Notify::new(),
            connected: watch::Sender::new(false),
        });
        let keeping = shared.clone();
        held.spawn(
            "connection for commands to Redis",
            async move { Box::pin(keeping.keep_connected()).await },
        );
        Self(shared)
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> watch::Receiver<bool> {
        self.0.connected.subscribe()
    }

    /// Which connection it is. Another number means that Redis was away, and may have lost everything.
    pub(super) fn number(&self) -> u64 {
        self.0.lock().number
    }

    /// The answers, in order, in one round trip.
    pub(super) async fn query_all(&self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        let (link, number) = {
            let current = self.0.lock();
            (current.link.clone().ok_or_else(away)?, current.number)
        };
        let answers = in_time(COMMAND_TIMEOUT, link.query_all(commands)).await;
        answers.inspect_err(|error| {
            if tells_of_connection(error) {
                self.0.lose(number, error);
            }
        })
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, number: u64, error: &RedisError) {
        let mut current = self.lock();
        // Others may have noticed it before.
        if current.number == number && current.link.take().is_some() {
            tracing::warn!(error = %error, "Redis does not answer commands; doing without until it does");
            self.connected.send_replace(false);
            self.lost.notify_one();
        }
    }

    async fn keep_connected(self: Arc<Self>) {
        let mut pause = Pause::default();
        let mut told = false;
        loop {
            match self.servers.connect().await {
                Ok(link) => {
                    let since = Instant::now();
                    {
                        let mut current = self.lock();
                        current.link = Some(link);
                        current.number += 1;
                    }
                    if std::mem::take(&mut told) {
                        tracing::info!("Redis answers commands again");
                    }
                    self.connected.send_replace(true);
                    self.lost.notified().await;
                    told = true;
                    if since.elapsed() > GOOD_LIFE {
                        pause.reset();
                    }
                }
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(error = %error, "Redis (CONFAB_REDIS_URL) cannot be reached; doing without until it can");
                }
                Err(error) => tracing::debug!(error = %error, "Redis still cannot be reached"),
            }
            pause.wait().await;
        }
    }
}

fn away() -> RedisError {
    (ErrorKind::Io, "Redis is away").into()
}

/// Whether another connection, perhaps to another server, may do better.
fn tells_of_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
        ),
        ErrorKind::Extension | ErrorKind::UnexpectedReturnType => false,
        _ => true,
    }
}
