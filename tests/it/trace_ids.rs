//! One request, followed by its trace id through the logs of all who had a part in it.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    installation::Installation,
    people::Site,
    providers::{Kind, Providers},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_id_is_in_the_logs_of_api_domain_and_worker() {
    let providers = &Providers::start().await;
    let Some(installation) = Installation::on_kafka(providers.settings()) else { return };
    // What goes well is told to whoever wants to follow it.
    let level = ("RUST_LOG", "info,api=debug,domain=debug,workers=debug");
    let domain = installation.start_with("domain", &[level]);
    let of_domain = ("CONFAB_DOMAIN_URL", domain.url.as_str());
    let api = installation.start_with("api", &[level, of_domain]);
    let worker = installation.start_with("worker", &[level, of_domain]);
    let site = Site::new(&api.url);
    let ada = site.join("ada").await;
    let bob = site.join_with(providers, Kind::Fcm, "bob").await;
    let group = site.group(&ada, "t", &[&bob]).await;
    let send = "mutation($id: ID!) { sendMessage(input: { conversationId: $id, clientMessageId: \"traced\",
        content: { text: { text: \"hello\" } } }) { message { id } } }";
    let answer = site
        .client
        .post(format!("{}/graphql", api.url))
        .bearer_auth(&ada.token)
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .json(&json!({ "query": send, "variables": { "id": group } }))
        .send()
        .await
        .expect("an answer");
    let answer: serde_json::Value = answer.json().await.expect("JSON");
    let message = answer["data"]["sendMessage"]["message"]["id"].as_str().expect("sent");
    providers.until_shown(message, 1).await;
    let begun = Instant::now();
    loop {
        let silent: Vec<&str> = [("api", &api), ("domain", &domain), ("worker", &worker)]
            .into_iter()
            .filter(|(_, process)| {
                let said = process.said();
                !said.lines().any(|line| line.contains("trace_id") && line.contains(TRACE))
            })
            .map(|(role, _)| role)
            .collect();
        if silent.is_empty() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{silent:?} log nothing of the trace");
        sleep(Duration::from_millis(50)).await;
    }
}
