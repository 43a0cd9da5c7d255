//! Processes of Confab for a benchmark, on the database that the benchmark has filled, and a client that sends.

use std::path::PathBuf;

use bench::cluster::{Cluster, Setup};
use domain::ConversationId;
use serde_json::{Value, json};

use crate::{database::Bench, measure::Servers};

const SEND: &str = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { message { id seq } userErrors { code } } }";

pub struct Fleet {
    pub cluster: Cluster,
    urls: Vec<String>,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

#[expect(clippy::disallowed_methods, reason = "the variables by which tests know their servers")]
pub fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: eval \"$(scripts/services env)\""))
}

#[expect(clippy::disallowed_methods, reason = "where `scripts/services` keeps what it runs")]
fn services() -> PathBuf {
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
        Self { cluster, urls, http: reqwest::Client::new(), _folder: folder }
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

    /// Sends over HTTP, and waits for the ack.
    pub async fn send(&self, at: usize, token: &str, conversation: ConversationId, key: &str, text: &str) {
        let input = json!({
            "conversationId": conversation.to_string(),
            "clientMessageId": key,
            "content": { "text": { "text": text } },
        });
        let url = format!("{}/graphql", self.urls[at % self.urls.len()]);
        let call = self.http.post(url).bearer_auth(token);
        let call = call.json(&json!({ "query": SEND, "variables": { "input": input } }));
        let answer: Value = call.send().await.expect("an answer").json().await.expect("JSON");
        assert!(answer["data"]["sendMessage"]["message"]["seq"].is_i64(), "{answer}");
    }
}
