//! Starting, refusing to start, and stopping.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command};

use crate::server::{Server, ask, client, confab, mariadb, register, settings};

fn embedded(folder: &tempfile::TempDir) -> Command {
    let mut command = confab();
    settings(&mut command, folder.path());
    command
}

/// Exit code and what it said on standard error.
fn outcome(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn bad_settings_exit_78_and_every_one_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = embedded(&folder);
    command.env("CONFAB_LISTEN", "nowhere").env("CONFAB_TRUSTED_HOPS", "many").env("CONFAB_COLOUR", "blue");
    let (code, text) = outcome(command);
    assert_eq!(code, Some(78));
    for key in ["CONFAB_LISTEN", "CONFAB_TRUSTED_HOPS", "CONFAB_COLOUR"] {
        assert!(text.contains(key), "{key} in {text}");
    }
}

#[test]
fn a_port_in_use_exits_1_and_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = embedded(&folder);
    command.env("CONFAB_LISTEN", &address);
    let (code, text) = outcome(command);
    assert_eq!(code, Some(1));
    assert!(text.contains(&format!("cannot listen on {address}")), "{text}");
}

#[test]
fn a_data_folder_belongs_to_one_process_and_its_keys_to_its_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let _server = Server::start(embedded(&folder));
    let (code, text) = outcome(embedded(&folder));
    assert_eq!(code, Some(1));
    assert!(text.contains("another confab runs on this data folder"), "{text}");
    let keys = fs::read_dir(folder.path().join("data/keys")).expect("keys");
    let modes: Vec<u32> =
        keys.map(|key| key.expect("a key").metadata().expect("reads").permissions().mode() & 0o777).collect();
    assert_eq!(modes, [0o600]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_well_and_what_was_said_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = client();
    let mut server = Server::start(embedded(&folder));
    let (id, token) = register(&client, &server.url, "ada").await;
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(embedded(&folder));
    let data = ask(&client, &server.url, Some(&token), "{ viewer { id } }", serde_json::json!({}))
        .await
        .expect("answers");
    assert_eq!(data["viewer"]["id"], id);
}

#[test]
fn a_schema_that_is_not_there_is_refused_with_the_way_out() {
    let Some(database) = mariadb() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let with_database = || {
        let mut command = embedded(&folder);
        command.env("CONFAB_DATABASE_URL", &database);
        command
    };
    let (code, text) = outcome(with_database());
    assert_eq!(code, Some(1));
    assert!(text.contains("confab migrate"), "{text}");
    let mut doctor = with_database();
    assert!(!doctor.arg("doctor").status().expect("runs").success());
    assert!(with_database().arg("migrate").status().expect("runs").success());
    assert!(with_database().args(["keys", "new"]).status().expect("runs").success());
    assert!(with_database().arg("doctor").status().expect("runs").success());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").expect("writes");
    let mut command = embedded(&folder);
    command.env("CONFAB_DATA_DIR", file.join("data"));
    let (code, text) = outcome(command);
    assert_eq!(code, Some(1));
    assert!(text.contains("file/data"), "{text}");
}

#[test]
fn generated_files_are_what_the_binary_prints() {
    for (argument, file) in [("schema", "schema.graphql"), ("settings", "docs/confab.sample.toml")] {
        let printed = confab().arg(argument).output().expect("runs").stdout;
        let committed = fs::read(file).expect("reads");
        assert!(printed == committed, "{file} differs: `cargo run -- {argument} > {file}`");
    }
}
