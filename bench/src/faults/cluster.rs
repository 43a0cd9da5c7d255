//! The installation under test: processes of every role on loopback, and the back ends, which `scripts/services` starts and kills.

use std::{
    fs::File,
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

const SECRET: &str = "a-secret-of-the-fault-harness-alone";
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// A process of ours.
pub struct Node {
    pub role: &'static str,
    pub port: u16,
    pub admin: u16,
    process: Option<Child>,
}

/// Where everything is.
pub struct Setup {
    pub binary: PathBuf,
    pub folder: PathBuf,
    pub database: String,
    pub redis: String,
    pub brokers: String,
}

pub struct Cluster {
    setup: Setup,
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Two of each role, migrated and ready.
    pub async fn start(setup: Setup) -> io::Result<Self> {
        let roles = ["domain", "domain", "api", "api", "worker", "worker"];
        let ports = free_ports(roles.len() * 2)?;
        let nodes = roles.into_iter().zip(ports.chunks(2)).map(|(role, ports)| match ports {
            [port, admin] => Ok(Node { role, port: *port, admin: *admin, process: None }),
            _ => Err(io::Error::other("too few ports")),
        });
        let mut cluster = Self { setup, nodes: nodes.collect::<io::Result<_>>()? };
        for arguments in [&["migrate"][..], &["keys", "new"]] {
            let status = cluster.command("tool", 0, 0).args(arguments).status()?;
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

    pub fn api_urls(&self) -> Vec<String> {
        self.of_role("api")
            .into_iter()
            .map(|node| format!("http://127.0.0.1:{}", self.nodes[node].port))
            .collect()
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

    /// Resident memory in KiB and open descriptors of a process.
    pub fn resources(&self, node: usize) -> Option<(u64, usize)> {
        let id = self.nodes[node].process.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident = resident.trim().trim_end_matches(" kB").parse().ok()?;
        Some((resident, std::fs::read_dir(format!("/proc/{id}/fd")).ok()?.count()))
    }

    #[expect(clippy::disallowed_methods, reason = "what the harness was started with goes on to the nodes")]
    fn command(&self, role: &str, port: u16, admin: u16) -> Command {
        let Setup { binary, folder, database, redis, brokers } = &self.setup;
        let mut command = Command::new(binary);
        // None of the caller's settings.
        command.env_clear().envs(
            ["PATH", "HOME", "RUST_LOG"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))),
        );
        let listen = format!("127.0.0.1:{port}");
        let domains: Vec<String> = self
            .of_role("domain")
            .into_iter()
            .map(|node| format!("http://127.0.0.1:{}", self.nodes[node].port))
            .collect();
        command
            .current_dir(folder)
            .env("CONFAB_DATA_DIR", folder.join("data"))
            .env("CONFAB_KEYS_DIR", folder.join("keys"))
            .env("CONFAB_DATABASE_URL", database)
            .env("CONFAB_REDIS_URL", redis)
            .env("CONFAB_KAFKA_BROKERS", brokers)
            .env("CONFAB_KAFKA_TOPIC_PREFIX", database.rsplit('/').next().unwrap_or("confab"))
            .env("CONFAB_SERVICE_SECRET", SECRET)
            .env("CONFAB_RATE_LIMITS", "off")
            .env("CONFAB_DRAIN_SPREAD_MS", "500")
            .env("CONFAB_LISTEN", &listen)
            .env("CONFAB_DOMAIN_LISTEN", &listen)
            .env("CONFAB_ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
        if role == "api" || role == "worker" {
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
    }
}

/// Kills a back end or starts it again; the script knows how.
pub fn service(script: &Path, verb: &str, name: &str) -> io::Result<()> {
    let output = Command::new(script).args([verb, name]).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{verb} {name}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// All at once, so that no two are the same.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
