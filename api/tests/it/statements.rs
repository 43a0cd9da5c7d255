//! How many SQL statements pages take, on every database there is: as few for many rows as for one.

#![expect(clippy::disallowed_methods, reason = "tests find their servers in the environment")]

use std::{env, sync::Arc};

use api::{
    schema::{self, request_data},
    settings::Settings,
};
use async_graphql::{Request, Variables};
use domain::{
    Caller, Chat, ClientKey, ConversationId, Limits, Mentions, MessageText, Title,
    adapter::{
        ambient::{SystemClock, SystemRandom},
        sql::{PoolSettings, SqlStore},
    },
    keys::KeyRing,
    port::Random,
    service::{create_group::CreateGroup, register::Register, send_message::SendMessage},
    wiring::Wiring,
};
use futures_util::future::join_all;
use migration::{Migrator, MigratorTrait, SCHEMA_VERSION};
use sea_orm::{ConnectionTrait, Database};
use serde_json::{Value, json};

/// DESIGN's bound for list and history pages.
const STATEMENTS_MAX: u64 = 4;

/// A domain without a hub, which would read by itself.
struct Quiet {
    chat: Chat,
    store: SqlStore,
    _folder: tempfile::TempDir,
}

/// A domain on a fresh database; `None`, loudly, when its server is not there.
async fn quiet(server: Option<&str>) -> Option<Quiet> {
    let folder = tempfile::tempdir().expect("a folder");
    let url = match server {
        None => format!("sqlite://{}/confab.sqlite?mode=rwc", folder.path().display()),
        Some(name) => {
            let Ok(server) = env::var(name) else {
                eprintln!("SKIPPED: {name} is not set (scripts/test sets it)");
                return None;
            };
            let server = server.trim_end_matches('/');
            let mut number = [0; 8];
            SystemRandom.fill(&mut number);
            let database = format!("confab_test_{:016x}", u64::from_ne_bytes(number));
            let admin =
                if server.starts_with("postgres") { format!("{server}/postgres") } else { server.to_owned() };
            let admin = Database::connect(admin).await.expect("the test server answers");
            admin.execute_unprepared(&format!("CREATE DATABASE {database}")).await.expect("a fresh database");
            admin.close().await.expect("closes");
            format!("{server}/{database}")
        }
    };
    let raw = SqlStore::connect_raw(&url, PoolSettings::default()).await.expect("connects");
    Migrator::up(&raw, None).await.expect("migrates");
    raw.close().await.expect("closes");
    let store = SqlStore::open(&url, PoolSettings::default(), SCHEMA_VERSION).await.expect("opens");
    let keys = folder.path().join("keys");
    KeyRing::create(&keys, &SystemClock, &SystemRandom).expect("a key");
    let limits = Limits { rate_limits: false, ..Limits::default() };
    let chat = Wiring::new(store.clone(), KeyRing::open(&keys).expect("opens"), limits).build();
    Some(Quiet { chat, store, _folder: folder })
}

impl Quiet {
    async fn person(&self, name: &str) -> Caller {
        let register = Register {
            username: name.to_owned(),
            password: "correct horse".to_owned(),
            display_name: name.to_owned(),
            device_name: None,
            address: None,
        };
        let token = self.chat.register(register).await.expect("registers").credentials.access_token;
        self.chat.authenticate(&token).expect("a good token")
    }

    async fn group(&self, owner: &Caller, other: &Caller) -> ConversationId {
        let title = Title::new("Tea".to_owned()).expect("a title");
        let command = CreateGroup { title, members: vec![other.user], client_key: None };
        self.chat.create_group(owner, command).await.expect("a group").conversation.id
    }

    async fn send(&self, sender: &Caller, conversation: ConversationId, text: String) {
        let client_key = ClientKey::new(&[], text.clone()).expect("a key");
        let text = MessageText::new(&[], text).expect("a text");
        let command = SendMessage { conversation, client_key, text, mentions: Mentions::default() };
        self.chat.send_message(sender, command).await.expect("sent");
    }

    /// The answer, and how many statements it took.
    async fn ask(&self, viewer: Caller, document: &str, variables: Value) -> (Value, u64) {
        let schema = schema::build(self.chat.clone(), None, &Settings::default());
        let request = Request::new(document).variables(Variables::from_json(variables));
        let before = self.store.statements();
        let answer = schema::execute(&schema, request_data(request, &self.chat, Some(viewer), None)).await;
        let statements = self.store.statements() - before;
        assert!(answer.errors.is_empty(), "{:?}", answer.errors);
        (answer.data.into_json().expect("JSON"), statements)
    }
}

const GROUPS: usize = 30;

async fn pages_take_few_statements_however_many_rows(server: Option<&str>) {
    let Some(quiet) = quiet(server).await else { return };
    let (ada, bob) = (quiet.person("ada").await, quiet.person("bob").await);
    let groups = join_all((0..GROUPS).map(|_| quiet.group(&ada, &bob))).await;
    // Of different lengths, so that the places of the newest differ.
    join_all(
        groups
            .iter()
            .enumerate()
            .flat_map(|(index, group)| (0..=index % 5).map(move |number| (index, number, *group)))
            .map(|(index, number, group)| {
                let sender = if number % 2 == 0 { &ada } else { &bob };
                quiet.send(sender, group, format!("{index}.{number}"))
            }),
    )
    .await;

    let messages = "nodes { seq sender { displayName } content { ... on TextContent { text } } }";
    let pages = [
        "lastMessage { sender { displayName } } members(first: 10) { nodes { user { displayName } } }"
            .to_owned(),
        format!("messages(last: 1) {{ {messages} }}"),
        format!("messages(first: 3) {{ {messages} }}"),
        format!("messages(aroundSeq: 2, first: 3) {{ {messages} }}"),
        format!("newest: messages(last: 1) {{ {messages} }} oldest: messages(first: 2) {{ {messages} }}"),
    ];
    for page in pages {
        for first in [1, GROUPS] {
            let list = format!(
                "query($first: Int!) {{ conversations(first: $first) {{ nodes {{ id unreadCount {page} }} }} }}"
            );
            let (answer, statements) = quiet.ask(ada, &list, json!({ "first": first })).await;
            assert_eq!(answer["conversations"]["nodes"].as_array().map(Vec::len), Some(first));
            assert!(statements <= STATEMENTS_MAX, "{statements} statements for {first} with {page}");
        }
    }
    let total = "{ viewer { totalUnreadCount } again: viewer { totalUnreadCount }
        conversations(first: 30) { nodes { unreadCount members(first: 10) { nodes { user { totalUnreadCount } } } } } }";
    let (answer, statements) = quiet.ask(bob, total, json!({})).await;
    assert_eq!(answer["viewer"], answer["again"]);
    let each = answer["conversations"]["nodes"].as_array().expect("groups").iter();
    let sum: i64 = each.filter_map(|group| group["unreadCount"].as_i64()).sum();
    assert_eq!(answer["viewer"]["totalUnreadCount"], sum);
    // Once for the root and once for all that stands deeper.
    assert!(statements <= STATEMENTS_MAX + 2, "{statements} statements with the total");
    let history =
        format!("query($id: ID!) {{ conversation(id: $id) {{ messages(last: 50) {{ {messages} }} }} }}");
    let (answer, statements) = quiet.ask(ada, &history, json!({ "id": groups[4].to_string() })).await;
    assert_eq!(answer["conversation"]["messages"]["nodes"].as_array().map(Vec::len), Some(5));
    assert!(statements <= STATEMENTS_MAX, "{statements} statements for a history page");

    // Read together, each conversation still shows its own.
    let list = format!(
        "{{ conversations(first: {GROUPS}) {{ nodes {{ id messages(last: 2) {{ {messages} pageInfo {{ hasPreviousPage }} }} }} }} }}"
    );
    let (answer, _) = quiet.ask(bob, &list, json!({})).await;
    for node in answer["conversations"]["nodes"].as_array().expect("a list") {
        let index = groups.iter().position(|id| node["id"] == id.to_string()).expect("one of them");
        let length = index % 5 + 1;
        let shown: Vec<_> = node["messages"]["nodes"].as_array().expect("a page").iter().collect();
        let seqs: Vec<_> = shown.iter().map(|message| message["seq"].as_u64().unwrap_or(0)).collect();
        let oldest = length.saturating_sub(2) + 1;
        assert_eq!(seqs, (oldest as u64..=length as u64).collect::<Vec<_>>(), "{node}");
        assert!(shown.iter().all(|message| {
            message["content"]["text"].as_str().is_some_and(|text| text.starts_with(&format!("{index}.")))
        }));
        assert_eq!(node["messages"]["pageInfo"]["hasPreviousPage"], length > 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_take_few_statements_however_many_rows_on_sqlite() {
    pages_take_few_statements_however_many_rows(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_take_few_statements_however_many_rows_on_mariadb() {
    pages_take_few_statements_however_many_rows(Some("CONFAB_TEST_MARIADB_URL")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_take_few_statements_however_many_rows_on_postgres() {
    pages_take_few_statements_however_many_rows(Some("CONFAB_TEST_POSTGRES_URL")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_read_together_show_a_stranger_nothing() {
    let quiet = Arc::new(quiet(None).await.expect("SQLite is always there"));
    let (ada, bob, eve) = (quiet.person("ada").await, quiet.person("bob").await, quiet.person("eve").await);
    let (of_others, own) = (quiet.group(&ada, &bob).await, quiet.group(&eve, &bob).await);
    quiet.send(&ada, of_others, "secret".to_owned()).await;
    quiet.send(&eve, own, "mine".to_owned()).await;
    let newest = || domain::PageRequest::new((None, None), (Some(5), None), domain::Direction::Backward);
    let pages = [of_others, own].map(|conversation| domain::port::conversations::HistoryPage {
        conversation,
        request: newest().expect("a page"),
    });
    let found = quiet.chat.histories(&eve, &pages).await.expect("reads");
    assert_eq!(found.iter().map(|page| page.items.len()).collect::<Vec<_>>(), [0, 1]);
}
