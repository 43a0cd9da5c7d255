//! Redis servers of a test alone, for what must not be done to the one that tests share. They end with the test.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use domain::adapter::redis::{RedisCommands, RedisServers};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::held;

/// How long anything may take that needs no more than a moment.
pub const SOON: Duration = Duration::from_secs(15);

/// The servers behind an address without TLS.
pub fn servers(url: &str) -> RedisServers {
    RedisServers::new(&url.parse().expect("an address"), None).expect("no files are needed")
}

/// A connection for commands, once there is one.
pub async fn commands(servers: RedisServers) -> (RedisCommands, DropGuard) {
    let stop = CancellationToken::new();
    let commands = RedisCommands::start(servers, &held(&stop));
    connected(&commands).await;
    (commands, stop.drop_guard())
}

pub async fn connected(commands: &RedisCommands) {
    let mut connected = commands.is_connected();
    timeout(SOON, connected.wait_for(|connected| *connected)).await.expect("connects").expect("runs");
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub struct RedisServer {
    process: Child,
    pub port: u16,
    folder: TempDir,
}

impl RedisServer {
    /// `None`, loudly, where Redis is not installed.
    pub async fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_with(|_| arguments.iter().map(|argument| (*argument).to_owned()).collect()).await
    }

    /// With arguments that name files in its folder.
    pub async fn start_with(arguments: impl Fn(&Path) -> Vec<String>) -> Option<Self> {
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let port = free_port();
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
            command.arg(folder.path()).args(arguments(folder.path()));
            let server = launch(command, port, folder)?;
            if let Some(server) = server.ready(port).await {
                return Some(server);
            }
        }
        panic!("redis-server does not start");
    }

    /// A Sentinel alone, which watches a master and may appoint another by itself.
    pub async fn sentinel(master: u16) -> Option<Self> {
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let port = free_port();
            let file = folder.path().join("sentinel.conf");
            let settings = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
            );
            fs::write(&file, settings).expect("writes");
            let mut command = Command::new("redis-server");
            command.arg(file).arg("--sentinel").arg("--dir").arg(folder.path());
            let server = launch(command, port, folder)?;
            if let Some(server) = server.ready(port).await {
                return Some(server);
            }
        }
        panic!("redis-server does not start as a Sentinel");
    }

    /// With TLS alone, and a file of the authority that certifies it.
    pub async fn with_tls(arguments: &[&str]) -> Option<(Self, PathBuf)> {
        let certificates = Certificates::make();
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let port = free_port();
            let mut command = Command::new("redis-server");
            command.args([
                "--port",
                "0",
                "--tls-port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ]);
            command.arg("--tls-cert-file").arg(certificates.file("cert.pem"));
            command.arg("--tls-key-file").arg(certificates.file("key.pem"));
            command.arg("--tls-ca-cert-file").arg(certificates.file("ca.pem"));
            command.args(["--tls-auth-clients", "no", "--dir"]).arg(folder.path()).args(arguments);
            let server = launch(command, port, folder)?;
            if let Some(server) = server.ready(port).await {
                let authority = server.folder.path().join("ca.pem");
                fs::copy(certificates.file("ca.pem"), &authority).expect("copies");
                return Some((server, authority));
            }
        }
        panic!("redis-server does not start with TLS");
    }

    /// Its answer, or that it ended because somebody else has the port.
    async fn ready(mut self, port: u16) -> Option<Self> {
        let end = Instant::now() + SOON;
        loop {
            if self.process.try_wait().expect("a process").is_some() {
                return None;
            }
            if listens(port) {
                return Some(self);
            }
            assert!(Instant::now() < end, "redis-server does not listen");
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Asks something as an administrator.
    pub async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let (first, rest) = command.split_first().expect("a command");
        let mut command = redis::cmd(first);
        command.arg(rest);
        command.query_async(&mut connection).await
    }

    /// Stops answering, as a machine that is stuck; its connections stay open.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    pub fn kill(&mut self) {
        self.process.kill().expect("its own process");
        self.process.wait().expect("ends");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `None`, loudly, where Redis is not installed.
fn launch(mut command: Command, port: u16, folder: TempDir) -> Option<RedisServer> {
    match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(process) => Some(RedisServer { process, port, folder }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED: redis-server is not installed");
            None
        }
        Err(error) => panic!("redis-server: {error}"),
    }
}

/// Three masters that share the keys.
pub async fn cluster() -> Option<Vec<RedisServer>> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        nodes.push(RedisServer::start(&arguments).await?);
    }
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]);
    create.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port))).arg("--cluster-yes");
    let output = create.output().expect("redis-cli is installed with redis-server");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    until("the cluster is whole", async || {
        let mut whole = true;
        for node in &nodes {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await.expect("answers");
            whole &= info.contains("cluster_state:ok");
        }
        whole
    })
    .await;
    Some(nodes)
}

struct Certificates(TempDir);

impl Certificates {
    /// An authority, and a certificate of it for 127.0.0.1.
    fn make() -> Self {
        let made = Self(tempfile::tempdir().expect("a folder"));
        fs::write(made.file("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
            .expect("writes");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        made.openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"));
        made.openssl(&format!("req {key} -keyout key.pem -out request.pem -subj /CN=redis"));
        made.openssl(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile extensions",
        );
        made
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split(' ')).current_dir(self.0.path()).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A port that nobody has at the moment, and nobody the one that a node of a cluster adds 10,000 to get.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// Whether somebody answers, with whatever it is.
fn listens(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let mut answer = [0; 1];
    // Over TLS it is no greeting.
    let answered = |error: std::io::Error| error.kind() == ErrorKind::ConnectionReset;
    stream.write_all(b"PING\r\n").is_ok() && stream.read(&mut answer).map_or_else(answered, |_| true)
}
