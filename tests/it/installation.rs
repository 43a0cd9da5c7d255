//! An installation of several processes on a MariaDB, and a Kafka or none.

#![expect(clippy::disallowed_methods, reason = "tests start processes and read the environment")]

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::server::{client, confab, mariadb, settings};

/// What api, domain and worker know of each other.
const SECRET: &str = "a-secret-of-the-tests-and-nobody-else";

/// Numbers the logs of this run.
static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Installation {
    folder: tempfile::TempDir,
    pub database: String,
    /// Brokers, and what the names of topics begin with.
    pub kafka: Option<(String, String)>,
    more: Vec<(&'static str, String)>,
}

impl Installation {
    /// `None`, loudly, without a MariaDB. These settings hold for all of its processes.
    pub fn on_mariadb(more: Vec<(&'static str, String)>) -> Option<Self> {
        Some(Self::make(mariadb()?, None, more))
    }

    /// `None`, loudly, without a MariaDB or a Kafka.
    pub fn on_kafka(more: Vec<(&'static str, String)>) -> Option<Self> {
        Self::on_broker(brokers()?, more)
    }

    /// `None`, loudly, without a MariaDB.
    pub fn on_broker(brokers: String, more: Vec<(&'static str, String)>) -> Option<Self> {
        let database = mariadb()?;
        let prefix = database.rsplit('/').next().expect("a name").to_owned();
        Some(Self::make(database, Some((brokers, prefix)), more))
    }

    fn make(database: String, kafka: Option<(String, String)>, more: Vec<(&'static str, String)>) -> Self {
        let installation = Self { folder: tempfile::tempdir().expect("a folder"), database, kafka, more };
        for arguments in [&["migrate"][..], &["keys", "new"]] {
            installation.run(arguments);
        }
        installation
    }

    pub fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    pub fn command(&self) -> Command {
        let mut command = confab();
        settings(&mut command, self.folder.path());
        command
            .env("CONFAB_DATABASE_URL", &self.database)
            .env("CONFAB_KEYS_DIR", self.keys())
            .env("CONFAB_SERVICE_SECRET", SECRET)
            .env("CONFAB_KAFKA_PARTITIONS", "4")
            .env("CONFAB_DOMAIN_LISTEN", "127.0.0.1:0");
        if let Some((brokers, prefix)) = &self.kafka {
            command.env("CONFAB_KAFKA_BROKERS", brokers).env("CONFAB_KAFKA_TOPIC_PREFIX", prefix);
        }
        if let Ok(redis) = env::var("CONFAB_TEST_REDIS_URL") {
            command.env("CONFAB_REDIS_URL", redis);
        }
        command.envs(self.more.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end; what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A process of the role, once it serves or works.
    pub fn start(&self, role: &str) -> Process {
        self.start_with(role, &[])
    }

    pub fn start_with(&self, role: &str, more: &[(&str, &str)]) -> Process {
        let mut command = self.command();
        command.arg(role).envs(more.iter().copied());
        Process::start(command, &self.log_of(role))
    }

    pub fn log_of(&self, role: &str) -> PathBuf {
        self.folder.path().join(format!("{role}-{}.log", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Runs SQL; its rows, a line each.
    pub fn sql(&self, sql: &str) -> Vec<String> {
        let (_, place) = self.database.split_once('@').expect("an address");
        let (address, name) = place.split_once('/').expect("a name");
        let (host, port) = address.split_once(':').expect("a port");
        let output = Command::new("mariadb")
            .args(["--no-defaults", "-N", "-h", host, "-P", port, "-u", "confab", name, "-e", sql])
            .env("MYSQL_PWD", "confab")
            .output()
            .expect("mariadb");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

/// A running process; killed when dropped.
pub struct Process {
    child: Child,
    /// Where it listens; empty when it does not.
    pub url: String,
    log: PathBuf,
}

impl Process {
    pub fn start(mut command: Command, log: &PathBuf) -> Self {
        let file = File::create(log).expect("a log");
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("says that it runs");
        assert!(!line.is_empty(), "it ends at the start: {}", fs::read_to_string(log).expect("the log"));
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        Self { child, url, log: log.clone() }
    }

    /// Without a word from it: it may wait for a back end.
    pub fn begin(mut command: Command, log: &PathBuf) -> Self {
        let file = File::create(log).expect("a log");
        let output = file.try_clone().expect("the same log");
        let child = command.stdout(output).stderr(file).spawn().expect("starts");
        Self { child, url: String::new(), log: log.clone() }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("is gone");
    }

    /// SIGTERM; its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().expect("ends").code()
    }

    /// Whether it has not ended by itself.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("asks").is_none()
    }

    /// Its exit code once it has ended by itself; `None` when it does not.
    pub async fn ends(&mut self) -> Option<Option<i32>> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("asks") {
                return Some(status.code());
            }
            if begun.elapsed() > Duration::from_secs(10) {
                return None;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it has said this.
    pub async fn until_said(&self, wanted: &str) {
        let begun = Instant::now();
        while !self.said().contains(wanted) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not say {wanted}: {}", self.said());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it has logged so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None`, loudly, without a Kafka.
pub fn brokers() -> Option<String> {
    let brokers = env::var("CONFAB_TEST_KAFKA_BROKERS").ok();
    if brokers.is_none() {
        eprintln!("SKIPPED: CONFAB_TEST_KAFKA_BROKERS is not set (scripts/test sets it)");
    }
    brokers
}

/// Waits until `/readyz` of a process says this.
pub async fn until_readyz(admin: u16, wanted: impl Fn(u16, &str) -> bool, what: &str) {
    let (begun, client, mut last) = (Instant::now(), client(), String::new());
    loop {
        if let Ok(answer) = client.get(format!("http://127.0.0.1:{admin}/readyz")).send().await {
            let status = answer.status().as_u16();
            let text = answer.text().await.expect("text");
            if wanted(status, text.trim_end()) {
                return;
            }
            last = format!("{status} {text}");
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "/readyz does not say {what}, but {last}");
        sleep(Duration::from_millis(50)).await;
    }
}
