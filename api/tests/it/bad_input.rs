//! What a careless or hostile client may send: each is answered with its code, and nothing of it is kept.

use domain::ConversationId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::test_server::{Answer, JSON, TestServer, answer};

struct Person {
    id: String,
    token: String,
}

async fn person(server: &TestServer, name: &str) -> Person {
    let token = server.register(name).await;
    let viewer = ask(server, &token, "{ viewer { id } }", json!({})).await.json();
    Person { id: text(&viewer["data"]["viewer"]["id"]), token }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

pub async fn ask(server: &TestServer, token: &str, query: &str, variables: Value) -> Answer {
    send_body(server, token, json!({ "query": query, "variables": variables }).to_string()).await
}

async fn send_body(server: &TestServer, token: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = server.request(Method::POST, "/graphql").header("content-type", JSON);
    answer(request.header("authorization", format!("Bearer {token}")).body(body)).await
}

/// The code of the first error, of the payload or of the whole.
pub fn code(answer: &Answer) -> String {
    let answer = answer.json();
    if let Some(code) = answer["errors"][0]["extensions"]["code"].as_str() {
        return code.to_owned();
    }
    let payload =
        answer["data"].as_object().and_then(|data| data.values().next()).cloned().unwrap_or_default();
    payload["userErrors"][0]["code"].as_str().map_or_else(|| format!("none in {answer}"), str::to_owned)
}

async fn group(server: &TestServer, owner: &Person) -> String {
    let create = "mutation { createGroup(input: { title: \"Tea\", memberIds: [] }) { conversation { id } } }";
    text(
        &ask(server, &owner.token, create, json!({})).await.json()["data"]["createGroup"]["conversation"]["id"],
    )
}

const SEND: &str = "mutation($id: ID!, $key: String!, $text: String!) { sendMessage(input: { conversationId: $id,
    clientMessageId: $key, content: { text: { text: $text } } }) { message { id seq } userErrors { code field } } }";

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_none_are_refused_and_nothing_is_kept() {
    let server = TestServer::start().await;
    let ada = person(&server, "ada").await;
    let id = group(&server, &ada).await;
    let with_text = |text: &str| json!({ "id": id, "key": "k", "text": text });
    for (wrong, text) in [
        ("empty", String::new()),
        ("16,385 bytes", "x".repeat(16_385)),
        ("as many in UTF-8", "é".repeat(8193)),
    ] {
        let refused = ask(&server, &ada.token, SEND, with_text(&text)).await;
        assert_eq!(code(&refused), "INVALID_INPUT", "{wrong}: {}", refused.text);
    }
    for (wrong, key) in [
        ("empty", ""),
        ("65 bytes", &"k".repeat(65)),
        ("a space", "a b"),
        ("not ASCII", "ü"),
        ("a NUL", "\0"),
    ] {
        let refused = ask(&server, &ada.token, SEND, json!({ "id": id, "key": key, "text": "x" })).await;
        assert_eq!(code(&refused), "INVALID_INPUT", "{wrong}: {}", refused.text);
    }
    let body = json!({ "query": SEND, "variables": with_text("{here}") }).to_string();
    for (wrong, here) in
        [("lone surrogate", r"\ud800".as_bytes()), ("not UTF-8", &[0xFF, 0xFE][..]), ("raw NUL", &[0][..])]
    {
        let (before, after) = body.split_once("{here}").expect("a place");
        let bytes = [before.as_bytes(), here, after.as_bytes()].concat();
        let refused = send_body(&server, &ada.token, bytes).await;
        assert_eq!(
            (refused.status, code(&refused)),
            (400, "BAD_REQUEST".to_owned()),
            "{wrong}: {}",
            refused.text
        );
    }
    let longest = "é".repeat(8192);
    let sent = ask(&server, &ada.token, SEND, with_text(&longest)).await.json();
    assert_eq!(sent["data"]["sendMessage"]["userErrors"], json!([]), "{sent}");
    let seq = sent["data"]["sendMessage"]["message"]["seq"].as_i64();
    let again = ask(&server, &ada.token, SEND, with_text("other")).await;
    assert_eq!(code(&again), "IDEMPOTENCY_CONFLICT");
    let elsewhere = group(&server, &ada).await;
    let moved = ask(&server, &ada.token, SEND, json!({ "id": elsewhere, "key": "k", "text": longest })).await;
    assert_eq!(code(&moved), "IDEMPOTENCY_CONFLICT");
    let last = ask(
        &server,
        &ada.token,
        "query($id: ID!) { conversation(id: $id) { lastSeq } }",
        json!({ "id": id }),
    )
    .await;
    assert_eq!(last.json()["data"]["conversation"]["lastSeq"].as_i64(), seq, "one message in all");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_are_refused_and_nothing_is_kept() {
    let server = TestServer::start().await;
    let ada = person(&server, "ada").await;
    let register =
        "mutation($name: String!, $shown: String!, $password: String!) { register(input: { username: $name,
        displayName: $shown, password: $password }) { user { id } userErrors { code field } } }";
    let names = ["", "a b", "a\u{0}", "a\u{7}", "\u{202E}ada", "a\u{200B}da", &"a".repeat(65)];
    for name in names {
        let refused =
            ask(&server, "", register, json!({ "name": name, "shown": "Ada", "password": "correct horse" }))
                .await;
        assert_eq!(refused.status, 401, "an empty token is no token");
        let request = server
            .query(JSON, register, json!({ "name": name, "shown": "Ada", "password": "correct horse" }))
            .await;
        assert_eq!(code(&request), "INVALID_INPUT", "{name:?}: {}", request.text);
    }
    for shown in ["", "   ", "a\u{0}", "a\nb", "\u{202E}ada", "\u{2066}x", &"a".repeat(65)] {
        let variables = json!({ "name": "bob", "shown": shown, "password": "correct horse" });
        let request = server.query(JSON, register, variables).await;
        assert_eq!(code(&request), "INVALID_INPUT", "{shown:?}: {}", request.text);
    }
    for password in ["", "short", &"x".repeat(2000)] {
        let variables = json!({ "name": "bob", "shown": "Bob", "password": password });
        let request = server.query(JSON, register, variables).await;
        assert_eq!(code(&request), "INVALID_INPUT", "{} characters: {}", password.len(), request.text);
    }
    let title = "mutation($title: String!) { createGroup(input: { title: $title, memberIds: [] }) { userErrors { code } } }";
    for wrong in ["", "a\u{0}", "a\u{1b}[31m", "\u{202E}", &"a".repeat(201)] {
        let refused = ask(&server, &ada.token, title, json!({ "title": wrong })).await;
        assert_eq!(code(&refused), "INVALID_INPUT", "{wrong:?}");
    }
    for taken in ["ada", "ADA", "\u{FF41}da"] {
        let variables = json!({ "name": taken, "shown": "Ada", "password": "correct horse" });
        assert_eq!(code(&server.query(JSON, register, variables).await), "USERNAME_TAKEN", "{taken}");
    }
}

/// What JSON and GraphQL can escape and no text can be: in variables and in literals of the document.
#[tokio::test(flavor = "multi_thread")]
async fn escaped_characters_that_are_none_are_refused_and_nothing_is_kept() {
    let server = TestServer::start().await;
    let ada = person(&server, "ada").await;
    let id = group(&server, &ada).await;
    let fields: [(&str, &str, &[&str]); 5] = [
        (
            "text",
            "mutation($x: String!) { sendMessage(input: { conversationId: \"ID\", clientMessageId: \"k\",
            content: { text: { text: $x } } }) { message { id } userErrors { code field } } }",
            &["content", "text", "text"],
        ),
        (
            "key",
            "mutation($x: String!) { sendMessage(input: { conversationId: \"ID\", clientMessageId: $x,
            content: { text: { text: \"t\" } } }) { message { id } userErrors { code field } } }",
            &["clientMessageId"],
        ),
        (
            "title",
            "mutation($x: String!) { createGroup(input: { title: $x, memberIds: [] }) { conversation { id }
            userErrors { code field } } }",
            &["title"],
        ),
        (
            "display name",
            "mutation($x: String!) { updateProfile(input: { displayName: $x }) { user { id }
            userErrors { code field } } }",
            &["displayName"],
        ),
        (
            "username",
            "mutation($x: String!) { register(input: { username: $x, password: \"correct horse\",
            displayName: \"b\" }) { user { id } userErrors { code field } } }",
            &["username"],
        ),
    ];
    let last_seq = "query($id: ID!) { conversation(id: $id) { lastSeq } conversations { nodes { id } } viewer { displayName } }";
    let before = ask(&server, &ada.token, last_seq, json!({ "id": id })).await.json();
    for (what, template, field) in fields {
        let query = template.replace("\"ID\"", &format!("\"{id}\""));
        for surrogate in [r"\ud800", r"a\uDFFFb", r"\ud800\ud800", r"\udc00\ud800"] {
            // JSON cannot be read at all; the literal is not GraphQL.
            let body = json!({ "query": query, "variables": { "x": "{here}" } })
                .to_string()
                .replace("{here}", surrogate);
            let refused = send_body(&server, &ada.token, body).await;
            assert_eq!(
                (refused.status, code(&refused).as_str()),
                (400, "BAD_REQUEST"),
                "{what}: {}",
                refused.text
            );
            let literal = query.replace("($x: String!)", "").replace("$x", &format!("\"{surrogate}\""));
            let refused = ask(&server, &ada.token, &literal, json!({})).await;
            assert_eq!(code(&refused), "BAD_REQUEST", "{what}, literal {surrogate}: {}", refused.text);
        }
        let body = json!({ "query": query, "variables": { "x": "a{here}b" } })
            .to_string()
            .replace("{here}", r"\u0000");
        let literal = query.replace("($x: String!)", "").replace("$x", r#""a\u0000b""#);
        let literal = json!({ "query": literal }).to_string();
        for body in [body, literal] {
            let refused = send_body(&server, &ada.token, body).await;
            assert_eq!(code(&refused), "INVALID_INPUT", "{what}: {}", refused.text);
            let payload = refused.json()["data"].as_object().and_then(|data| data.values().next().cloned());
            assert_eq!(
                payload.unwrap_or_default()["userErrors"][0]["field"],
                json!(field),
                "{what}: {}",
                refused.text
            );
        }
    }
    let after = ask(&server, &ada.token, last_seq, json!({ "id": id })).await.json();
    assert_eq!(after, before, "nothing of it is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_write_a_character_in_a_document_is_the_same_character() {
    let server = TestServer::start().await;
    let ada = person(&server, "ada").await;
    for written in ["😀", r"\u{1F600}", r"\ud83d\ude00", r"\u{01f600}"] {
        let rename = format!(
            "mutation {{ updateProfile(input: {{ displayName: \"{written}\" }}) {{ user {{ displayName }} }} }}"
        );
        let answer = ask(&server, &ada.token, &rename, json!({})).await.json();
        assert_eq!(answer["data"]["updateProfile"]["user"]["displayName"], "😀", "{written}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_others_look_like_ids_of_nothing() {
    let server = TestServer::start().await;
    let (ada, eve) = (person(&server, "ada").await, person(&server, "eve").await);
    let id = group(&server, &ada).await;
    let sent = ask(&server, &ada.token, SEND, json!({ "id": id, "key": "k", "text": "x" })).await.json();
    let message = text(&sent["data"]["sendMessage"]["message"]["id"]);
    let missing = ConversationId::group(12_345).to_string();
    let id_of_user = eve.id.as_str();
    let calls: &[(&str, &str)] = &[
        ("query($id: ID!) { conversation(id: $id) { id } }", "conversation"),
        ("query($id: ID!) { node(id: $id) { id } }", "node"),
    ];
    for (query, field) in calls {
        let of_others = ask(&server, &eve.token, query, json!({ "id": id })).await.json();
        let none = ask(&server, &eve.token, query, json!({ "id": missing })).await.json();
        assert_eq!(of_others, none, "nothing tells which of them exists");
        assert_eq!(none, json!({ "data": { *field: null } }));
    }
    let node = "query($id: ID!) { node(id: $id) { id } }";
    let of_message = ask(&server, &eve.token, node, json!({ "id": message })).await.json();
    assert_eq!(of_message, json!({ "data": { "node": null } }), "a message of others");
    let nodes = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }";
    let mixed = json!({ "ids": [missing, eve.id, id, "nonsense", message, eve.id] });
    let found = ask(&server, &eve.token, nodes, mixed).await.json();
    let own = json!({ "id": eve.id });
    assert_eq!(
        found,
        json!({ "data": { "nodes": [null, own, null, null, null, own] } }),
        "in order, with holes"
    );
    let mutations = [
        SEND,
        "mutation($id: ID!) { markRead(input: { conversationId: $id, seq: 1 }) { conversation { id } userErrors { code message field } } }",
        "mutation($id: ID!) { updateGroup(input: { conversationId: $id, title: \"x\" }) { conversation { id } userErrors { code message field } } }",
        "mutation($id: ID!) { leaveGroup(input: { conversationId: $id }) { userErrors { code message field } } }",
        "mutation($id: ID!) { addMembers(input: { conversationId: $id, userIds: [] }) { conversation { id } userErrors { code message field } } }",
        "mutation($id: ID!, $user: ID! = \"USER\") { removeMember(input: { conversationId: $id, userId: $user }) { conversation { id } userErrors { code message field } } }",
        "mutation($id: ID!, $user: ID! = \"USER\") { setMemberRole(input: { conversationId: $id, userId: $user, role: ADMIN }) { member { id } userErrors { code message field } } }",
        "mutation($id: ID!) { muteConversation(input: { conversationId: $id }) { userErrors { code message field } } }",
    ];
    let mutations = mutations.map(|mutation| mutation.replace("USER", &ada.id));
    for mutation in &mutations {
        let asked = async |id: &str| {
            ask(&server, &eve.token, mutation, json!({ "id": id, "key": "k", "text": "x" })).await
        };
        let (of_others, of_nobody) = (asked(&id).await, asked(&missing).await);
        assert_eq!(code(&of_others), "NOT_FOUND", "{mutation}: {}", of_others.text);
        assert_eq!(of_others.json(), of_nobody.json(), "{mutation}: nothing tells which of them exists");
        for wrong in [id_of_user, "nonsense", "", &format!("{id}A"), "cnv_", &message] {
            let refused = asked(wrong).await;
            assert_eq!(code(&refused), "INVALID_INPUT", "{mutation} with {wrong:?}: {}", refused.text);
            let payload = refused.json()["data"].as_object().and_then(|data| data.values().next().cloned());
            assert_eq!(
                payload.unwrap_or_default()["userErrors"][0]["field"],
                json!(["conversationId"]),
                "{}",
                refused.text
            );
        }
    }
    // In arguments of queries a malformed id, or one of another type, is a bad request.
    for query in [
        "query($id: ID!) { conversation(id: $id) { id } }",
        "query($id: ID!) { user(by: { id: $id }) { id } }",
    ] {
        for wrong in ["nonsense", "", "cnv_", "usr_", &format!("{id}A"), &message] {
            let refused = ask(&server, &eve.token, query, json!({ "id": wrong })).await;
            assert_eq!(code(&refused), "BAD_REQUEST", "{query} with {wrong:?}: {}", refused.text);
        }
    }
    for wrong in ["nonsense", "", "cnv_", &format!("{id}A")] {
        let answer = ask(&server, &eve.token, node, json!({ "id": wrong })).await.json();
        assert_eq!(answer, json!({ "data": { "node": null } }), "{wrong:?}");
    }
    let open =
        "mutation($id: ID!) { openDirectConversation(input: { userId: $id }) { userErrors { code } } }";
    assert_eq!(
        code(&ask(&server, &eve.token, open, json!({ "id": eve.id })).await),
        "INVALID_INPUT",
        "with oneself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_none_are_refused() {
    let server = TestServer::start().await;
    let ada = person(&server, "ada").await;
    let id = group(&server, &ada).await;
    let list = "query($first: Int, $after: String) { conversations(first: $first, after: $after) { pageInfo { endCursor } } }";
    for first in [json!(0), json!(-1), json!(101)] {
        let refused = ask(&server, &ada.token, list, json!({ "first": first })).await;
        assert_eq!(code(&refused), "PAGE_SIZE_OUT_OF_RANGE", "{first}: {}", refused.text);
    }
    for first in [json!(2_147_483_648_i64), json!("1"), json!(1.5), json!([1])] {
        let refused = ask(&server, &ada.token, list, json!({ "first": first })).await;
        assert_eq!(code(&refused), "BAD_REQUEST", "{first}: {}", refused.text);
    }
    let first = ask(&server, &ada.token, list, json!({ "first": 1 })).await.json();
    let good = text(&first["data"]["conversations"]["pageInfo"]["endCursor"]);
    let mut altered = good.clone().into_bytes();
    let middle = altered.len() / 2;
    altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).expect("text");
    for cursor in ["", "nonsense", &good[1..], &format!("{good}{good}"), &"A".repeat(100_000)] {
        let refused = ask(&server, &ada.token, list, json!({ "first": 1, "after": cursor })).await;
        assert_eq!(code(&refused), "BAD_REQUEST", "{:.20}: {:.200}", cursor, refused.text);
    }
    // A cursor of a page is a place, not a right: an altered one that still reads as one shows what the viewer may see anyway.
    let elsewhere = ask(&server, &ada.token, list, json!({ "first": 1, "after": altered })).await;
    assert!(elsewhere.status == 200 && elsewhere.json()["errors"][0]["extensions"]["code"] != "INTERNAL");
    let history = "query($id: ID!, $first: Int, $last: Int) { conversation(id: $id) { messages(first: $first, last: $last) { nodes { id } } } }";
    for (first, last) in
        [(json!(0), Value::Null), (Value::Null, json!(101)), (json!(1), json!(1)), (json!(-5), Value::Null)]
    {
        let refused =
            ask(&server, &ada.token, history, json!({ "id": id, "first": first, "last": last })).await;
        assert_eq!(code(&refused), "PAGE_SIZE_OUT_OF_RANGE", "{first} {last}: {}", refused.text);
    }
}
