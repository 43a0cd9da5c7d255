//! What a subscription missed, from one snapshot, and the log it can be read from.

use domain::{
    Fact, LaneId, MemberRole, Positions,
    service::{
        add_members::AddMembers, mark_read::MarkRead, remove_member::RemoveMember,
        set_member_role::SetMemberRole, update_group::UpdateGroup,
    },
};
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};

use crate::{
    harness::{Kind, database, floor, group, send, title},
    on_every_database,
};

on_every_database! {
    async fn only_what_changed_after_the_positions_is_missed(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(3).await;
        let quiet = group(&chat, &users[0], &users[1..]).await;
        let busy = group(&chat, &users[0], &users[1..]).await;
        send(&chat, &users[0], busy, "seen").await;
        let since = chat.heads().await.expect("heads").positions;
        let nothing = chat.missed(&users[1], Some(&since), None).await.expect("reads");
        assert!(nothing.conversations.is_empty());
        assert_eq!(nothing.memberships.len(), 2);

        let sent = send(&chat, &users[0], busy, "missed").await;
        chat.mark_read(&users[2], MarkRead { conversation: busy, seq: 2 }).await.expect("marked");
        let promote = SetMemberRole { conversation: busy, user: users[2].user, role: MemberRole::Admin };
        chat.set_member_role(&users[0], promote).await.expect("promoted");
        let missed = chat.missed(&users[1], Some(&since), None).await.expect("reads");
        let [one] = missed.conversations.as_slice() else { panic!("one conversation changed") };
        assert_eq!(one.conversation.id, busy);
        assert_eq!(one.messages.len(), 2, "the message and the system message of the role");
        assert_eq!(one.messages[0], sent);
        assert_eq!(one.members.len(), 1);
        assert_eq!((one.members[0].read_seq, one.members[0].role), (2, MemberRole::Admin));
        let filtered = chat.missed(&users[1], Some(&since), Some(&[quiet])).await.expect("reads");
        assert!(filtered.conversations.is_empty());
    }

    async fn who_was_removed_misses_nothing_but_the_removal(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        let since = chat.heads().await.expect("heads").positions;
        send(&chat, &users[0], id, "secret").await;
        chat.remove_member(&users[0], RemoveMember { conversation: id, user: users[1].user }).await.expect("removed");
        send(&chat, &users[0], id, "more").await;
        let missed = chat.missed(&users[1], Some(&since), None).await.expect("reads");
        let [one] = missed.conversations.as_slice() else { panic!("one conversation changed") };
        assert!(one.messages.is_empty() && one.members.is_empty() && !one.viewer.is_active());
        assert!(missed.memberships.is_empty());
        chat.add_members(&users[0], AddMembers { conversation: id, users: vec![users[1].user] }).await.expect("back");
        let back = chat.missed(&users[1], Some(&since), None).await.expect("reads");
        assert!(back.conversations[0].viewer.is_active());
    }

    async fn the_log_names_every_change_in_the_order_of_positions(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        send(&chat, &users[0], id, "a").await;
        send(&chat, &users[1], id, "b").await;
        let lane = chat.layout().of_conversation(id);
        let log = chat.read_log(lane, 0, 100).await.expect("the log");
        let facts: Vec<Fact> = log.iter().flat_map(|batch| &batch.events).map(|event| event.fact.clone()).collect();
        let revs: Vec<i32> = facts.iter().map(Fact::rev).collect();
        assert_eq!(revs, vec![1, 2, 3]);
        assert!(log.iter().flat_map(|batch| &batch.events).all(|event| event.conversation.is_some()));
        assert!(log[1].events[0].message.is_some());
    }

    async fn a_gap_past_the_bound_is_told(db: TestDatabase) {
        let chat = db.chat_with(domain::Limits { replay_events_max: 10, ..domain::Limits::default() });
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        let since = chat.heads().await.expect("heads").positions;
        for _ in 0..10 {
            send(&chat, &users[0], id, "x").await;
        }
        assert!(!chat.missed(&users[1], Some(&since), None).await.expect("reads").too_much);
        send(&chat, &users[0], id, "x").await;
        assert!(chat.missed(&users[1], Some(&since), None).await.expect("reads").too_much);
    }

    async fn the_bound_is_one_of_all_conversations_together_and_no_more_is_read(db: TestDatabase) {
        let chat = db.chat_with(domain::Limits { replay_events_max: 10, ..domain::Limits::default() });
        let users = db.users(2).await;
        let mut ids = Vec::new();
        for _ in 0..8 {
            ids.push(group(&chat, &users[0], &users[1..]).await);
        }
        let since = chat.heads().await.expect("heads").positions;
        for id in &ids[..5] {
            send(&chat, &users[0], *id, "x").await;
            send(&chat, &users[0], *id, "y").await;
        }
        let missed = chat.missed(&users[1], Some(&since), None).await.expect("reads");
        let told: usize = missed.conversations.iter().map(|one| one.messages.len()).sum();
        assert_eq!((told, missed.too_much), (10, false));
        for id in &ids {
            join_all((0..10).map(|_| send(&chat, &users[0], *id, "z"))).await;
        }
        let missed = chat.missed(&users[1], Some(&since), None).await.expect("reads");
        assert!(missed.too_much);
        let read: usize = missed.conversations.iter().map(|one| one.messages.len()).sum();
        assert!(read <= 11, "{read} of 90");
    }

    async fn every_kind_of_event_counts(db: TestDatabase) {
        let chat = db.chat_with(domain::Limits { replay_events_max: 8, ..domain::Limits::default() });
        let users = db.users(3).await;
        let viewer = users[1].user;
        let renamed = group(&chat, &users[0], &users[1..]).await;
        let left = group(&chat, &users[0], &users[1..]).await;
        let joined = group(&chat, &users[0], &users[2..]).await;
        let since = chat.heads().await.expect("heads").positions;
        // The title, and two system messages.
        for name in ["one", "two"] {
            chat.update_group(&users[0], UpdateGroup { conversation: renamed, title: Some(title(name)) }).await.expect("renames");
        }
        // The removal alone.
        chat.remove_member(&users[0], RemoveMember { conversation: left, user: viewer }).await.expect("removes");
        // The conversation, and a system message; not what came before them.
        for _ in 0..20 {
            send(&chat, &users[0], joined, "before").await;
        }
        chat.add_members(&users[0], AddMembers { conversation: joined, users: vec![viewer] }).await.expect("adds");
        // The role, and a system message.
        let promote = SetMemberRole { conversation: renamed, user: users[2].user, role: MemberRole::Admin };
        chat.set_member_role(&users[0], promote).await.expect("promotes");
        let missed = chat.missed(&users[1], Some(&since), None).await.expect("reads");
        assert!(!missed.too_much, "eight");
        assert_eq!(missed.conversations.len(), 3);
        chat.mark_read(&users[2], MarkRead { conversation: renamed, seq: 1 }).await.expect("marks");
        assert!(chat.missed(&users[1], Some(&since), None).await.expect("reads").too_much, "nine");
    }

    async fn reads_that_do_not_show_are_neither_read_nor_counted(db: TestDatabase) {
        let limits = domain::Limits { replay_events_max: 3, receipts_members_max: 5, ..domain::Limits::default() };
        let chat = db.chat_with(limits.clone());
        let users = db.users(8).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        send(&chat, &users[0], id, "x").await;
        let since = chat.heads().await.expect("heads").positions;
        join_all(users[2..].iter().map(|user| chat.mark_read(user, MarkRead { conversation: id, seq: 1 }))).await;
        let missed = chat.missed(&users[1], Some(&since), None).await.expect("reads");
        assert!(!missed.too_much, "six have read");
        assert!(missed.conversations.iter().all(|one| one.members.is_empty()));
        // What does show is still told, whoever has read meanwhile.
        let promote = SetMemberRole { conversation: id, user: users[7].user, role: MemberRole::Admin };
        chat.set_member_role(&users[0], promote).await.expect("promotes");
        let missed = chat.missed(&users[1], Some(&since), None).await.expect("reads");
        let members: Vec<_> = missed.conversations[0].members.iter().map(|member| (member.user, member.role)).collect();
        assert_eq!((members, missed.too_much), (vec![(users[7].user, MemberRole::Admin)], false));
        let small = db.chat_with(domain::Limits { receipts_members_max: 8, ..limits });
        assert!(small.missed(&users[1], Some(&since), None).await.expect("reads").too_much, "where reads show, they count");
    }

    async fn retention_removes_old_rows_and_moves_the_floor(db: TestDatabase) {
        use domain::port::Log as _;
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        send(&chat, &users[0], id, "x").await;
        let heads = chat.heads().await.expect("heads").positions;
        let zero = Positions::zero(chat.layout());
        assert_eq!(floor(&chat, &users[0]).await, zero);
        let removed = db.store.remove_expired(domain::Timestamp(i64::MAX), 1000).await.expect("removes");
        assert_eq!(removed, 2);
        assert_eq!(floor(&chat, &users[0]).await, heads);
        let sent = send(&chat, &users[0], id, "after").await;
        assert_eq!(sent.seq, 2, "positions and seq go on");
    }

    async fn raising_the_epoch_is_seen_in_the_heads(db: TestDatabase) {
        let chat = db.chat();
        let before = chat.heads().await.expect("heads").epoch;
        chat.raise_epoch(before).await.expect("raises");
        let raised = chat.heads().await.expect("heads").epoch;
        assert!(raised > before);
        // However many find out at once, it is raised once.
        chat.raise_epoch(before).await.expect("nothing to do");
        assert_eq!(chat.heads().await.expect("heads").epoch, raised);
    }
}

/// Everybody who comes back asks from where on the log is kept, and it holds days of entries.
#[tokio::test(flavor = "multi_thread")]
async fn a_resume_reads_the_same_few_entries_of_the_log_however_many_are_kept() {
    const KEPT: i64 = 5000;
    let Some(db) = database(Kind::MariaDb).await else { return };
    let Some(root) = db.root().await else { return };
    let (chat, users) = (db.chat(), db.users(8).await);
    let since = chat.heads().await.expect("heads").positions;
    for statement in [
        format!(
            "INSERT INTO outbox (lane, pos, created_at, payload) SELECT 0, -seq, 0, '' FROM seq_1_to_{KEPT}"
        ),
        "SET GLOBAL userstat = ON".to_owned(),
    ] {
        root.execute_unprepared(&statement).await.expect("executes");
    }
    for missed in join_all(users.iter().map(|user| chat.missed(user, Some(&since), None))).await {
        assert_eq!(missed.expect("reads").resumable_from.get(LaneId(0)), -KEPT - 1);
    }
    let read = rows_read(&root, "outbox").await;
    assert!((1..100).contains(&read), "{read} of {KEPT} entries were read");
}

/// MariaDB's own choice follows statistics, which may be of when there was nobody.
#[tokio::test(flavor = "multi_thread")]
async fn memberships_are_read_by_their_index_whatever_statistics_say() {
    const STRANGERS: i64 = 5000;
    let Some(db) = database(Kind::MariaDb).await else { return };
    let Some(root) = db.root().await else { return };
    for statement in ["ALTER TABLE member STATS_PERSISTENT = 1 STATS_AUTO_RECALC = 0", "ANALYZE TABLE member"]
    {
        root.execute_unprepared(statement).await.expect("executes");
    }
    let (chat, users) = (db.chat(), db.users(8).await);
    group(&chat, &users[0], &users[1..]).await;
    for statement in [
        format!(
            "INSERT INTO member SELECT conversation_id, -seq, role, read_seq, read_countable, joined_at, joined_rev, joined_pos, \
            removed_rev, removed_pos, role_rev, role_pos, read_rev, read_pos, pos \
            FROM seq_1_to_{STRANGERS} JOIN member ON user_id = {}",
            users[1].user.0
        ),
        "SET GLOBAL userstat = ON".to_owned(),
    ] {
        root.execute_unprepared(&statement).await.expect("executes");
    }
    for missed in join_all(users.iter().map(|user| chat.missed(user, None, None))).await {
        assert_eq!(missed.expect("reads").memberships.len(), 1);
    }
    let read = rows_read(&root, "member").await;
    assert!((1..100).contains(&read), "{read} of {STRANGERS} memberships were read");
}

/// Of a table of this database, since the server counts them; it goes on counting, as tests run beside each other.
async fn rows_read(root: &DatabaseConnection, table: &str) -> i64 {
    let sql = format!(
        "SELECT CAST(COALESCE(SUM(rows_read), 0) AS SIGNED) FROM information_schema.table_statistics \
        WHERE table_schema = DATABASE() AND table_name = '{table}'"
    );
    let sum = root.query_one_raw(Statement::from_string(root.get_database_backend(), sql)).await;
    sum.expect("reads").expect("a sum").try_get_by_index(0).expect("a number")
}
