//! What today's database drivers and defaults would get wrong.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use domain::{
    Conversation, ConversationId, ErrorCode, Member, MemberId, MemberRole, Mentions, Timestamp,
    adapter::sql::{ConnectError, PoolSettings, SqlStore},
    port::{Log as _, StoreError},
    service::{
        add_members::AddMembers, mark_read::MarkRead, remove_member::RemoveMember, send_message::SendMessage,
        set_member_role::SetMemberRole,
    },
};
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use migration::SCHEMA_VERSION;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use crate::{
    harness::{Kind, database, group, key, text},
    on_every_database,
};

async fn setting(db: &crate::harness::TestDatabase, backend: DbBackend, sql: &str) -> String {
    let row = db
        .store
        .connection()
        .query_one_raw(Statement::from_string(backend, sql))
        .await
        .expect("reads")
        .expect("a row");
    row.try_get_by_index(0).expect("a text")
}

/// What a future comes to, if it takes no more polls than that.
async fn polled<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Writes over the one connection, and sees it from elsewhere.
async fn write_and_look(store: &SqlStore, elsewhere: &SqlStore, when: &str) {
    let before = elsewhere.heads().await.expect("reads").epoch;
    store.raise_epoch(before, Timestamp(0)).await.expect("writes");
    let epoch = elsewhere.heads().await.expect("reads").epoch;
    assert!(epoch > before, "what was written {when} is not committed");
}

on_every_database! {
    async fn a_binary_older_than_the_schema_allows_does_not_start(db: TestDatabase) {
        let raise = format!("UPDATE confab_meta SET binary_min = {}", SCHEMA_VERSION + 1);
        db.store.connection().execute_unprepared(&raise).await.expect("raises");
        let refusal = SqlStore::open(&db.url, PoolSettings::default(), SCHEMA_VERSION).await.err().expect("refuses");
        let expected = (SCHEMA_VERSION + 1, SCHEMA_VERSION);
        assert!(
            matches!(refusal, ConnectError::BinaryTooOld { allowed, have } if (allowed, have) == expected),
            "{refusal:?}"
        );
        SqlStore::open(&db.url, PoolSettings::default(), SCHEMA_VERSION + 1).await.err().expect("lacks a migration");
    }

    async fn an_update_of_read_positions_makes_no_membership(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(14).await;
        let id = group(&chat, &users[0], &users[1..12]).await;
        let lanes = [chat.layout().of_conversation(id)];
        let ids: Vec<MemberId> = users.iter().map(|user| MemberId { conversation: id, user: user.user }).collect();
        let mut tx = db.store.begin(&lanes).await.expect("begins");
        let known = tx.members(&ids).await.expect("reads");
        assert_eq!(known.len(), 12);
        let changed: Vec<Member> = known.iter().map(|member| Member { read_seq: 3, read_rev: 7, ..member.clone() }).collect();
        // Once with new values, once with those they have: both are complete.
        tx.update_reads(&changed).await.expect("all there");
        tx.update_reads(&changed).await.expect("all there, unchanged");
        let mut after = tx.members(&ids).await.expect("reads");
        after.sort_by_key(Member::id);
        let mut expected = changed.clone();
        expected.sort_by_key(Member::id);
        assert_eq!(after, expected);
        tx.rollback().await;
        // One that is there and changes hides one that is not.
        for count in [2, 12] {
            let mut tx = db.store.begin(&lanes).await.expect("begins");
            let mut rows: Vec<Member> = changed.iter().take(count).cloned().collect();
            rows[0].user = users[12].user;
            tx.update_reads(&rows).await.expect_err("one is missing");
            assert_eq!(tx.members(&[rows[0].id()]).await.expect("reads"), []);
            tx.rollback().await;
        }
        assert_eq!(chat.members(&users[0], &ids).await.expect("reads").len(), 12);
    }

    /// Whether all of it travels in one exchange, on a connection that was kept, as a block or as with MySQL, or statement by statement.
    async fn a_head_that_is_missing_and_a_lane_that_has_moved_on_commit_nothing(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(1).await;
        for store in [db.store.clone(), db.store.clone().without_blocks()] {
            let id = group(&chat, &users[0], &[]).await;
            let lane = chat.layout().of_conversation(id);
            let mut tx = store.begin(&[lane]).await.expect("begins");
            let known = tx.lock_conversations(&[id]).await.expect("reads").remove(0);
            let there = Conversation { rev: known.rev + 1, ..known.clone() };
            let missing = Conversation { id: ConversationId::group(1), ..there.clone() };
            tx.write_messages(&[], &[there.clone(), missing.clone()]).await.expect_err("one is missing");
            tx.rollback().await;
            // Its connection is kept.
            let tx = store.begin(&[lane]).await.expect("begins");
            tx.commit(&[], Timestamp(1)).await.expect("commits");
            let before = store.heads().await.expect("reads");
            let stands = before.positions.get(lane);
            for (last, heads) in [(stands, [there.clone(), missing.clone()]), (stands - 1, [there.clone(), known.clone()])] {
                let begun = store.begin_after(before.epoch, &[(lane, last)]).await.expect("no error yet");
                if let Some(mut tx) = begun {
                    let outcome = match tx.write_messages(&[], &heads).await {
                        Ok(()) => tx.commit(&[], Timestamp(1)).await,
                        failed => failed,
                    };
                    outcome.expect_err("not all is as expected");
                }
                let mut tx = store.begin(&[lane]).await.expect("begins");
                assert_eq!(tx.lock_conversations(&[missing.id]).await.expect("reads"), []);
                assert_eq!(tx.lock_conversations(&[id]).await.expect("reads"), std::slice::from_ref(&known));
                tx.rollback().await;
                assert_eq!(store.heads().await.expect("reads"), before);
            }
            let mut tx = store.begin_after(before.epoch, &[(lane, stands)]).await.expect("begins").expect("it stands there");
            tx.write_messages(&[], std::slice::from_ref(&there)).await.expect("writes");
            tx.commit(&[], Timestamp(1)).await.expect("commits");
            assert_eq!(store.heads().await.expect("reads").positions.get(lane), stands + 1);
        }
    }

    /// Trap 1: what a `begin` leaves on a connection when it is cancelled, at whatever await. Without lanes: a statement with values
    /// that is cancelled leaves the driver out of step, and is why nothing is cancelled in the first place.
    async fn a_begin_that_is_cancelled_half_way_takes_no_later_write_with_it(db: TestDatabase) {
        // One connection for transactions.
        let store = db.store_of(2).await;
        let elsewhere = db.another_store().await;
        for polls in 1.. {
            let begun = polled(store.begin(&[]), polls).await;
            let complete = begun.is_some();
            if let Some(transaction) = begun {
                transaction.expect("begins").rollback().await;
            }
            write_and_look(&store, &elsewhere, &format!("after {polls} polls")).await;
            if complete {
                break;
            }
        }
    }

    /// The second guard of trap 1 by itself: the driver knows of no transaction, and the server has one.
    async fn a_transaction_left_open_on_a_connection_is_rolled_back_when_it_is_released(db: TestDatabase) {
        let store = db.store_of(2).await;
        let elsewhere = db.another_store().await;
        store.connection().execute_unprepared("BEGIN").await.expect("begins");
        write_and_look(&store, &elsewhere, "after a BEGIN").await;
    }

    /// Trap 7: lane first, then conversations in order, READ COMMITTED, whole transactions tried again.
    async fn changes_and_sends_at_once_on_two_nodes_show_no_deadlock(db: TestDatabase) {
        let nodes = [db.chat(), db.chat()];
        let users = db.users(6).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(group(&nodes[0], &users[0], &users[1..]).await);
        }
        let mut calls: Vec<BoxFuture<'static, Option<ErrorCode>>> = Vec::new();
        for round in 0..40 {
            let (chat, id) = (nodes[round % 2].clone(), ids[round % 3]);
            let (owner, sender, other) = (users[0], users[1 + round % 2], users[3 + round % 3]);
            let conversation = id;
            calls.push(async move {
                let (client_key, text) = (key(format!("k{round}")), text("x"));
                chat.send_message(&sender, SendMessage { conversation, client_key, text, mentions: Mentions::default() }).await.err().map(|error| error.code())
            }.boxed());
            let chat = nodes[(round + 1) % 2].clone();
            calls.push(match round % 4 {
                0 => async move {
                    chat.remove_member(&owner, RemoveMember { conversation, user: other.user }).await.err().map(|error| error.code())
                }.boxed(),
                1 => async move {
                    chat.add_members(&owner, AddMembers { conversation, users: vec![other.user] }).await.err().map(|error| error.code())
                }.boxed(),
                2 => async move {
                    let role = SetMemberRole { conversation, user: other.user, role: MemberRole::Admin };
                    chat.set_member_role(&owner, role).await.err().map(|error| error.code())
                }.boxed(),
                _ => async move {
                    chat.mark_read(&owner, MarkRead { conversation, seq: 0 }).await.err().map(|error| error.code())
                }.boxed(),
            });
        }
        let codes: Vec<ErrorCode> = join_all(calls).await.into_iter().flatten().collect();
        // Who was removed a moment ago cannot get a role; an admin cannot be removed twice: nothing else may go wrong.
        let expected = [ErrorCode::NotAMember, ErrorCode::Forbidden];
        assert!(codes.iter().all(|code| expected.contains(code)), "{codes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_writes_ahead_and_syncs_every_commit() {
    let db = database(Kind::Sqlite).await.expect("always there");
    assert_eq!(setting(&db, DbBackend::Sqlite, "SELECT journal_mode FROM pragma_journal_mode").await, "wal");
    assert_eq!(
        setting(&db, DbBackend::Sqlite, "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await,
        "2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_writers_and_readers_on_sqlite_never_meet_a_lock() {
    let db = database(Kind::Sqlite).await.expect("always there");
    let nodes = [db.chat(), db.reopen().await];
    let users = db.users(5).await;
    let id = group(&nodes[0], &users[0], &users[1..]).await;
    let calls = (0..50).map(|writer| {
        let (chat, user) = (nodes[writer % 2].clone(), users[writer % users.len()]);
        async move {
            for index in 0..10 {
                let command = SendMessage {
                    conversation: id,
                    client_key: key(format!("k{writer}-{index}")),
                    text: text("x"),
                    mentions: Mentions::default(),
                };
                chat.send_message(&user, command).await.expect("sent");
                chat.missed(&user, None, None).await.expect("read");
            }
        }
    });
    join_all(calls).await;
    let view = nodes[0].conversations(&users[0], &[id]).await.expect("reads").remove(&id).expect("a member");
    assert_eq!(view.conversation.last_seq, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_sessions_read_committed_and_bound_what_a_stalled_process_holds() {
    let Some(db) = database(Kind::MariaDb).await else { return };
    let backend = DbBackend::MySql;
    assert_eq!(setting(&db, backend, "SELECT @@tx_isolation").await, "READ-COMMITTED");
    assert_eq!(setting(&db, backend, "SELECT CAST(@@innodb_lock_wait_timeout AS CHAR)").await, "2");
    assert_eq!(setting(&db, backend, "SELECT CAST(@@idle_transaction_timeout AS CHAR)").await, "3");
    assert_eq!(setting(&db, backend, "SELECT CAST(@@wait_timeout AS CHAR)").await, "900");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_sessions_read_committed_and_bound_what_a_stalled_or_vanished_process_holds() {
    let Some(db) = database(Kind::Postgres).await else { return };
    for (name, value) in [
        ("default_transaction_isolation", "read committed"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "3s"),
        ("tcp_keepalives_idle", "15"),
        ("tcp_keepalives_interval", "10"),
        ("tcp_keepalives_count", "3"),
    ] {
        let sql = format!("SELECT current_setting('{name}')");
        assert_eq!(setting(&db, DbBackend::Postgres, &sql).await, value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transactions_that_wait_for_each_other_are_a_conflict_to_one_of_them() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let Some(db) = database(kind).await else { continue };
        let chat = db.chat();
        let users = db.users(2).await;
        let ids = [group(&chat, &users[0], &users[1..]).await, group(&chat, &users[0], &users[1..]).await];
        let lanes: Vec<_> = chat.layout().lanes().collect();
        let mut first = db.store.begin(&lanes[..1]).await.expect("begins");
        let mut second = db.store.begin(&lanes[1..2]).await.expect("begins");
        first.lock_conversations(&ids[..1]).await.expect("free");
        second.lock_conversations(&ids[1..]).await.expect("free");
        let (one, other) =
            tokio::join!(first.lock_conversations(&ids[1..]), second.lock_conversations(&ids[..1]));
        let (survivor, victim) = if one.is_ok() { (one, other) } else { (other, one) };
        assert_eq!(survivor.expect("goes on").len(), 1, "{kind:?}");
        match victim.expect_err("one has to give way") {
            StoreError::Conflict(cause) => {
                assert!(cause.to_string().to_lowercase().contains("deadlock"), "{kind:?}: {cause}");
            }
            other => panic!("{kind:?}: {other:?}"),
        }
        first.rollback().await;
        second.rollback().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_does_not_flush_at_commit_is_refused_at_the_start() {
    let Some(db) = database(Kind::Postgres).await else { return };
    let name = db.url.rsplit('/').next().expect("a name");
    let set = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    db.store.connection().execute_unprepared(&set).await.expect("sets");
    let refusal =
        SqlStore::open(&db.url, PoolSettings::default(), SCHEMA_VERSION).await.err().expect("refuses");
    assert!(
        matches!(&refusal, ConnectError::NotDurable(problem) if problem == "synchronous_commit is off"),
        "{refusal:?}"
    );
}

/// An idle transaction is ended by the server, and what it held is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stalls_within_a_transaction_holds_its_lane_for_three_seconds() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let Some(db) = database(kind).await else { continue };
        let lanes: Vec<_> = db.store.layout().lanes().collect();
        let stalled = db.store.begin(&lanes).await.expect("locks");
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(8);
        loop {
            match db.store.begin(&lanes).await {
                Ok(free) => break free.rollback().await,
                Err(StoreError::Conflict(_)) if Instant::now() < deadline => {}
                Err(error) => panic!("{kind:?}: {error:?}"),
            }
        }
        assert!(begun.elapsed() > Duration::from_secs(1), "{kind:?}: it did hold them");
        let lost = stalled.commit(&[], Timestamp(1)).await.expect_err("it has been ended");
        // On MariaDB its last statement travels with the `COMMIT`.
        let is_told = match kind {
            Kind::MariaDb => matches!(lost, StoreError::InDoubt(_)),
            _ => matches!(lost, StoreError::Unavailable(_)),
        };
        assert!(is_told, "{kind:?}: {lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_differ_in_case_or_trailing_characters_are_different_keys() {
    for kind in [Kind::Sqlite, Kind::MariaDb, Kind::Postgres] {
        let Some(db) = database(kind).await else { continue };
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        for (seq, name) in ["k", "K", "k.", "k~"].into_iter().enumerate() {
            let command = SendMessage {
                conversation: id,
                client_key: key(name),
                text: text(name),
                mentions: Mentions::default(),
            };
            let sent = chat.send_message(&users[0], command).await.expect("sent");
            assert_eq!(usize::try_from(sent.seq).expect("small"), seq + 1, "{kind:?} {name}");
        }
        // No client's key ends in a space, so the table itself is asked: to its unique index 'k' and 'k ' are two.
        let connection = db.store.connection();
        let (k, k_space) = match kind {
            Kind::Postgres => ("'\\x6b'::bytea", "'\\x6b20'::bytea"),
            Kind::MariaDb | Kind::Sqlite => ("x'6b'", "x'6b20'"),
        };
        let columns = "sender_id, content_hash, kind, body, created_at, countable, rev, created_rev, pos";
        let copy = |key: &str, seq: i32| {
            format!(
                "INSERT INTO message (conversation_id, seq, id, client_message_id, {columns}) \
                 SELECT conversation_id, {seq}, {seq}, {key}, {columns} FROM message WHERE client_message_id = {k}"
            )
        };
        connection.execute_unprepared(&copy(k_space, 100)).await.expect("another key");
        connection.execute_unprepared(&copy(k, 101)).await.expect_err("the same key");
        for (key, seq) in [(k, 1), (k_space, 100)] {
            let sql = format!("SELECT seq FROM message WHERE client_message_id = {key}");
            let rows = connection
                .query_all_raw(Statement::from_string(connection.get_database_backend(), sql))
                .await
                .expect("reads");
            let seqs: Vec<i32> = rows.iter().map(|row| row.try_get_by_index(0).expect("a number")).collect();
            assert_eq!(seqs, [seq], "{kind:?} {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_hashes_and_ids_are_stored_as_bytes() {
    let columns = [
        ("message", "client_message_id"),
        ("message", "conversation_id"),
        ("conversation", "client_key"),
        ("conversation", "id"),
        ("member", "conversation_id"),
        ("user_account", "username_key"),
        ("refresh_token", "hash"),
        ("familiar_network", "hash"),
    ];
    for (kind, schema, types) in [
        (Kind::MariaDb, "DATABASE()", ["varbinary", "binary"].as_slice()),
        (Kind::Postgres, "current_schema()", ["bytea"].as_slice()),
    ] {
        let Some(db) = database(kind).await else { continue };
        let backend = db.store.connection().get_database_backend();
        for (table, column) in columns {
            let sql = format!(
                "SELECT CAST(data_type AS CHAR(32)) FROM information_schema.columns \
                 WHERE table_schema = {schema} AND table_name = '{table}' AND column_name = '{column}'"
            );
            let stored = setting(&db, backend, &sql).await;
            assert!(types.contains(&stored.trim_end()), "{kind:?}: {table}.{column} is {stored}");
        }
    }
}
