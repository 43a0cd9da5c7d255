//! The servers behind an address, and connections to them.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
    aio::{ConnectionLike as _, MultiplexedConnection, PubSub},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::{sync::Mutex, time::timeout};

use super::{
    CALL_TIMEOUT, RedisAddress,
    address::{Login, Topology},
};

/// Why servers cannot be talked to, whatever their state.
#[derive(Debug, thiserror::Error)]
pub enum RedisServersError {
    #[error("the file of certificate authorities cannot be read")]
    Authorities(#[source] io::Error),
    #[error("certificate authorities are given, but the address is without TLS (rediss://)")]
    WithoutTls,
    #[error("the settings of Redis do not fit")]
    Client(#[from] RedisError),
}

/// The servers behind an address. Cheap to clone.
#[derive(Clone)]
pub struct RedisServers(Arc<Servers>);

enum Servers {
    Single(Box<Client>),
    /// Asks the Sentinels for the master at each connection.
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster {
        client: Box<ClusterClient>,
        /// Any of them leads to the others.
        nodes: Vec<Client>,
    },
}

impl RedisServers {
    /// `authorities` is a file in PEM, in place of the authorities that the system trusts.
    pub fn new(address: &RedisAddress, authorities: Option<&PathBuf>) -> Result<Self, RedisServersError> {
        let pem = authorities.map(std::fs::read).transpose().map_err(RedisServersError::Authorities)?;
        if pem.is_some() && !address.tls {
            return Err(RedisServersError::WithoutTls);
        }
        if address.tls {
            // Fails when another part of the process has set it, to the same.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let certificates = pem.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        let servers = match &address.topology {
            Topology::Single => {
                let [host] = &address.hosts[..] else { return Err(no_host().into()) };
                Servers::Single(Box::new(client(address, host, certificates)?))
            }
            Topology::Sentinel { master, login } => {
                Servers::Sentinel(Box::new(Mutex::new(sentinel(address, master, login, certificates)?)))
            }
            Topology::Cluster => {
                let nodes = address.hosts.iter().map(|host| client(address, host, certificates.clone()));
                Servers::Cluster {
                    client: Box::new(cluster(address, certificates.clone())?),
                    nodes: nodes.collect::<RedisResult<_>>()?,
                }
            }
        };
        Ok(Self(Arc::new(servers)))
    }

    /// A connection for commands, whichever server their keys are on.
    pub(super) async fn connect(&self) -> RedisResult<Link> {
        in_time(CALL_TIMEOUT, async {
            match &*self.0 {
                Servers::Cluster { client, .. } => client.get_async_connection().await.map(Link::Cluster),
                _ => self.connect_to_one().await.map(Link::One),
            }
        })
        .await
    }

    /// A connection to one server that hears and passes on what is published: in a cluster every node passes it on to all.
    pub(super) async fn connect_to_one(&self) -> RedisResult<MultiplexedConnection> {
        self.on_one(async |client| {
            client.get_multiplexed_async_connection_with_config(&connection_config()).await
        })
        .await
    }

    pub(super) async fn listen(&self) -> RedisResult<PubSub> {
        self.on_one(async |client| client.get_async_pubsub().await).await
    }

    async fn on_one<T>(&self, connect: impl AsyncFn(&Client) -> RedisResult<T>) -> RedisResult<T> {
        match &*self.0 {
            Servers::Single(client) => in_time(CALL_TIMEOUT, connect(client)).await,
            Servers::Sentinel(sentinel) => {
                let client = in_time(CALL_TIMEOUT, async { sentinel.lock().await.async_get_client().await });
                in_time(CALL_TIMEOUT, connect(&client.await?)).await
            }
            Servers::Cluster { nodes, .. } => {
                let mut last = no_host();
                for node in nodes {
                    match in_time(CALL_TIMEOUT, connect(node)).await {
                        Ok(connection) => return Ok(connection),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    /// Whether the servers answer, with this user and password.
    pub async fn check(&self) -> RedisResult<()> {
        let link = self.connect().await?;
        // Any key: in a cluster it leads to the node that has it.
        let mut exists = redis::cmd("EXISTS");
        exists.arg("confab:check");
        in_time(CALL_TIMEOUT, link.query_all(vec![exists])).await.map(drop)
    }
}

/// A connection for commands, shared by all who have a clone.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// The answers, in order. One round trip; in a cluster one to each node concerned, all at once.
    pub async fn query_all(self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        match self {
            Self::One(mut connection) => {
                if let [command] = &commands[..] {
                    return Ok(vec![connection.req_packed_command(command).await?]);
                }
                let mut pipeline = redis::pipe();
                for command in commands {
                    pipeline.add_command(command);
                }
                pipeline.query_async(&mut connection).await
            }
            Self::Cluster(connection) => {
                let answers = commands.into_iter().map(|command| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_command(&command).await }
                });
                try_join_all(answers).await
            }
        }
    }
}

pub(super) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    let late = || RedisError::from((redis::ErrorKind::Io, "no answer in time"));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CALL_TIMEOUT))
        .set_response_timeout(Some(CALL_TIMEOUT))
}

fn no_host() -> RedisError {
    (redis::ErrorKind::InvalidClientConfig, "no host is given").into()
}

fn node(address: &RedisAddress, (host, port): &(String, u16)) -> ConnectionAddr {
    let host = host.clone();
    if address.tls {
        ConnectionAddr::TcpTls { host, port: *port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, *port)
    }
}

fn connection_info(address: &RedisAddress, host: &(String, u16)) -> RedisResult<ConnectionInfo> {
    let mut settings =
        RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_db(address.database);
    if let Some(user) = &address.login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &address.login.password {
        settings = settings.set_password(password);
    }
    Ok(node(address, host).into_connection_info()?.set_redis_settings(settings))
}

fn client(
    address: &RedisAddress,
    host: &(String, u16),
    certificates: Option<TlsCertificates>,
) -> RedisResult<Client> {
    let info = connection_info(address, host)?;
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

fn sentinel(
    address: &RedisAddress,
    master: &str,
    login: &Login,
    certificates: Option<TlsCertificates>,
) -> RedisResult<SentinelClient> {
    let hosts = address.hosts.iter().map(|host| node(address, host));
    let mut builder = SentinelClientBuilder::new(hosts, master, SentinelServerType::Master)?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_db(address.database);
    if let Some(user) = &address.login.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &address.login.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = &login.user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = &login.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if address.tls {
        builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder.build()
}

fn cluster(address: &RedisAddress, certificates: Option<TlsCertificates>) -> RedisResult<ClusterClient> {
    let nodes = address.hosts.iter().map(|host| connection_info(address, host));
    let mut builder = ClusterClient::builder(nodes.collect::<RedisResult<Vec<_>>>()?)
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(CALL_TIMEOUT)
        .response_timeout(CALL_TIMEOUT)
        .retries(1);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build()
}
