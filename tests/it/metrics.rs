//! What an operator sees of a process: its health and its figures.

use std::{path::Path, time::Duration};

use serde_json::json;

use crate::server::{Server, ask, client, confab, free_port, mariadb, register, settings};

async fn probe(admin: u16, path: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{admin}{path}");
    for _ in 0..100 {
        if let Ok(answer) = client().get(&url).send().await {
            let answered = (answer.status().as_u16(), answer.text().await.expect("text"));
            if answered.1 != "starting\n" {
                return answered;
            }
        }
        // A process that waits for its back ends tells nobody when it begins to listen.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{url} does not answer");
}

/// A server on the embedded default, and the port of its admin address.
fn start(folder: &Path) -> (Server, u16) {
    let admin = free_port();
    let mut command = confab();
    settings(&mut command, folder);
    command.env("CONFAB_ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
    (Server::start(command), admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_did_stands_in_its_metrics() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, admin) = start(folder.path());
    let client = client();
    let (_, token) = register(&client, &server.url, "ada").await;
    ask(&client, &server.url, Some(&token), "{ viewer { username } }", json!({})).await.expect("answers");
    let (status, text) = probe(admin, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "confab_operations_total{kind=\"mutation\",outcome=\"ok\"} 1",
        "confab_operations_total{kind=\"query\",outcome=\"ok\"} 1",
        "confab_operation_seconds_count{kind=\"query\"} 1",
        "confab_operations_running 0",
        "confab_calls_total{call=\"register\",outcome=\"ok\"} 1",
        "# HELP confab_calls_total Calls of the domain",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert_eq!(probe(admin, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(probe(admin, "/healthz").await, (200, "ok\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn known_and_unknown_users_cost_the_same_number_of_password_hashes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, admin) = start(folder.path());
    let client = client();
    register(&client, &server.url, "ada").await;
    let hashes = async || {
        let (_, text) = probe(admin, "/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix("confab_password_hashes_total "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_else(|| panic!("not counted: {text}"))
    };
    let query = "mutation($name: String!) { signIn(input: { username: $name, password: \"wrong horse\" }) {
        userErrors { code } } }";
    let mut costs = Vec::new();
    for name in ["ada", "nobody", "no body"] {
        let before = hashes().await;
        let data = ask(&client, &server.url, None, query, json!({ "name": name })).await.expect("answers");
        assert_eq!(data["signIn"]["userErrors"][0]["code"], "INVALID_CREDENTIALS", "{data}");
        costs.push(hashes().await - before);
    }
    assert_eq!(costs, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_waits_for_its_back_ends_and_says_which() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("keys");
    let mut made = confab();
    settings(&mut made, folder.path());
    assert!(made.env("CONFAB_KEYS_DIR", &keys).args(["keys", "new"]).status().expect("runs").success());
    let start = |role: &str, set: &[(&str, &str)]| {
        let admin = free_port();
        let mut command = confab();
        settings(&mut command, folder.path());
        command
            .arg(role)
            .env("CONFAB_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
            .env("CONFAB_KEYS_DIR", &keys);
        for (name, value) in set {
            command.env(name, value);
        }
        let process = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
        (Waiting(process.expect("starts")), admin)
    };
    let nobody = ("CONFAB_DATABASE_URL", "mysql://confab:confab@127.0.0.1:1/confab");
    let (mut unreachable, admin) = start("serve", &[nobody]);
    assert_eq!(probe(admin, "/readyz").await, (503, "missing: database\n".to_owned()));
    assert_eq!(probe(admin, "/healthz").await.0, 200);
    let secret = ("CONFAB_SERVICE_SECRET", "a-secret-of-the-tests-and-nobody-else");
    let (mut without_domain, admin) = start("api", &[secret, ("CONFAB_DOMAIN_URL", "http://127.0.0.1:1")]);
    assert_eq!(probe(admin, "/readyz").await, (503, "missing: domain\n".to_owned()));
    // Told to stop while they wait, they do.
    for waiting in [&mut unreachable, &mut without_domain] {
        let pid = waiting.0.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        assert_eq!(waiting.0.wait().expect("ends").code(), Some(0));
    }

    let Some(database) = mariadb() else { return };
    let wrong = database.replace("confab:confab@", "confab:wrong@");
    let (_wrong, admin) = start("serve", &[("CONFAB_DATABASE_URL", &wrong)]);
    assert_eq!(probe(admin, "/readyz").await, (503, "missing: database\n".to_owned()));
}

struct Waiting(std::process::Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
