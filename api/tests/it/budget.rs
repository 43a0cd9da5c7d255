//! What callers may spend: the same budget over HTTP and sockets, for aliases and across nodes.

use std::{sync::Arc, time::Duration};

use api::{hub::HubLimits, settings::Settings};
use domain::{Limits, Refill};
use serde_json::{Value, json};

use crate::{
    redis,
    socket::Socket,
    test_server::{Answer, GRAPHQL_RESPONSE, MovedClock, Shared, TestServer, answer},
};

/// Costs 20.
const TWENTY: &str = "{ sessions { id } }";
const LIMITED: &str = "RATE_LIMITED";

/// Registering costs about 30 of it.
fn limits(user: u32, address: u32) -> Limits {
    let refill = |burst| Refill { burst, per_second: 1 };
    Limits { user_budget: refill(user), address_budget: refill(address), ..Limits::default() }
}

struct Node {
    server: TestServer,
    clock: Arc<MovedClock>,
}

async fn node(limits: Limits, shared: Shared) -> Node {
    let clock = Arc::new(MovedClock::default());
    let settings = Settings::default();
    let server = TestServer::sharing(clock.clone(), settings, HubLimits::default(), limits, shared).await;
    Node { server, clock }
}

async fn ask(server: &TestServer, token: Option<&str>, body: Value) -> Answer {
    let mut request = server.post(GRAPHQL_RESPONSE, body.to_string());
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    answer(request).await
}

/// How often a document runs until the budget is spent.
async fn runs(server: &TestServer, token: Option<&str>, document: &str) -> usize {
    for count in 0..1000 {
        let answer = ask(server, token, json!({ "query": document })).await;
        if answer.code() == LIMITED {
            return count;
        }
        assert_ne!(answer.json()["data"], Value::Null, "{}", answer.text);
    }
    panic!("it never ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_429_with_retry_after_and_goes_on_when_the_budget_is_back() {
    let Node { server, clock } = node(limits(200, 10_000), Shared::default()).await;
    let token = server.register("ada").await;
    assert_eq!(runs(&server, Some(&token), TWENTY).await, 10);
    let refused = ask(&server, Some(&token), json!({ "query": TWENTY })).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, LIMITED), "{}", refused.text);
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((18..=20).contains(&wait), "{wait}");
    let extensions = refused.json()["errors"][0]["extensions"].clone();
    assert_eq!(extensions["retryAfterSeconds"], wait, "{extensions}");
    assert_eq!(extensions["retryable"], true);
    assert!(refused.json().get("data").is_none(), "nothing ran");
    // Another user has a budget of their own.
    let bob = server.register("bob").await;
    assert_eq!(ask(&server, Some(&bob), json!({ "query": TWENTY })).await.status, 200);
    clock.advance(Duration::from_secs(wait));
    assert_eq!(ask(&server, Some(&token), json!({ "query": TWENTY })).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_spend_from_the_same_budget_as_requests() {
    let Node { server, .. } = node(limits(200, 10_000), Shared::default()).await;
    let token = server.register("ada").await;
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    for number in 0..5 {
        socket.subscribe(&format!("q{number}"), TWENTY, json!({})).await;
        assert_eq!(socket.hear().await["type"], "next");
        assert_eq!(socket.hear().await["type"], "complete");
    }
    assert_eq!(runs(&server, Some(&token), TWENTY).await, 5);
    for document in [TWENTY, "subscription { events { ... on MessageSent { message { sender { id } } } } }"] {
        for _ in 0..2 {
            socket.subscribe("more", document, json!({})).await;
        }
        let mut refused = Value::Null;
        for _ in 0..2 {
            refused = socket.hear().await;
            if document == TWENTY {
                assert_eq!(refused["type"], "error", "{refused}");
            }
        }
        let extensions = &refused["payload"][0]["extensions"];
        assert_eq!(extensions["code"], LIMITED, "{refused}");
        assert!(extensions["retryAfterSeconds"].as_u64().is_some_and(|wait| wait > 0), "{refused}");
    }
    let mut other = Socket::initialised(&server, Some(&token)).await;
    other.subscribe("q", TWENTY, json!({})).await;
    assert_eq!(
        other.hear().await["payload"][0]["extensions"]["code"],
        LIMITED,
        "another socket is the same user"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_cost_as_much_as_requests_of_their_own() {
    let Node { server, .. } = node(limits(400, 10_000), Shared::default()).await;
    let (ada, bob) = (server.register("ada").await, server.register("bob").await);
    let aliased = "{ a: sessions { id } b: sessions { id } c: sessions { id } d: sessions { id } }";
    assert_eq!(runs(&server, Some(&ada), aliased).await, 5);
    assert_eq!(runs(&server, Some(&bob), TWENTY).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_callers_of_an_address_share_one_more_budget_and_nothing_is_free() {
    let Node { server, .. } = node(limits(1000, 300), Shared::default()).await;
    let (ada, bob) = (server.register("ada").await, server.register("bob").await);
    let before = runs(&server, Some(&ada), TWENTY).await;
    assert!((10..15).contains(&before), "{before} after two registrations");
    assert_eq!(ask(&server, Some(&bob), json!({ "query": TWENTY })).await.code(), LIMITED);
    let typename = "{ __typename }";
    assert!(runs(&server, None, typename).await < 20, "what is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_free_either() {
    for (body, code) in [
        (r#"{"query": "{ nothing"}"#, "BAD_REQUEST"),
        ("{", "BAD_REQUEST"),
        (r#"{"query": 7}"#, "BAD_REQUEST"),
    ] {
        let Node { server, .. } = node(limits(1000, 30), Shared::default()).await;
        let mut codes = Vec::new();
        for _ in 0..32 {
            let refused = answer(server.post(GRAPHQL_RESPONSE, body)).await;
            codes.push((refused.status, refused.code()));
        }
        let (read, spent) = codes.split_at(30);
        assert!(read.iter().all(|found| *found == (400, code.to_owned())), "{body}: {codes:?}");
        assert!(spent.iter().all(|found| *found == (429, LIMITED.to_owned())), "{body}: {codes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_document_costs_the_more_the_longer_it_is() {
    let text = |query: &str| json!({ "query": query });
    let long = format!("{{ {} }}", "nothing ".repeat(1_900));
    let ill_typed = format!("{{ node(id: {{}}) {{ id }} }} #{}", "x".repeat(20_000));
    let unknown =
        json!({ "query": long, "extensions": { "persistedQuery": { "version": 1, "sha256Hash": "x" } } });
    for (body, expected) in [
        (text("{ nothing }"), 1),
        (text("{ nothing"), 1),
        (text(&long), 60),
        (text(&format!("{{ {long}")), 60),
        (text(&ill_typed), 79),
        (unknown, 60),
        // Nobody reads what is too long.
        (text(&"x".repeat(900_000)), 257),
    ] {
        let Node { server, .. } = node(limits(1000, 10_000), Shared::default()).await;
        let remaining = async || {
            let answer = ask(&server, None, text("{ rateLimit { remaining } }")).await.json();
            answer["data"]["rateLimit"]["remaining"].as_i64().unwrap_or_else(|| panic!("{answer}"))
        };
        let before = remaining().await;
        for _ in 0..2 {
            let refused = ask(&server, None, body.clone()).await;
            assert_eq!(refused.status, 400, "{}", refused.text);
        }
        let spent = before - remaining().await - 1;
        let name: String = body["query"].as_str().unwrap_or_default().chars().take(30).collect();
        assert!((2 * expected..=2 * expected + 2).contains(&spent), "{name}: {spent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_document_costs_what_reading_it_takes_until_it_is_known() {
    let Node { server, .. } = node(limits(1000, 10_000), Shared::default()).await;
    let query = format!("{{ __typename }} #{}", "x".repeat(10_000));
    let body = json!({ "query": query, "extensions": { "cost": true } });
    for expected in [40, 1] {
        let answer = ask(&server, None, body.clone()).await.json();
        assert_eq!(answer["extensions"]["cost"]["requested"], expected, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_share_a_redis_share_the_budgets() {
    let limits = limits(1000, 100_000);
    let Some(nodes) = redis::nodes(2, &limits).await else { return };
    let Node { server: here, .. } = node(limits.clone(), nodes[0].shared.clone()).await;
    let Node { server: there, .. } = node(limits, nodes[1].shared.clone()).await;
    // The same number of a user on two databases: what makes a user in Redis.
    let tokens = [here.register("ada").await, there.register("ada").await];
    let by_address = json!({ "query": "{ rateLimit { remaining } }" });
    let remaining = async |server: &TestServer| {
        let answer = ask(server, None, by_address.clone()).await.json();
        answer["data"]["rateLimit"]["remaining"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    };
    let first = remaining(&here).await;
    let spent = runs(&here, Some(&tokens[0]), TWENTY).await;
    assert_eq!(spent, 50);
    // What the other has in its hand is at most a handful old.
    let handful = 100_000 / 64;
    let left = remaining(&there).await;
    assert!(left <= first - 1000 + handful, "{left} of {first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_node_counts_for_itself_and_never_lets_all_pass() {
    let limits = limits(200, 10_000);
    let away = redis::unreachable(&limits);
    let Node { server, .. } = node(limits, away.shared.clone()).await;
    let token = server.register("ada").await;
    assert_eq!(runs(&server, Some(&token), TWENTY).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_what_they_spend_and_what_all_limits_are() {
    let Node { server, .. } = node(limits(200, 10_000), Shared::default()).await;
    let token = server.register("ada").await;
    let query = "{ sessions { id } rateLimit { cost remaining fullAt budget { burst perSecond } }
        limits { operationCostMax documentBytesMax userBudget { burst perSecond } addressBudget { burst } } }";
    let body = json!({ "query": query, "extensions": { "cost": true } });
    let answer = ask(&server, Some(&token), body).await.json();
    let cost = 20 + 2 + 3;
    let data = &answer["data"];
    assert_eq!(data["rateLimit"]["cost"], cost, "{answer}");
    assert_eq!(data["rateLimit"]["remaining"], 200 - cost, "{answer}");
    assert_eq!(data["rateLimit"]["budget"], json!({ "burst": 200, "perSecond": 1 }));
    assert_eq!(data["limits"]["operationCostMax"], 10_000);
    assert_eq!(data["limits"]["documentBytesMax"], 65_536);
    assert_eq!(data["limits"]["userBudget"], json!({ "burst": 200, "perSecond": 1 }));
    let full_at = data["rateLimit"]["fullAt"].clone();
    let budget = json!({ "burst": 200, "perSecond": 1, "remaining": 200 - cost, "fullAt": full_at });
    assert_eq!(answer["extensions"]["cost"], json!({ "requested": cost, "max": 10_000, "budget": budget }));
    let mut socket = Socket::initialised(&server, Some(&token)).await;
    let payload = json!({ "query": TWENTY, "extensions": { "cost": true } });
    socket.say(json!({ "id": "1", "type": "subscribe", "payload": payload })).await;
    assert_eq!(socket.hear().await["payload"]["extensions"]["cost"]["requested"], 20);
    let plain = ask(&server, Some(&token), json!({ "query": TWENTY })).await.json();
    assert!(plain.get("extensions").is_none(), "only who asks is told: {plain}");
    let unlimited = TestServer::start().await;
    let body = json!({ "query": "{ rateLimit { cost } limits { userBudget { burst } } }", "extensions": { "cost": true } });
    let answer = ask(&unlimited, None, body).await.json();
    assert_eq!(answer["data"], json!({ "rateLimit": null, "limits": { "userBudget": null } }));
    assert_eq!(answer["extensions"]["cost"], json!({ "requested": 3, "max": 10_000 }));
}
