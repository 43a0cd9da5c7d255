//! A server process and a client of it.

#![expect(clippy::disallowed_methods, reason = "tests start processes and read the environment")]

use std::{
    env,
    io::{BufRead as _, BufReader},
    iter,
    net::TcpListener,
    ops::Range,
    path::Path,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

/// `confab` with none of the caller's settings.
pub fn confab() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confab"));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CONFAB_")) {
            command.env_remove(name);
        }
    }
    command
}

/// The settings of a server of a test: any free port, its own folder, no limits on rates.
pub fn settings(command: &mut Command, folder: &Path) {
    command
        .current_dir(folder)
        .env("CONFAB_LISTEN", "127.0.0.1:0")
        .env("CONFAB_ADMIN_LISTEN", "off")
        .env("CONFAB_RATE_LIMITS", "off")
        .env("CONFAB_DATA_DIR", folder.join("data"));
}

/// Numbers the databases of this run.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A fresh database of the test server; `None`, loudly, when there is none.
pub fn mariadb() -> Option<String> {
    let Ok(server) = env::var("CONFAB_TEST_MARIADB_URL") else {
        eprintln!("SKIPPED on MariaDB: CONFAB_TEST_MARIADB_URL is not set (scripts/test sets it)");
        return None;
    };
    let name = format!("confab_test_{:08x}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    sql(&server, &format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}"));
    Some(format!("{}/{name}", server.trim_end_matches('/')))
}

/// Runs statements on the test server, in the database of the URL if it names one.
pub fn sql(url: &str, statements: &str) {
    let parts = || {
        let (user, place) = url.trim_start_matches("mysql://").trim_end_matches('/').split_once('@')?;
        let (address, database) = place.split_once('/').unwrap_or((place, ""));
        Some((user.split_once(':')?, address.split_once(':')?, database))
    };
    let ((user, password), (host, port), database) = parts().expect("mysql://user:password@host:port");
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-h", host, "-P", port, "-u", user]).env("MYSQL_PWD", password);
    if !database.is_empty() {
        command.args(["-D", database]);
    }
    let done = command.args(["-e", statements]).status();
    assert!(done.is_ok_and(|status| status.success()), "the test server does: {statements}");
}

/// Below those that a system gives to listeners and connections that ask for none (from 32,768 on Linux, 49,152 elsewhere): nobody takes
/// one between its choice and its use, and who keeps trying to reach a server that is away never gets its port and talks to itself. Above
/// those of `bench` and `scripts/test`.
const PORTS: Range<u32> = 30_000..32_768;

/// A port that nobody has, and no other test of this run gets.
pub fn free_port() -> u16 {
    static CHOSEN: AtomicU32 = AtomicU32::new(0);
    let ports = iter::repeat_with(|| {
        // Two runs side by side begin far enough from each other.
        let number = process::id().wrapping_mul(64).wrapping_add(CHOSEN.fetch_add(1, Ordering::Relaxed));
        u16::try_from(PORTS.start + number % (PORTS.end - PORTS.start)).expect("small")
    });
    ports.take(PORTS.len()).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port")
}

/// A running server; killed when dropped.
pub struct Server {
    pub process: Child,
    pub url: String,
}

impl Server {
    pub fn start(command: Command) -> Self {
        Self::start_logging(command, Stdio::null())
    }

    pub fn start_logging(mut command: Command, log: impl Into<Stdio>) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().expect("starts");
        let output = process.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("says where it listens");
        let url = line.trim().strip_prefix("listening on ").expect("listens").to_owned();
        Self { process, url }
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        self.process.kill().expect("kills");
        self.process.wait().expect("is gone");
    }

    pub fn terminate(&mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        self.process.wait().expect("ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Without TLS; but in one build with others, its provider has to be chosen (see `workers`).
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// The answer's `data`; `None` when the server could not be asked to the end.
pub async fn ask(
    client: &reqwest::Client,
    url: &str,
    token: Option<&str>,
    query: &str,
    variables: Value,
) -> Option<Value> {
    let mut request =
        client.post(format!("{url}/graphql")).json(&json!({ "query": query, "variables": variables }));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer: Value = request.send().await.ok()?.json().await.ok()?;
    assert!(
        answer.get("errors").is_none() || answer["errors"][0]["extensions"]["retryable"] == true,
        "{answer}"
    );
    answer.get("data").filter(|data| !data.is_null()).cloned()
}

pub async fn register(client: &reqwest::Client, url: &str, name: &str) -> (String, String) {
    let query = "mutation($name: String!) { register(input: { username: $name, password: \"correct horse\", displayName: $name }) {
        user { id } credentials { accessToken } userErrors { message } } }";
    let data = ask(client, url, None, query, json!({ "name": name })).await.expect("registers");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&data["register"]["user"]["id"]), text(&data["register"]["credentials"]["accessToken"]))
}
