//! Trap 1: callers that go away at any moment lose nothing that was acknowledged and leave no transaction open.

use std::{sync::Arc, time::Duration};

use domain::{ConversationId, Mentions, Message, PageRequest, service::send_message::SendMessage};
use sea_orm::{ConnectionTrait as _, Statement};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::harness::{Kind, TestDatabase, database, group, key, random_number, text};

/// Half of the calls are dropped after 0 to 20 ms.
async fn storm(db: &TestDatabase, calls: usize) {
    let chat = db.chat();
    let users = Arc::new(db.users(8).await);
    let mut conversations = Vec::new();
    for _ in 0..32 {
        conversations.push(group(&chat, &users[0], &users[1..]).await);
    }
    let at_once = Arc::new(Semaphore::new(512));
    let mut tasks = JoinSet::new();
    for index in 0..calls {
        let permit = at_once.clone().acquire_owned().await.expect("open");
        let (chat, caller) = (chat.clone(), users[index % users.len()]);
        let conversation = conversations[index % conversations.len()];
        tasks.spawn(async move {
            let _permit = permit;
            let command = SendMessage {
                conversation,
                client_key: key(format!("k{index}")),
                text: text("storm"),
                mentions: Mentions::default(),
            };
            let dropped_after = (index % 2 == 0).then(|| Duration::from_micros(random_number() % 20_000));
            let send = async {
                // Reading transactions are cancelled too.
                if index % 16 == 0 {
                    chat.missed(&caller, None, None).await?;
                }
                chat.send_message(&caller, command).await
            };
            match dropped_after {
                Some(after) => tokio::time::timeout(after, send).await.ok().and_then(Result::ok),
                None => send.await.ok(),
            }
        });
    }
    let mut acked = Vec::new();
    while let Some(done) = tasks.join_next().await {
        acked.extend(done.expect("no panic"));
    }
    assert!(acked.len() >= calls / 2, "those who stay are answered: {} of {calls}", acked.len());
    // A process of its own would see what is really committed; a fresh pool is as good.
    let reader = db.reopen().await;
    for chunk in acked.chunks(500) {
        check(&reader, chunk).await;
    }
    no_hole(&reader, &users[0], &conversations).await;
    no_open_transaction(db).await;
}

async fn check(reader: &domain::Chat, acked: &[Arc<Message>]) {
    let caller = domain::Caller {
        user: acked[0].sender.expect("a sender"),
        session: domain::SessionId(1),
        expires_at: domain::Timestamp(0),
    };
    let ids: Vec<_> = acked.iter().map(|message| message.id).collect();
    let found = reader.messages(&caller, &ids).await.expect("reads");
    for message in acked {
        assert_eq!(
            found.get(&message.id).map(|found| found.seq),
            Some(message.seq),
            "an acknowledged message is lost"
        );
    }
}

async fn no_hole(reader: &domain::Chat, caller: &domain::Caller, conversations: &[ConversationId]) {
    for id in conversations {
        let mut after = 0;
        loop {
            let page = PageRequest::new((Some(100), Some(after)), (None, None), domain::Direction::Forward)
                .expect("a page");
            let page = reader.history(caller, *id, &page).await.expect("reads");
            for message in &page.items {
                assert_eq!(message.seq, after + 1);
                after = message.seq;
            }
            if !page.has_next {
                break;
            }
        }
    }
}

async fn no_open_transaction(db: &TestDatabase) {
    let (sql, backend) = match db.kind {
        Kind::Sqlite => return,
        Kind::MariaDb => (
            "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
             ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE()",
            sea_orm::DbBackend::MySql,
        ),
        Kind::Postgres => (
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
            sea_orm::DbBackend::Postgres,
        ),
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let row =
            db.store.connection().query_one_raw(Statement::from_string(backend, sql)).await.expect("reads");
        let open: i64 = row.and_then(|row| row.try_get_by_index(0).ok()).unwrap_or(-1);
        if open == 0 {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{open} transactions are still open");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_calls_half_of_them_dropped_lose_nothing_on_mariadb() {
    if let Some(db) = database(Kind::MariaDb).await {
        storm(&db, 100_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_dropped_calls_loses_nothing_on_postgres() {
    if let Some(db) = database(Kind::Postgres).await {
        storm(&db, 10_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_dropped_calls_loses_nothing_on_sqlite() {
    let db = database(Kind::Sqlite).await.expect("always there");
    storm(&db, 10_000).await;
}
