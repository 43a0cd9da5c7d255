//! A database that is away: the same word and the same time, whether the domain runs in the process or behind gRPC.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    installation::Installation,
    server::{client, register},
};

/// How long a statement may wait for a connection here.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// A send waits this long for a domain that may be out for a moment only, before it is asked by a call of its own.
const OUT_FOR_A_MOMENT: Duration = Duration::from_secs(1);
/// What a loaded machine adds. A call that is tried until its own deadline takes 5.5 s.
const SLACK: Duration = Duration::from_millis(2500);

/// A way to the database; nobody listens at its near end once it is cut.
struct Link {
    url: String,
    cut: CancellationToken,
    carried: TaskTracker,
}

impl Link {
    async fn to(database: &str) -> Self {
        let (before, rest) = database.split_once('@').expect("user:password@address/name");
        let (address, name) = rest.split_once('/').expect("address/name");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let url = format!("{before}@{}/{name}", listener.local_addr().expect("bound"));
        let (cut, carried, address) = (CancellationToken::new(), TaskTracker::new(), address.to_owned());
        let (until, tasks) = (cut.clone(), carried.clone());
        carried.spawn(cut.clone().run_until_cancelled_owned(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let address = address.clone();
                tasks.spawn(until.clone().run_until_cancelled_owned(async move {
                    let mut far = TcpStream::connect(address).await?;
                    copy_bidirectional(&mut near, &mut far).await
                }));
            }
        }));
        Self { url, cut, carried }
    }

    async fn cut(&self) {
        self.cut.cancel();
        self.carried.close();
        self.carried.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_alike_in_the_process_and_over_grpc() {
    let more = vec![("CONFAB_DATABASE_ACQUIRE_TIMEOUT_MS", ACQUIRE_TIMEOUT.as_millis().to_string())];
    let Some(installation) = Installation::on_mariadb(more) else { return };
    let link = Link::to(&installation.database).await;
    let through = [("CONFAB_DATABASE_URL", link.url.as_str())];
    let serve = installation.start_with("serve", &through);
    let domain = installation.start_with("domain", &through);
    let api = installation.start_with("api", &[("CONFAB_DOMAIN_URL", domain.url.as_str())]);
    let client = client();
    let ask = async |url: &str, token: &str, query: &str, variables: Value| -> Value {
        let body = json!({ "query": query, "variables": variables });
        let post = client.post(format!("{url}/graphql")).bearer_auth(token).json(&body);
        post.send().await.expect("an answer").json().await.expect("JSON")
    };
    let create = "mutation { createGroup(input: { title: \"Tea\", memberIds: [] }) { conversation { id } } }";
    let mut sites = Vec::new();
    for (name, url) in [("ada", &serve.url), ("bob", &api.url)] {
        let (_, token) = register(&client, url, name).await;
        let group = ask(url, &token, create, Value::Null).await;
        sites.push((url, token, group["data"]["createGroup"]["conversation"]["id"].clone()));
    }
    link.cut().await;
    api.until_said("a domain endpoint is out").await;
    for (url, token, group) in &sites {
        for (query, variables) in [
            ("{ conversations { nodes { id } } }", Value::Null),
            (
                "mutation { signIn(input: { username: \"ada\", password: \"correct horse\" }) { userErrors { code } } }",
                Value::Null,
            ),
            (
                "mutation($input: SendMessageInput!) { sendMessage(input: $input) { userErrors { code } } }",
                json!({ "input": { "conversationId": group, "clientMessageId": "k", "content": { "text": { "text": "x" } } } }),
            ),
            (
                "mutation($input: UpdateGroupInput!) { updateGroup(input: $input) { userErrors { code } } }",
                json!({ "input": { "conversationId": group, "title": "Coffee" } }),
            ),
        ] {
            let begun = Instant::now();
            let answer = ask(url, token, query, variables).await;
            let took = begun.elapsed();
            println!("{took:?} at {url}: {query:.40}");
            let error = &answer["errors"][0];
            assert_eq!(error["extensions"], json!({ "code": "UNAVAILABLE", "retryable": true }), "{answer}");
            assert_eq!(error["message"], "the service is busy or away; try again", "{query}");
            assert!(took < ACQUIRE_TIMEOUT + OUT_FOR_A_MOMENT + SLACK, "{query}: {took:?}");
        }
    }
}
