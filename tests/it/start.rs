//! Starting, refusing to start, and stopping.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::{Value, json};

use crate::server::{Server, ask, client, confab, mariadb, register, settings, sql};

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
fn a_file_with_an_unknown_key_or_a_wrong_value_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("confab.toml");
    fs::write(&file, "colour = \"blue\"\ntrusted_hops = \"many\"\n[section]\na = 1\n").expect("writes");
    // In the working folder, and named on the command line.
    let mut named = embedded(&folder);
    named.arg("--config").arg(&file);
    for command in [embedded(&folder), named] {
        let (code, text) = outcome(command);
        assert_eq!(code, Some(78));
        for problem in
            ["colour: there is no such setting", "trusted_hops: expected a whole number", "section: "]
        {
            assert!(text.contains(problem), "{problem} in {text}");
        }
    }
}

#[test]
fn the_environment_goes_before_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("settings.toml");
    fs::write(&file, "listen = \"nowhere\"\ndata_dir = \"from-the-file\"\n").expect("writes");
    let command = |listen: Option<&str>| {
        let mut command = embedded(&folder);
        command.env_remove("CONFAB_DATA_DIR").env_remove("CONFAB_LISTEN").env("CONFAB_CONFIG", &file);
        if let Some(listen) = listen {
            command.env("CONFAB_LISTEN", listen);
        }
        command
    };
    let (code, text) = outcome(command(None));
    assert_eq!(code, Some(78));
    assert!(text.contains("listen: expected an address"), "{text}");
    let _server = Server::start(command(Some("127.0.0.1:0")));
    assert!(folder.path().join("from-the-file/confab.sqlite").exists(), "what only the file says holds");
}

#[test]
fn half_a_certificate_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for key in ["CONFAB_TLS_CERTIFICATE", "CONFAB_TLS_KEY"] {
        let mut command = embedded(&folder);
        command.env(key, folder.path().join("file.pem"));
        let (code, text) = outcome(command);
        assert_eq!(code, Some(78));
        assert!(text.contains("CONFAB_TLS_KEY: a certificate and its key go together"), "{text}");
    }
}

#[test]
fn certificates_and_manifests_that_are_none_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("writes");
        file
    };
    let nonsense = file("nonsense", "nonsense");
    let mut command = embedded(&folder);
    command.env("CONFAB_TLS_CERTIFICATE", &nonsense).env("CONFAB_TLS_KEY", &nonsense);
    let (code, text) = outcome(command);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("TLS: ") && text.contains("nonsense"), "{text}");
    for (name, manifest, problem) in [
        ("broken.json", "{", "broken.json: neither a manifest of Apollo's"),
        ("syntax.json", r#"{"d1": "{"}"#, "syntax.json: the document d1: syntax error"),
        (
            "unknown.json",
            r#"{"d2": "{ viewer { nothing } }"}"#,
            "unknown.json: the document d2 is not valid: ",
        ),
    ] {
        let mut command = embedded(&folder);
        command.env("CONFAB_TRUSTED_DOCUMENTS", file(name, manifest));
        let (code, text) = outcome(command);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(problem), "{problem} in {text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.toml");
    fs::write(&broken, "listen = ").expect("writes");
    for path in [folder.path().join("missing.toml"), folder.path().to_owned(), broken] {
        let mut command = embedded(&folder);
        command.arg("--config").arg(&path);
        let (code, text) = outcome(command);
        assert_eq!(code, Some(78), "{}", path.display());
        assert!(text.contains(&format!("configuration: {}: ", path.display())), "{text}");
    }
}

/// Each with its trace: what a request does, what fails in it, and what the domain does for it in tasks of its own.
#[tokio::test(flavor = "multi_thread")]
async fn every_log_line_of_a_request_is_json_with_its_trace_id() {
    let Some(database) = mariadb() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let with_database = || {
        let mut command = embedded(&folder);
        command.env("CONFAB_DATABASE_URL", &database);
        command
    };
    assert!(with_database().arg("migrate").status().expect("runs").success());
    assert!(with_database().args(["keys", "new"]).status().expect("runs").success());
    let mut command = with_database();
    command.env("RUST_LOG", "warn,confab=info,api=debug,domain=debug");
    let log = folder.path().join("log");
    let mut server = Server::start_logging(command, fs::File::create(&log).expect("a file"));
    let client = client();
    let traced = async |trace: u8, query: &str| {
        let trace = format!("{trace:032x}");
        let request = client.post(format!("{}/graphql", server.url)).json(&json!({ "query": query }));
        let request = request.header("traceparent", format!("00-{trace}-00000000000000ff-01"));
        let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        (trace, answer)
    };
    let register = "mutation { register(input: { username: \"ada\", password: \"correct horse\", displayName: \"Ada\" }) {
        credentials { accessToken } } }";
    let (well, answer) = traced(1, register).await;
    assert!(answer["data"]["register"]["credentials"]["accessToken"].is_string(), "{answer}");
    // Noting where she signed in from fails in a task of its own, signing in does not.
    sql(&database, "DROP TABLE familiar_network");
    let sign_in = "mutation { signIn(input: { username: \"ada\", password: \"correct horse\" }) {
        credentials { accessToken } } }";
    let (unnoted, answer) = traced(2, sign_in).await;
    assert!(answer["data"]["signIn"]["credentials"]["accessToken"].is_string(), "{answer}");
    sql(&database, "DROP TABLE user_account");
    let (failed, answer) = traced(3, sign_in).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "INTERNAL", "{answer}");
    assert_eq!(server.terminate(), Some(0));

    let text = fs::read_to_string(&log).expect("the log");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let trace_of =
        |line: &Value| line["span"]["trace_id"].as_str().or(line["trace_id"].as_str()).map(str::to_owned);
    let messages_of = |trace: &str| -> Vec<&str> {
        let of_trace = lines.iter().filter(|line| trace_of(line).as_deref() == Some(trace));
        of_trace.filter_map(|line| line["message"].as_str()).collect()
    };
    assert_eq!(messages_of(&well), ["an operation runs"]);
    assert_eq!(messages_of(&unnoted), ["an operation runs", "a familiar network was not noted"]);
    assert_eq!(messages_of(&failed), ["an operation runs", "a field failed"]);
    // What has none is the process's own.
    let own: Vec<&str> = lines
        .iter()
        .filter(|line| trace_of(line).is_none())
        .filter_map(|line| line["message"].as_str())
        .collect();
    let known = ["stopping: finishing what runs", "stopped"];
    assert!(own.iter().all(|message| known.contains(message)), "{own:?}");
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
    let doctor = with_database().arg("doctor").output().expect("runs");
    let text = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.success() && text.contains("durable, sessions bounded"), "{text}");
    sql(&database, "UPDATE confab_meta SET binary_min = 1000");
    let (code, text) = outcome(with_database());
    assert_eq!(code, Some(1));
    assert!(text.contains("this binary is too old for the schema, which allows version 1000"), "{text}");
}

#[test]
fn a_schema_of_a_later_release_is_left_alone_by_migrate_and_refused_where_it_does_not_fit() {
    let Some(database) = mariadb() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let migrate = || {
        let mut command = embedded(&folder);
        let output = command.env("CONFAB_DATABASE_URL", &database).arg("migrate").output().expect("runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    assert_eq!(migrate().0, Some(0));
    sql(&database, "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_later', 1)");
    let (code, said) = migrate();
    assert!(code == Some(0) && said.contains("of a later release and still fits"), "{code:?} {said}");
    sql(&database, "UPDATE confab_meta SET binary_min = 1000");
    let (code, said) = migrate();
    let too_old = "CONFAB_DATABASE_URL: this binary is too old for the schema, which allows version 1000";
    assert!(code == Some(1) && said.contains(too_old), "{code:?} {said}");
    sql(&database, "DELETE FROM seaql_migrations WHERE version LIKE 'm0008%'");
    let (code, said) = migrate();
    assert!(code == Some(1) && said.contains("it does not know m9999_later"), "{code:?} {said}");
}

#[test]
fn a_folder_of_keys_that_is_not_there_is_named_with_the_way_out_or_made_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("elsewhere/keys");
    let with_keys = || {
        let mut command = embedded(&folder);
        command.env("CONFAB_KEYS_DIR", &keys);
        command
    };
    let with_database = || {
        let mut command = with_keys();
        command.env("CONFAB_DATABASE_URL", format!("sqlite://{}/a.sqlite", folder.path().display()));
        command
    };
    assert!(with_database().arg("migrate").status().expect("runs").success());
    let (code, text) = outcome(with_database());
    assert_eq!(code, Some(1));
    for word in ["elsewhere/keys is not there", "`confab keys new`", "CONFAB_KEYS_DIR"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let log = folder.path().join("log");
    let mut server = Server::start_logging(with_keys(), fs::File::create(&log).expect("a file"));
    assert_eq!(server.terminate(), Some(0));
    let text = fs::read_to_string(&log).expect("the log");
    assert!(text.contains("made the first signing key") && text.contains("elsewhere/keys"), "{text}");
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
