//! A disk that is full, or cannot be written: typed errors at once, nothing acked is lost, and all is well afterwards.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    broker::Broker,
    installation::{Installation, until_readyz},
    people::Site,
    providers::{Kind, Providers},
    server::{Server, client, confab, free_port, register, settings},
};

/// A file system of its own, as large as the test needs; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, loudly, without the right to mount.
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir(at).expect("a folder");
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        // Past the harness, which keeps to itself what a test that passes prints.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: a full disk was NOT tested, as that needs the right to mount one (root)"
        );
        None
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(done.expect("mount").success(), "{options}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn ask(client: &reqwest::Client, url: &str, token: &str, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables });
    let answer = client.post(format!("{url}/graphql")).bearer_auth(token).json(&body).send().await;
    answer.expect("an answer").json().await.expect("JSON")
}

const SEND: &str = "mutation($id: ID!, $key: String!, $text: String!) { sendMessage(input: { conversationId: $id,
    clientMessageId: $key, content: { text: { text: $text } } }) { message { seq } userErrors { code message } } }";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_unavailable_and_nothing_acked_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 6) else { return };
    let make = || {
        let mut command = confab();
        settings(&mut command, folder.path());
        command.env("CONFAB_DATA_DIR", disk.0.join("data"));
        command
    };
    let mut server = Server::start(make());
    let client = client();
    let (_, token) = register(&client, &server.url, "ada").await;
    let create = "mutation { createGroup(input: { title: \"t\", memberIds: [] }) { conversation { id } } }";
    let created = ask(&client, &server.url, &token, create, json!({})).await;
    let id = created["data"]["createGroup"]["conversation"]["id"].clone();
    let text = "x".repeat(16_000);
    let send = async |url: &str, key: &str| {
        let variables = json!({ "id": id, "key": key, "text": text });
        ask(&client, url, &token, SEND, variables).await
    };
    let seq_of = |answer: &Value| answer["data"]["sendMessage"]["message"]["seq"].as_i64();
    let mut acked = Vec::new();
    let refused = loop {
        let key = format!("k{}", acked.len());
        let answer = send(&server.url, &key).await;
        match seq_of(&answer) {
            Some(seq) => acked.push((key, seq)),
            None => break answer,
        }
        assert!(acked.len() < 2000, "the disk is never full");
    };
    assert_eq!(refused["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{refused}");
    assert_eq!(refused["errors"][0]["extensions"]["retryable"], true);
    // Reading goes on.
    let last = "query($id: ID!) { conversation(id: $id) { lastSeq } }";
    let read = ask(&client, &server.url, &token, last, json!({ "id": id })).await;
    assert_eq!(read["data"]["conversation"]["lastSeq"].as_i64(), acked.last().map(|(_, seq)| *seq));

    disk.remount("size=64m");
    // What was refused may be sent again, what was acked is known, in this process and after a kill.
    let (mut known, mut url) = (Vec::new(), server.url.clone());
    for round in 0..2 {
        for (key, seq) in acked.iter().step_by(20) {
            assert_eq!(seq_of(&send(&url, key).await), Some(*seq), "round {round}: {key}");
        }
        let key = format!("after{round}");
        let answer = send(&url, &key).await;
        let seq = seq_of(&answer).unwrap_or_else(|| panic!("{answer}"));
        known.push(seq);
        server.kill();
        server = Server::start(make());
        url.clone_from(&server.url);
    }
    let last = acked.last().map_or(0, |(_, seq)| *seq);
    assert_eq!(known, [last + 1, last + 2], "seq goes on without a hole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_named_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 2) else { return };
    disk.remount("ro");
    let mut command = confab();
    settings(&mut command, folder.path());
    let data = disk.0.join("data");
    let output = command.env("CONFAB_DATA_DIR", &data).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&data.display().to_string()) && text.contains("Read-only"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_disk_is_full_delays_pushes_and_nothing_else() {
    // Of what the broker is begun with, a tenth is used.
    const MEGABYTES: u32 = 128;
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), MEGABYTES) else { return };
    let Some(broker) = Broker::start(disk.0.clone()) else { return };
    let providers = &Providers::start().await;
    let address = broker.address();
    let Some(installation) = Installation::on_broker(address, providers.settings()) else { return };
    let admin = free_port();
    let address = format!("127.0.0.1:{admin}");
    let (api, mut worker) =
        (installation.start("api"), installation.start_with("worker", &[("CONFAB_ADMIN_LISTEN", &address)]));
    let site = &Site::new(&api.url);
    let (ada, ben) = (site.join("ada").await, site.join_with(providers, Kind::Fcm, "ben").await);
    let group = site.group(&ada, "t", &[&ben]).await;
    let before = site.send(&ada, &group, "before").await;
    providers.until_shown(&before, 1).await;

    let filler = disk.0.join("filler");
    let mut file = fs::File::create(&filler).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    // Each is acked at once, though the broker has no room for its records; what it has no room for, it dies of.
    let mut sent = Vec::new();
    let text = "x".repeat(4000);
    for number in 0..50 {
        sent.push(site.send(&ada, &group, &format!("{number} {text}")).await);
    }
    let without = |status, text: &str| status == 200 && text == "ready, without kafka";
    until_readyz(admin, without, "that Kafka is away").await;
    sent.push(site.send(&ada, &group, "after").await);
    assert!(worker.runs(), "the worker waits: {}", worker.said());

    // It ends by itself, sooner or later: nobody must take it for one that is up while it does.
    broker.service("kill");
    fs::remove_file(&filler).expect("removes");
    assert!(broker.service("up"), "the broker is back");
    for message in &sent {
        providers.until_shown(message, 1).await;
    }
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for push in providers.taken() {
        *times.entry(push.message).or_default() += 1;
    }
    assert_eq!(times.len(), sent.len() + 1);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}
