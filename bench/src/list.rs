//! B11: what opening the app reads, over GraphQL and by plain SQL.

#![expect(clippy::disallowed_methods, reason = "a benchmark waits for its tasks by itself")]

use std::sync::Arc;

use api::{
    schema::{self, ChatSchema, request_data},
    settings::Settings,
};
use async_graphql::Request;
use domain::{Caller, ClientKey, ConversationId, Mentions, MessageText, service::send_message::SendMessage};
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, DbBackend, QueryResult, Statement, Value};
use tokio::time::Instant;

use crate::{
    database::{Bench, random},
    measure::{Round, Stopwatch, histogram, micros},
    report::{Report, Target},
    write::BODY,
};

const CONVERSATIONS: usize = 2000;
const HISTORY: usize = 500;
const CALLS_A_ROUND: usize = 1000;
/// Readers at once: enough to keep two cores busy, few enough to measure reading and not queueing.
const READERS: usize = 2;

const LIST: &str = "{ conversations(first: 50) { nodes { id kind title lastSeq unreadCount \
    lastMessage { seq createdAt clientMessageId content { ... on TextContent { text } } sender { displayName } } \
    members(first: 10) { nodes { role readSeq user { id displayName } } } } pageInfo { hasNextPage endCursor } } }";

const PAGE: &str = "query($id: ID!) { conversation(id: $id) { messages(last: 50) { nodes { id seq rev createdAt \
    clientMessageId content { ... on TextContent { text } } sender { id displayName } } pageInfo { hasPreviousPage } } } }";

pub async fn b11(bench: &Arc<Bench>, rounds: usize) -> Report {
    let (viewer, conversations) = fill(bench).await;
    let schema = schema::build(bench.chat.clone(), None, &Settings::default());
    let title = "Conversation list (50 of 2,000) and history page (50) over GraphQL, MariaDB";
    let mut report = Report::new("b11", title);
    report.compare_latency();
    for (name, document, id) in [("list", LIST, None), ("history", PAGE, Some(conversations[0]))] {
        let statements = statements_of(bench, &schema, viewer, document, id).await;
        report.note(format!("{name}: {statements} SQL statements."));
        assert!(statements <= 4, "{name} takes {statements} statements");
    }
    for _ in 0..rounds {
        report.calibration("list, plain SQL", plain(bench, viewer, None).await);
        report.measured("list, GraphQL", graphql(&schema, bench, viewer, LIST, None).await);
        report.also("history, plain SQL", plain(bench, viewer, Some(conversations[0])).await);
        report.also("history, GraphQL", graphql(&schema, bench, viewer, PAGE, Some(conversations[0])).await);
    }
    report.note_ratio("history", "history, GraphQL", "history, plain SQL");
    report.target(Target { reach: 3.0, dream: Some(2.0), p99_millis: None });
    report
}

async fn fill(bench: &Bench) -> (Caller, Vec<ConversationId>) {
    let users = bench.users(200).await;
    let viewer = users[0];
    let mut conversations = Vec::new();
    for index in 0..CONVERSATIONS {
        let others = (1..5).map(|other| users[1 + (index * 4 + other) % (users.len() - 1)]);
        let members: Vec<Caller> = std::iter::once(viewer).chain(others).collect();
        conversations.push((bench.group(&members).await, members[1]));
    }
    let prefix = random();
    let send = |index: usize, (conversation, caller): (ConversationId, Caller)| {
        let chat = bench.chat.clone();
        async move {
            let client_key = ClientKey::new(&[], format!("{prefix:08x}{index}")).expect("a key");
            let text = MessageText::new(&[], BODY.to_owned()).expect("a text");
            chat.send_message(
                &caller,
                SendMessage { conversation, client_key, text, mentions: Mentions::default() },
            )
            .await
            .expect("sent");
        }
    };
    join_all(conversations.iter().enumerate().map(|(index, one)| send(index, *one))).await;
    join_all((0..HISTORY).map(|index| send(CONVERSATIONS + index, conversations[0]))).await;
    (viewer, conversations.into_iter().map(|(id, _)| id).collect())
}

async fn ask(schema: &ChatSchema, bench: &Bench, viewer: Caller, document: &str, id: Option<ConversationId>) {
    let variables = serde_json::json!({ "id": id.map(|id| id.to_string()) });
    let request = Request::new(document).variables(async_graphql::Variables::from_json(variables));
    let response = schema::execute(schema, request_data(request, &bench.chat, Some(viewer), None)).await;
    assert!(response.errors.is_empty(), "{:?}", response.errors);
    // What a client gets is text; making it belongs to the answer.
    let text = serde_json::to_string(&response).expect("JSON");
    assert!(text.len() > 5000, "a page of rows");
}

async fn graphql(
    schema: &ChatSchema,
    bench: &Arc<Bench>,
    viewer: Caller,
    document: &'static str,
    id: Option<ConversationId>,
) -> Round {
    let schema = schema.clone();
    repeat(bench, move |bench| {
        let schema = schema.clone();
        async move { ask(&schema, &bench, viewer, document, id).await }
    })
    .await
}

async fn repeat<F: Future<Output = ()> + Send>(
    bench: &Arc<Bench>,
    call: impl Fn(Arc<Bench>) -> F + Clone + Send + Sync + 'static,
) -> Round {
    let watch = Stopwatch::start(bench.server_process);
    let readers = (0..READERS).map(|_| {
        let (bench, call) = (bench.clone(), call.clone());
        tokio::spawn(async move {
            let mut latencies = histogram();
            for _ in 0..CALLS_A_ROUND / READERS {
                let started = Instant::now();
                call(bench.clone()).await;
                latencies.saturating_record(micros(started.elapsed()));
            }
            latencies
        })
    });
    let mut latencies = histogram();
    for one in join_all(readers).await {
        latencies.add(one.expect("a reader ends well")).expect("the same precision");
    }
    watch.stop(CALLS_A_ROUND, &latencies)
}

/// How many statements one call sends, by the server's own count.
async fn statements_of(
    bench: &Bench,
    schema: &ChatSchema,
    viewer: Caller,
    document: &str,
    id: Option<ConversationId>,
) -> u64 {
    ask(schema, bench, viewer, document, id).await;
    let idle = executed(bench).await;
    let before = executed(bench).await;
    ask(schema, bench, viewer, document, id).await;
    // Asking for the count is a statement too.
    (executed(bench).await - before) - (before - idle)
}

async fn executed(bench: &Bench) -> u64 {
    let sql = "SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'";
    let rows = bench
        .raw
        .query_all_raw(Statement::from_string(DbBackend::MySql, sql))
        .await
        .expect("the server counts");
    rows.first()
        .and_then(|row| row.try_get_by_index::<String>(1).ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

async fn plain(bench: &Arc<Bench>, viewer: Caller, page_of: Option<ConversationId>) -> Round {
    repeat(bench, move |bench| async move {
        match page_of {
            None => plain_list(&bench, viewer).await,
            Some(id) => plain_page(&bench, id).await,
        }
    })
    .await
}

async fn rows(bench: &Bench, sql: String, values: Vec<Value>) -> Vec<QueryResult> {
    bench
        .raw
        .query_all_raw(Statement::from_sql_and_values(DbBackend::MySql, sql, values))
        .await
        .expect("reads")
}

fn marks(count: usize, mark: &str) -> String {
    vec![mark; count].join(",")
}

/// The rows of the list in four statements, read and not looked at.
async fn plain_list(bench: &Bench, viewer: Caller) {
    let page = "SELECT c.id, c.kind, c.title, c.last_seq, c.countable, m.read_countable FROM member m JOIN conversation c \
        ON c.id = m.conversation_id WHERE m.user_id = ? AND m.removed_rev IS NULL ORDER BY c.active_at DESC, c.id DESC \
        LIMIT 51";
    let heads = rows(bench, page.to_owned(), vec![viewer.user.0.into()]).await;
    let ids: Vec<(Vec<u8>, i32)> = heads
        .iter()
        .take(50)
        .map(|row| (row.try_get_by_index(0).expect("an id"), row.try_get_by_index(3).expect("a seq")))
        .collect();
    let last = format!(
        "SELECT conversation_id, seq, id, sender_id, client_message_id, body, created_at FROM message WHERE \
         (conversation_id, seq) IN ({})",
        marks(ids.len(), "(?,?)")
    );
    let values = ids.iter().flat_map(|(id, seq)| [Value::from(id.clone()), (*seq).into()]).collect();
    let messages = rows(bench, last, values).await;
    let members = vec![
        "(SELECT conversation_id, user_id, role, read_seq FROM member WHERE conversation_id = ? AND \
        removed_rev IS NULL ORDER BY user_id LIMIT 11)";
        ids.len()
    ];
    let members =
        rows(bench, members.join(" UNION ALL "), ids.iter().map(|(id, _)| id.clone().into()).collect()).await;
    let mut users: Vec<i64> = members.iter().map(|row| row.try_get_by_index(1).expect("a user")).collect();
    users.extend(messages.iter().filter_map(|row| row.try_get_by_index::<i64>(3).ok()));
    users.sort_unstable();
    users.dedup();
    names(bench, users).await;
}

async fn plain_page(bench: &Bench, id: ConversationId) {
    let page = "SELECT seq, id, sender_id, client_message_id, body, created_at, rev FROM message WHERE conversation_id = ? \
        ORDER BY seq DESC LIMIT 51";
    let messages = rows(bench, page.to_owned(), vec![id.as_bytes().to_vec().into()]).await;
    let mut users: Vec<i64> = messages.iter().filter_map(|row| row.try_get_by_index(2).ok()).collect();
    users.sort_unstable();
    users.dedup();
    names(bench, users).await;
}

async fn names(bench: &Bench, users: Vec<i64>) {
    let sql = format!("SELECT id, display_name FROM user_account WHERE id IN ({})", marks(users.len(), "?"));
    let found = rows(bench, sql, users.into_iter().map(Value::from).collect()).await;
    assert!(!found.is_empty());
}
