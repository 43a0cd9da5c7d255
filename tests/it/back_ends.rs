//! Back ends that are not as they should be: what a process says of it, whether it waits or ends, and what goes on.

#![expect(clippy::disallowed_methods, reason = "tests start processes and read the environment")]

use std::{
    env,
    io::{BufRead as _, BufReader, Lines},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::json;

use crate::{
    installation::{Installation, Process, until_readyz},
    people::Site,
    server::free_port,
};

/// A process that may wait, with its admin port.
fn begin(installation: &Installation, role: &str, more: &[(&str, &str)]) -> (Process, u16) {
    let admin = free_port();
    let mut command = installation.command();
    command.arg(role).env("CONFAB_ADMIN_LISTEN", format!("127.0.0.1:{admin}")).envs(more.iter().copied());
    (Process::begin(command, &installation.log_of(role)), admin)
}

/// A process that serves, with its admin port.
fn start(installation: &Installation, role: &str, more: &[(&str, &str)]) -> (Process, u16) {
    let admin = free_port();
    let address = format!("127.0.0.1:{admin}");
    let all: Vec<(&str, &str)> =
        more.iter().copied().chain([("CONFAB_ADMIN_LISTEN", address.as_str())]).collect();
    (installation.start_with(role, &all), admin)
}

/// Runs to the end; its exit code and all that it said.
fn outcome(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().expect("runs");
    let said = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    (status.code(), said.concat())
}

async fn send_goes_on(site: &Site, what: &str) {
    let name = what.replace(' ', "_");
    let ada = site.join(&name).await;
    let group = site.group(&ada, "t", &[]).await;
    for number in 0..3 {
        site.send(&ada, &group, &format!("{what} {number}")).await;
    }
    let last = "query($id: ID!) { conversation(id: $id) { lastSeq } }";
    let data = site.query(&ada, last, json!({ "id": group })).await;
    assert_eq!(data["conversation"]["lastSeq"], 3, "{what}");
}

/// Databases that nobody can use, with a word of the cause.
fn unusable(installation: &Installation) -> [(String, &'static str); 2] {
    let nobody = "mysql://confab:confab@127.0.0.1:1/confab".to_owned();
    let wrong = installation.database.replace("confab:confab@", "confab:wrong@");
    [(nobody, "refused"), (wrong, "denied")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_reached_or_entered_is_waited_for() {
    let Some(installation) = Installation::on_mariadb(Vec::new()) else { return };
    for (url, _) in unusable(&installation) {
        let set = [("CONFAB_DATABASE_URL", url.as_str())];
        let mut all = Vec::new();
        for role in ["serve", "domain"] {
            all.push((role, begin(&installation, role, &set)));
        }
        for (role, (process, admin)) in &mut all {
            until_readyz(*admin, |status, text| status == 503 && text == "missing: database", role).await;
            process.until_said("waiting for the database").await;
            assert!(process.runs(), "{role} waits");
            let said = process.said();
            assert!(
                !said.contains("wrong@") && !said.contains(":confab@"),
                "a password is in the log: {said}"
            );
            assert_eq!(process.terminate(), Some(0), "{role} can be stopped while it waits");
        }
        // What is run by hand ends at once.
        for argument in ["migrate", "doctor"] {
            let mut command = installation.command();
            command.envs(set).arg(argument);
            let (code, said) = outcome(command);
            assert_eq!(code, Some(1), "{argument}: {said}");
            assert!(said.contains("cannot reach the database"), "{argument}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_database_is_said_with_its_setting() {
    let Some(installation) = Installation::on_mariadb(Vec::new()) else { return };
    let mut silent = Vec::new();
    for (url, why) in unusable(&installation) {
        let set = [("CONFAB_DATABASE_URL", url.as_str())];
        let (process, _) = begin(&installation, "serve", &set);
        process.until_said("waiting for the database").await;
        let mut told = vec![("serve", process.said())];
        for argument in ["migrate", "doctor"] {
            let mut command = installation.command();
            command.envs(set).arg(argument);
            told.push((argument, outcome(command).1));
        }
        let lacking = |said: &str| !said.contains("CONFAB_DATABASE_URL") || !said.contains(why);
        silent.extend(told.into_iter().filter(|(_, said)| lacking(said)));
    }
    assert!(silent.is_empty(), "these do not name the setting, or the cause: {silent:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_version_ends_the_start_with_the_way_out() {
    let Some(installation) = Installation::on_mariadb(Vec::new()) else { return };
    let refused = |way_out: &str| {
        for role in ["serve", "api", "domain"] {
            let mut command = installation.command();
            command.arg(role);
            let (code, said) = outcome(command);
            assert_eq!(code, Some(1), "{role}: {said}");
            assert!(said.contains(way_out), "{role}: {said}");
        }
    };
    installation.sql("UPDATE confab_meta SET binary_min = 1000");
    refused("this binary is too old for the schema, which allows version 1000 and later");
    installation.sql("UPDATE confab_meta SET binary_min = 1");
    installation.sql("DELETE FROM seaql_migrations ORDER BY version DESC LIMIT 1");
    refused("confab migrate");
    let bare: Vec<String> = installation.sql("SHOW TABLES");
    for table in bare {
        installation.sql(&format!("DROP TABLE {table}"));
    }
    refused("confab migrate");
    installation.run(&["migrate"]);
    let api = installation.start("api");
    send_goes_on(&Site::new(&api.url), "after the migration").await;
}

/// A user of the test server who may read this database and nothing else.
struct Reader {
    socket: PathBuf,
    name: String,
}

impl Reader {
    /// `None`, loudly, without the right to make one.
    fn of(installation: &Installation) -> Option<Self> {
        let socket = PathBuf::from(&installation.sql("SELECT @@socket")[0]);
        let database = installation.database.rsplit('/').next().expect("a name");
        let reader = Self { socket, name: format!("reader_{database}") };
        let made = reader.as_root(&format!(
            "CREATE USER '{0}'@'127.0.0.1' IDENTIFIED BY 'reader'; GRANT SELECT ON {database}.* TO '{0}'@'127.0.0.1'",
            reader.name
        ));
        if !made {
            eprintln!("SKIPPED: a user who may only read needs root on the socket of the test server");
            return None;
        }
        Some(reader)
    }

    fn as_root(&self, sql: &str) -> bool {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-u", "root", "-e", sql]).arg("-S").arg(&self.socket);
        command.output().is_ok_and(|output| output.status.success())
    }

    fn url(&self, installation: &Installation) -> String {
        installation.database.replace("confab:confab@", &format!("{}:reader@", self.name))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.as_root(&format!("DROP USER '{}'@'127.0.0.1'", self.name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_may_only_be_read_is_refused_at_the_start_and_named() {
    let Some(installation) = Installation::on_mariadb(Vec::new()) else { return };
    let Some(reader) = Reader::of(&installation) else { return };
    for arguments in [&["serve"][..], &["domain"], &["migrate"], &["doctor"]] {
        let mut command = installation.command();
        command.args(arguments).env("CONFAB_DATABASE_URL", reader.url(&installation));
        let mut process = Process::begin(command, &installation.log_of(arguments[0]));
        let code = process.ends().await;
        let said = process.said();
        assert_eq!(code, Some(Some(1)), "{arguments:?}: {said}");
        assert!(said.contains("CONFAB_DATABASE_URL") && said.contains("denied"), "{arguments:?}: {said}");
    }
}

/// A Redis of its own; killed when dropped.
struct Redis {
    process: Child,
    /// What it has to say later finds somebody who listens.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Redis {
    /// Returns when it listens: who asks it sooner is refused by the kernel, and not by it.
    fn start(port: u16) -> Option<Self> {
        let port = port.to_string();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--requirepass", "right"])
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut process) = child else {
            eprintln!("SKIPPED: there is no redis-server (scripts/services installs it)");
            return None;
        };
        let mut said = BufReader::new(process.stdout.take().expect("piped")).lines();
        let listens =
            said.by_ref().map_while(Result::ok).any(|line| line.contains("Ready to accept connections"));
        assert!(listens, "Redis starts");
        Some(Self { process, _said: said })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_everything_goes_on_and_readyz_says_so() {
    let Some(installation) = Installation::on_mariadb(Vec::new()) else { return };
    let port = free_port();
    let Some(redis) = Redis::start(port) else { return };
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{port}/0");
    let without = |status: u16, text: &str| status == 200 && text == "ready, without redis";
    let with = |status: u16, text: &str| status == 200 && text == "ready";

    let (mut wrong, wrong_admin) = start(&installation, "api", &[("CONFAB_REDIS_URL", &url("wrong"))]);
    until_readyz(wrong_admin, without, "that Redis lets it not in").await;
    send_goes_on(&Site::new(&wrong.url), "a wrong password").await;
    wrong.until_said("WRONGPASS").await;
    let said = wrong.said();
    assert!(!said.contains(":wrong@"), "a password is in the log: {said}");

    let (mut right, admin) = start(&installation, "api", &[("CONFAB_REDIS_URL", &url("right"))]);
    let site = Site::new(&right.url);
    until_readyz(admin, with, "that all is well").await;
    drop(redis);
    until_readyz(admin, without, "that Redis has gone").await;
    send_goes_on(&site, "redis has gone").await;
    let _redis = Redis::start(port);
    until_readyz(admin, with, "that Redis is back").await;
    send_goes_on(&site, "redis is back").await;
    assert!(wrong.runs() && right.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_sends_go_on_and_the_worker_says_that_it_waits() {
    let Some(installation) = Installation::on_mariadb(Vec::new()) else { return };
    let nowhere = [("CONFAB_KAFKA_BROKERS", "127.0.0.1:1")];
    let (mut worker, admin) = begin(&installation, "worker", &nowhere);
    let (mut api, api_admin) = start(&installation, "api", &nowhere);
    send_goes_on(&Site::new(&api.url), "no kafka").await;
    until_readyz(api_admin, |status, _| status == 200, "ready: an api needs no Kafka").await;
    until_readyz(admin, |_, text| text.contains("kafka"), "that Kafka is missing").await;
    worker.until_said("127.0.0.1:1").await;
    assert!(worker.runs() && api.runs());
    assert_eq!(worker.terminate(), Some(0));

    let mut command = installation.command();
    command.envs(nowhere).arg("doctor");
    let (code, said) = outcome(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("PROBLEM  kafka"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_redis_or_kafka_is_said_with_its_setting() {
    let Some(installation) = Installation::on_mariadb(Vec::new()) else { return };
    let set = [("CONFAB_REDIS_URL", "redis://127.0.0.1:1/0"), ("CONFAB_KAFKA_BROKERS", "127.0.0.1:1")];
    let mut command = installation.command();
    command.envs(set).arg("doctor");
    let (_, doctor) = outcome(command);
    let (worker, admin) = begin(&installation, "worker", &set);
    let both = |_: u16, text: &str| text.contains("redis") && text.contains("kafka");
    until_readyz(admin, both, "that both are missing").await;
    for (name, _) in set {
        assert!(doctor.contains(name), "doctor does not name {name}: {doctor}");
        worker.until_said(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_missing_are_named_with_the_way_out() {
    let Ok(brokers) = env::var("CONFAB_TEST_KAFKA_BROKERS") else {
        eprintln!("SKIPPED: CONFAB_TEST_KAFKA_BROKERS is not set (scripts/test sets it)");
        return;
    };
    let Some(installation) = Installation::on_mariadb(Vec::new()) else { return };
    let set = [
        ("CONFAB_KAFKA_BROKERS", brokers.as_str()),
        ("CONFAB_KAFKA_TOPIC_PREFIX", "confab_test_nobody_made"),
    ];
    let mut command = installation.command();
    command.envs(set).arg("doctor");
    let (code, said) = outcome(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("confab_test_nobody_made.") && said.contains("confab migrate"), "{said}");
    let (mut worker, admin) = begin(&installation, "worker", &set);
    until_readyz(admin, |_, text| text.contains("kafka"), "that Kafka has not what it needs").await;
    assert!(worker.runs());
}
