//! What can be broken, and how each thing is broken and mended.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bench::{
    cluster::{Cluster, service, signal_service},
    proxy::Link,
    redis,
};
use clap::ValueEnum;
use tokio::time::sleep;

use crate::{Failure, actors::Stage, disconnects::disconnects};

/// Longer than a lane's lease and than a call's deadline.
const STOPPED_FOR: Duration = Duration::from_secs(7);
/// Longer than the view of a back end may be trusted, shorter than the time in which its loss has to be noticed.
const HALF_OPEN_FOR: Duration = Duration::from_secs(5);
/// Subscriptions of the bus that are cut in one cycle.
const PUBSUB_KILLS: u32 = 1000;
/// Calls of one cycle, half of which are dropped.
const STORM_CALLS: usize = 400;
const SLOW: Link = Link::Slow { delay: Duration::from_millis(20), jitter: Duration::from_millis(60) };

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    KillApi,
    KillDomain,
    KillWorker,
    KillMariadb,
    KillRedis,
    KillKafka,
    StopApi,
    StopDomain,
    StopWorker,
    StopMariadb,
    StopRedis,
    StopKafka,
    HalfOpenMariadb,
    HalfOpenRedis,
    HalfOpenKafka,
    HalfOpenDomain,
    CutMariadb,
    CutRedis,
    CutKafka,
    CutDomain,
    SlowMariadb,
    SlowRedis,
    SlowKafka,
    SlowDomain,
    FlushRedis,
    KillPubsub,
    CancelStorm,
    RollingRestart,
    Disconnects,
    Revocations,
    RevocationsWithoutRedis,
}

/// What a fault does, and to what.
#[derive(Clone, Copy)]
enum Act {
    Kill(&'static str),
    Stop(&'static str),
    KillService(&'static str),
    StopService(&'static str),
    Spoil(&'static str, Link),
    FlushRedis,
    KillPubsub,
    CancelStorm,
    RollingRestart,
    Disconnects,
    Revocations { without_redis: bool },
}

impl Fault {
    const fn act(self) -> Act {
        match self {
            Self::KillApi => Act::Kill("api"),
            Self::KillDomain => Act::Kill("domain"),
            Self::KillWorker => Act::Kill("worker"),
            Self::KillMariadb => Act::KillService("mariadb"),
            Self::KillRedis => Act::KillService("redis"),
            Self::KillKafka => Act::KillService("kafka"),
            Self::StopApi => Act::Stop("api"),
            Self::StopDomain => Act::Stop("domain"),
            Self::StopWorker => Act::Stop("worker"),
            Self::StopMariadb => Act::StopService("mariadb"),
            Self::StopRedis => Act::StopService("redis"),
            Self::StopKafka => Act::StopService("kafka"),
            Self::HalfOpenMariadb => Act::Spoil("mariadb", Link::HalfOpen),
            Self::HalfOpenRedis => Act::Spoil("redis", Link::HalfOpen),
            Self::HalfOpenKafka => Act::Spoil("kafka", Link::HalfOpen),
            Self::HalfOpenDomain => Act::Spoil("domain", Link::HalfOpen),
            Self::CutMariadb => Act::Spoil("mariadb", Link::Cut),
            Self::CutRedis => Act::Spoil("redis", Link::Cut),
            Self::CutKafka => Act::Spoil("kafka", Link::Cut),
            Self::CutDomain => Act::Spoil("domain", Link::Cut),
            Self::SlowMariadb => Act::Spoil("mariadb", SLOW),
            Self::SlowRedis => Act::Spoil("redis", SLOW),
            Self::SlowKafka => Act::Spoil("kafka", SLOW),
            Self::SlowDomain => Act::Spoil("domain", SLOW),
            Self::FlushRedis => Act::FlushRedis,
            Self::KillPubsub => Act::KillPubsub,
            Self::CancelStorm => Act::CancelStorm,
            Self::RollingRestart => Act::RollingRestart,
            Self::Disconnects => Act::Disconnects,
            Self::Revocations => Act::Revocations { without_redis: false },
            Self::RevocationsWithoutRedis => Act::Revocations { without_redis: true },
        }
    }

    /// Whether it is a back end that is away, and not a process of ours.
    pub const fn is_of_back_end(self) -> bool {
        matches!(self.act(), Act::KillService(_) | Act::StopService(_))
    }

    /// Whether sends go on while it lasts.
    pub const fn lets_send(self) -> bool {
        !matches!(self, Self::KillMariadb | Self::StopMariadb | Self::HalfOpenMariadb | Self::CutMariadb)
    }

    /// Whether the relay has to find its way to Kafka again.
    pub const fn stops_relay(self) -> bool {
        matches!(self, Self::KillKafka | Self::StopKafka | Self::HalfOpenKafka | Self::CutKafka)
    }

    /// How long after its end everything works again (RELIABILITY).
    pub const fn back_within(self) -> Duration {
        match self.act() {
            Act::Spoil(_, Link::HalfOpen) => Duration::from_secs(10),
            _ => Duration::from_secs(5),
        }
    }

    /// Whether every call is answered meanwhile; a process that is stopped answers none.
    pub fn answers(self) -> bool {
        !matches!(self.act(), Act::Stop("api"))
    }

    /// Breaks something, and mends it.
    pub async fn inject(
        self,
        cycle: usize,
        down: Duration,
        cluster: &mut Cluster,
        stage: &Arc<Stage>,
    ) -> Result<(), Failure> {
        match self.act() {
            Act::Kill(role) => {
                let node = one_of(cluster, role, cycle);
                cluster.kill(node)?;
                sleep(down).await;
                cluster.begin(node)?;
            }
            Act::Stop(role) => {
                let node = one_of(cluster, role, cycle);
                cluster.signal(node, "-STOP")?;
                sleep(down.max(STOPPED_FOR)).await;
                cluster.signal(node, "-CONT")?;
            }
            Act::KillService(name) => {
                script("kill", name).await?;
                sleep(down).await;
                script("up", name).await?;
            }
            Act::StopService(name) => {
                signal_service(&cluster.services, name, "-STOP")?;
                sleep(down.max(STOPPED_FOR)).await;
                signal_service(&cluster.services, name, "-CONT")?;
            }
            Act::Spoil(name, link) => {
                let proxies = cluster.links_to(name);
                // Of several ways to the same, one at a time.
                let proxy = &proxies[cycle % proxies.len()];
                proxy.set(link);
                sleep(if link == Link::HalfOpen { down.max(HALF_OPEN_FOR) } else { down }).await;
                proxy.set(Link::Sound);
            }
            Act::FlushRedis => {
                redis::connect(&cluster.redis()).await?.flush().await?;
                sleep(down).await;
            }
            Act::KillPubsub => {
                let mut connection = redis::connect(&cluster.redis()).await?;
                for _ in 0..PUBSUB_KILLS {
                    connection.kill_pubsub().await?;
                    sleep(down / PUBSUB_KILLS).await;
                }
            }
            Act::CancelStorm => stage.storm(STORM_CALLS, cycle).await,
            Act::Disconnects => disconnects(cycle, down, cluster, stage).await?,
            Act::Revocations { without_redis } => {
                if without_redis {
                    script("kill", "redis").await?;
                }
                stage.end_sessions(cycle).await;
                if without_redis {
                    script("up", "redis").await?;
                }
            }
            Act::RollingRestart => {
                let begun = stage.now();
                for node in 0..cluster.nodes.len() {
                    let code = cluster.terminate(node).await?;
                    if code != Some(0) {
                        return Err(format!("{} ended with {code:?}", cluster.nodes[node].role).into());
                    }
                    cluster.begin(node)?;
                    cluster.ready(node).await?;
                }
                let ended = stage.now();
                stage.journal().restarts.push((begun, ended));
            }
        }
        Ok(())
    }
}

fn one_of(cluster: &Cluster, role: &str, cycle: usize) -> usize {
    let nodes = cluster.of_role(role);
    nodes[cycle % nodes.len()]
}

async fn script(verb: &'static str, name: &'static str) -> io::Result<()> {
    let script = PathBuf::from("scripts/services");
    tokio::task::spawn_blocking(move || service(&script, verb, name)).await?
}
