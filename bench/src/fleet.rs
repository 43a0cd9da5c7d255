//! Processes of Confab for a benchmark, on the database that the benchmark has filled, and a client that sends.

use std::path::PathBuf;

use bench::cluster::{Cluster, Setup};
use domain::ConversationId;
use serde_json::{Value, json};

use crate::{database::Bench, measure::Servers};

const SEND: &str = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id seq } userErrors { code } } }";

pub struct Fleet {
    pub cluster: Cluster,
    sender: Sender,
    _folder: tempfile::TempDir,
}

/// A client that sends over HTTP.
#[derive(Clone)]
pub struct Sender {
    urls: Vec<String>,
    http: reqwest::Client,
}

#[expect(clippy::disallowed_methods, reason = "the variables by which tests know their servers")]
pub fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: eval \"$(scripts/services env)\""))
}

#[expect(clippy::disallowed_methods, reason = "where `scripts/services` keeps what it runs")]
pub fn services() -> PathBuf {
    std::env::var("SERVICES_DIR").unwrap_or_else(|_| "/tmp/confab-services".to_owned()).into()
}

impl Fleet {
    pub async fn start(
        bench: &Bench,
        roles: Vec<&'static str>,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let with_kafka = roles.contains(&"worker");
        let binary = std::env::current_exe().expect("this program").with_file_name("confab");
        assert!(binary.exists(), "{} is not there: build the whole workspace", binary.display());
        let setup = Setup {
            binary,
            folder: folder.path().to_owned(),
            keys: Some(bench.keys().to_owned()),
            database: bench.url.clone(),
            redis: from_environment("CONFAB_TEST_REDIS_URL"),
            brokers: if with_kafka { from_environment("CONFAB_TEST_KAFKA_BROKERS") } else { String::new() },
            roles,
            environment,
            proxied: false,
        };
        let cluster = Cluster::start(setup, services()).await.expect("an installation");
        let urls = cluster.api_urls();
        let sender = Sender { urls, http: reqwest::Client::new() };
        Self { cluster, sender, _folder: folder }
    }

    /// Ends its processes in order.
    pub async fn stop(mut self) {
        for node in 0..self.cluster.nodes.len() {
            self.cluster.terminate(node).await.expect("it ends");
        }
    }

    pub fn ports(&self) -> Vec<u16> {
        self.cluster.of_role("api").into_iter().map(|node| self.cluster.nodes[node].port).collect()
    }

    pub fn processes(&self) -> Servers {
        Servers::Processes((0..self.cluster.nodes.len()).filter_map(|node| self.cluster.id(node)).collect())
    }

    /// A counter of the first node, all its labels together.
    pub async fn metric(&self, name: &str) -> f64 {
        let admin = self.cluster.nodes[0].admin;
        let page = self
            .sender
            .http
            .get(format!("http://127.0.0.1:{admin}/metrics"))
            .send()
            .await
            .expect("an answer");
        let page = page.text().await.expect("text");
        let values = page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if rest.starts_with([' ', '{']) { rest.rsplit(' ').next()?.parse::<f64>().ok() } else { None }
        });
        values.sum()
    }

    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Sends over HTTP, and waits for the ack.
    pub async fn send(&self, at: usize, token: &str, conversation: ConversationId, key: &str, text: &str) {
        self.sender.send(at, token, conversation, key, text).await;
    }
}

impl Sender {
    /// To the node of this number, counted on from the first after the last; the `seq`.
    pub async fn send(
        &self,
        at: usize,
        token: &str,
        conversation: ConversationId,
        key: &str,
        text: &str,
    ) -> i32 {
        let input = json!({
            "conversationId": conversation.to_string(),
            "clientMessageId": key,
            "content": { "text": { "text": text } },
        });
        let url = format!("{}/graphql", self.urls[at % self.urls.len()]);
        let call = self.http.post(url).bearer_auth(token);
        let call = call.json(&json!({ "query": SEND, "variables": { "input": input } }));
        let answer: Value = call.send().await.expect("an answer").json().await.expect("JSON");
        let seq = answer["data"]["sendMessage"]["message"]["seq"].as_i64();
        let seq = seq.and_then(|seq| i32::try_from(seq).ok());
        seq.unwrap_or_else(|| panic!("{answer}"))
    }
}
