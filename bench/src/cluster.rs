//! An installation: processes of every role on loopback, and the back ends, which `scripts/services` starts and kills.

use std::{
    fs::File,
    io,
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    slice,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::proxy::Proxy;

const SECRET: &str = "a-secret-of-the-fault-harness-alone";
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const PORT_FREE_WITHIN: Duration = Duration::from_secs(10);
/// Below those that the kernel gives to outgoing connections: a node that is away for a while must get its own back.
const PORTS: Range<u16> = 20_000..30_000;

/// A process of ours.
pub struct Node {
    pub role: &'static str,
    pub port: u16,
    pub admin: u16,
    process: Option<Child>,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Resident memory.
    pub memory_kib: u64,
    pub descriptors: usize,
}

/// Where everything is, and what there shall be.
pub struct Setup {
    pub binary: PathBuf,
    pub folder: PathBuf,
    /// Signing keys; without them a folder of its own.
    pub keys: Option<PathBuf>,
    pub database: String,
    pub redis: String,
    /// Empty for an installation without Kafka.
    pub brokers: String,
    /// One process each.
    pub roles: Vec<&'static str>,
    /// Further settings.
    pub environment: Vec<(&'static str, String)>,
    /// Whether the links to back ends and domains can be spoiled.
    pub proxied: bool,
}

pub struct Cluster {
    setup: Setup,
    pub nodes: Vec<Node>,
    links: Option<Links>,
    /// The folder of `scripts/services`.
    pub services: PathBuf,
}

/// Proxies between the nodes and what they speak to, and between clients and nodes.
pub struct Links {
    mariadb: Proxy,
    redis: Proxy,
    kafka: Proxy,
    /// One for each domain node, in their order.
    domains: Vec<Proxy>,
    /// One for each API node, in their order: the way of the clients.
    apis: Vec<Proxy>,
}

impl Links {
    async fn start(setup: &Setup, domains: &[u16], apis: &[u16]) -> io::Result<Self> {
        let mut links = Self {
            mariadb: Proxy::to(place_of(&setup.database)).await?,
            redis: Proxy::to(place_of(&setup.redis)).await?,
            kafka: Proxy::to_broker(&setup.brokers).await?,
            domains: Vec::new(),
            apis: Vec::new(),
        };
        for port in domains {
            links.domains.push(Proxy::to(&format!("127.0.0.1:{port}")).await?);
        }
        for port in apis {
            links.apis.push(Proxy::to(&format!("127.0.0.1:{port}")).await?);
        }
        Ok(links)
    }

    pub fn to(&self, name: &str) -> &[Proxy] {
        match name {
            "mariadb" => slice::from_ref(&self.mariadb),
            "redis" => slice::from_ref(&self.redis),
            "kafka" => slice::from_ref(&self.kafka),
            "api" => &self.apis,
            _ => &self.domains,
        }
    }
}

/// `host:port` of an URL.
fn place_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.split('/').next().unwrap_or(rest);
    place.rsplit('@').next().unwrap_or(place)
}

fn through(proxy: &Proxy, url: &str) -> String {
    url.replacen(place_of(url), &format!("127.0.0.1:{}", proxy.port), 1)
}

impl Cluster {
    /// Migrated and ready.
    pub async fn start(setup: Setup, services: PathBuf) -> io::Result<Self> {
        let ports = free_ports(setup.roles.len() * 2)?;
        let nodes = setup.roles.iter().copied().zip(ports.chunks(2)).map(|(role, ports)| match ports {
            [port, admin] => Ok(Node { role, port: *port, admin: *admin, process: None }),
            _ => Err(io::Error::other("too few ports")),
        });
        let nodes: Vec<Node> = nodes.collect::<io::Result<_>>()?;
        let of_role = |role: &str| -> Vec<u16> {
            nodes.iter().filter(|node| node.role == role).map(|node| node.port).collect()
        };
        let (domains, apis) = (of_role("domain"), of_role("api"));
        let links = if setup.proxied { Some(Links::start(&setup, &domains, &apis).await?) } else { None };
        let mut cluster = Self { setup, nodes, links, services };
        let tools = [&["migrate"][..], &["keys", "new"]];
        for arguments in &tools[..if cluster.setup.keys.is_some() { 1 } else { 2 }] {
            let status = cluster.command("tool", 0, 0).args(*arguments).stdout(Stdio::null()).status()?;
            if !status.success() {
                return Err(io::Error::other(format!("confab {arguments:?}: {status}")));
            }
        }
        for node in 0..cluster.nodes.len() {
            cluster.begin(node)?;
        }
        for node in 0..cluster.nodes.len() {
            cluster.ready(node).await?;
        }
        Ok(cluster)
    }

    pub fn of_role(&self, role: &str) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].role == role).collect()
    }

    /// The proxies in front of something.
    pub fn links_to(&self, name: &str) -> &[Proxy] {
        self.links.as_ref().map_or(&[], |links| links.to(name))
    }

    /// The process of a node.
    pub fn id(&self, node: usize) -> Option<u32> {
        self.nodes[node].process.as_ref().map(Child::id)
    }

    /// As the harness itself reaches it.
    pub fn redis(&self) -> String {
        self.setup.redis.clone()
    }

    /// As the harness itself reaches it.
    pub fn database(&self) -> String {
        self.setup.database.clone()
    }

    /// Where logs are.
    pub fn folder(&self) -> &Path {
        &self.setup.folder
    }

    /// As clients reach the API nodes.
    pub fn api_urls(&self) -> Vec<String> {
        let ports: Vec<u16> = match &self.links {
            Some(links) => links.apis.iter().map(|proxy| proxy.port).collect(),
            None => self.of_role("api").into_iter().map(|node| self.nodes[node].port).collect(),
        };
        ports.into_iter().map(|port| format!("http://127.0.0.1:{port}")).collect()
    }

    pub fn begin(&mut self, node: usize) -> io::Result<()> {
        let Node { role, port, admin, .. } = self.nodes[node];
        let log = File::options().create(true).append(true).open(self.log(role, port))?;
        let mut command = self.command(role, port, admin);
        self.nodes[node].process = Some(command.arg(role).stdout(Stdio::null()).stderr(log).spawn()?);
        Ok(())
    }

    fn log(&self, role: &str, port: u16) -> PathBuf {
        self.setup.folder.join(format!("{role}-{port}.log"))
    }

    pub async fn ready(&self, node: usize) -> io::Result<()> {
        let Node { role, admin, .. } = &self.nodes[node];
        let begun = Instant::now();
        while begun.elapsed() < READY_TIMEOUT {
            let answer = reqwest::get(format!("http://127.0.0.1:{admin}/readyz")).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(io::Error::other(format!("{role} is not ready after {READY_TIMEOUT:?}")))
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self, node: usize) -> io::Result<()> {
        if let Some(mut process) = self.nodes[node].process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for its end; the exit code.
    pub async fn terminate(&mut self, node: usize) -> io::Result<Option<i32>> {
        self.signal(node, "-TERM")?;
        let Some(mut process) = self.nodes[node].process.take() else { return Ok(None) };
        loop {
            if let Some(status) = process.try_wait()? {
                return Ok(status.code());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn signal(&self, node: usize, signal: &str) -> io::Result<()> {
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        let status = Command::new("kill").args([signal, &process.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill {signal}: {status}"))) }
    }

    pub fn resources(&self, node: usize) -> Option<Resources> {
        let id = self.nodes[node].process.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let memory_kib = resident.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Resources { memory_kib, descriptors: std::fs::read_dir(format!("/proc/{id}/fd")).ok()?.count() })
    }

    #[expect(clippy::disallowed_methods, reason = "what the harness was started with goes on to the nodes")]
    fn command(&self, role: &str, port: u16, admin: u16) -> Command {
        let Setup { binary, folder, keys, database, redis, brokers, .. } = &self.setup;
        let mut command = Command::new(binary);
        // None of the caller's settings.
        command.env_clear().envs(
            ["PATH", "HOME", "RUST_LOG"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))),
        );
        let listen = format!("127.0.0.1:{port}");
        let through = |name: &str, url: &str| match &self.links {
            Some(links) => through(&links.to(name)[0], url),
            None => url.to_owned(),
        };
        let domain_ports: Vec<u16> = match &self.links {
            Some(links) => links.domains.iter().map(|proxy| proxy.port).collect(),
            None => self.of_role("domain").into_iter().map(|node| self.nodes[node].port).collect(),
        };
        let domains: Vec<String> =
            domain_ports.into_iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        command
            .current_dir(folder)
            .env("CONFAB_DATA_DIR", folder.join("data"))
            .env("CONFAB_KEYS_DIR", keys.clone().unwrap_or_else(|| folder.join("keys")))
            .env("CONFAB_DATABASE_URL", through("mariadb", database))
            .env("CONFAB_REDIS_URL", through("redis", redis))
            .env("CONFAB_KAFKA_BROKERS", through("kafka", brokers))
            .env("CONFAB_KAFKA_TOPIC_PREFIX", database.rsplit('/').next().unwrap_or("confab"))
            .env("CONFAB_SERVICE_SECRET", SECRET)
            .env("CONFAB_RATE_LIMITS", "off")
            // All who take part come from one address.
            .env("CONFAB_CONNECTIONS_PER_ADDRESS_MAX", "100000")
            .env("CONFAB_DRAIN_SPREAD_MS", "500")
            .env("CONFAB_LISTEN", &listen)
            .env("CONFAB_DOMAIN_LISTEN", &listen)
            .env("CONFAB_ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
        command.envs(self.setup.environment.iter().map(|(name, value)| (*name, value)));
        if (role == "api" || role == "worker") && !domains.is_empty() {
            command.env("CONFAB_DOMAIN_URL", domains.join(","));
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            let _ = self.signal(node, "-CONT");
            let _ = self.kill(node);
        }
        for name in ["mariadb", "redis", "kafka"] {
            let _ = signal_service(&self.services, name, "-CONT");
        }
    }
}

/// Kills a back end or starts it again; the script knows how. One that was killed may hold its port a moment longer, until the last of
/// its threads is gone.
pub fn service(script: &Path, verb: &str, name: &str) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        let output = Command::new(script).args([verb, name]).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => return Ok(()),
            false if said.contains("is taken") && begun.elapsed() < PORT_FREE_WITHIN => {}
            false => return Err(io::Error::other(format!("{verb} {name}: {said}"))),
        }
    }
}

/// Stops a back end, or lets it go on; `scripts/services` has noted its process.
pub fn signal_service(folder: &Path, name: &str, signal: &str) -> io::Result<()> {
    let id = std::fs::read_to_string(folder.join(name).join("pid"))?;
    let status = Command::new("kill").args([signal, id.trim()]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill {signal} {name}: {status}"))) }
}

/// All at once, so that no two are the same. Two runs side by side begin at different places.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let first = u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start)).unwrap_or(0);
    let ports = (PORTS.start + first..PORTS.end).chain(PORTS);
    let listeners: Vec<TcpListener> =
        ports.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(count).collect();
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
