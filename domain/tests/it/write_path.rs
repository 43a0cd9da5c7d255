//! Sends: once, in order, without holes, whoever else writes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use domain::{
    Caller, ErrorCode, Limits, MemberId, Mentions, PageRequest,
    port::{Log as _, log::Heads},
    service::{
        add_members::AddMembers, mark_read::MarkRead, remove_member::RemoveMember, send_message::SendMessage,
        update_group::UpdateGroup,
    },
};
use futures_util::future::join_all;

use crate::{
    harness::{Kind, database, group, key, random_number, send, text, title},
    on_every_database,
};

fn newest(size: i32) -> PageRequest<i32> {
    PageRequest::new((None, None), (Some(size), None), domain::Direction::Backward).expect("a page")
}

on_every_database! {
    async fn seq_starts_at_one_and_rev_counts_every_change(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        let first = send(&chat, &users[0], id, "a").await;
        let second = send(&chat, &users[1], id, "b").await;
        assert_eq!((first.seq, first.rev, second.seq, second.rev), (1, 2, 2, 3));
        let view = chat.conversations(&users[0], &[id]).await.expect("reads").remove(&id).expect("a member");
        assert_eq!((view.conversation.last_seq, view.conversation.rev, view.unread_count()), (2, 3, 1));
        let history = chat.history(&users[1], id, &newest(10)).await.expect("reads");
        assert_eq!(history.items, vec![first, second]);
    }

    async fn the_same_key_a_hundred_times_at_once_is_one_message(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        let command = SendMessage { conversation: id, client_key: key("k"), text: text("hello"), mentions: Mentions::default() };
        let answers = join_all((0..100).map(|_| chat.send_message(&users[0], command.clone()))).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("sent")).collect();
        let first = &answers[0];
        assert_eq!((first.seq, first.sender, &first.client_key), (1, Some(users[0].user), &Some(key("k"))));
        assert!(answers.iter().all(|answer| answer == first), "the whole message is the same");
        // Another process with its own memory: only the database knows the key.
        let elsewhere = db.chat();
        let again = elsewhere.send_message(&users[0], command.clone()).await.expect("sent before");
        assert_eq!(again, *first);
        let other = SendMessage { text: text("other"), ..command };
        let conflict = elsewhere.send_message(&users[0], other).await.expect_err("a conflict");
        assert_eq!(conflict.code(), ErrorCode::IdempotencyConflict);
        assert_eq!(chat.history(&users[0], id, &newest(10)).await.expect("reads").items.len(), 1);
    }

    async fn the_same_key_on_two_nodes_at_once_is_one_message(db: TestDatabase) {
        let nodes = [db.chat(), db.chat(), db.chat()];
        let users = db.users(2).await;
        let id = group(&nodes[0], &users[0], &users[1..]).await;
        for round in 0..20 {
            let command = SendMessage { conversation: id, client_key: key(format!("k{round}")), text: text("hello"), mentions: Mentions::default() };
            let answers = join_all(nodes.iter().map(|chat| chat.send_message(&users[0], command.clone()))).await;
            let ids: BTreeSet<_> = answers.into_iter().map(|answer| answer.expect("sent").id).collect();
            assert_eq!(ids.len(), 1, "round {round}");
        }
        let history = nodes[0].history(&users[0], id, &newest(100)).await.expect("reads");
        let seqs: Vec<i32> = history.items.iter().map(|message| message.seq).collect();
        assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
    }

    async fn five_hundred_senders_in_one_conversation_leave_no_hole(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(500).await;
        let id = group(&chat, &users[0], &users[1..100]).await;
        for more in users[100..].chunks(100) {
            let users_to_add = more.iter().map(|user| user.user).collect();
            chat.add_members(&users[0], AddMembers { conversation: id, users: users_to_add }).await.expect("adds");
        }
        let before = chat.conversations(&users[0], &[id]).await.expect("reads").remove(&id).expect("theirs").conversation.last_seq;
        let sends = users.iter().enumerate().map(|(index, user)| {
            let command = SendMessage { conversation: id, client_key: key(format!("k{index}")), text: text("x"), mentions: Mentions::default() };
            let chat = chat.clone();
            async move { chat.send_message(user, command).await }
        });
        let mut seqs: Vec<i32> = join_all(sends).await.into_iter().map(|sent| sent.expect("sent").seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, (before + 1..=before + 500).collect::<Vec<_>>());
        let heads = chat.heads().await.expect("heads");
        let lane = chat.layout().of_conversation(id);
        let log = db.store.read(lane, 0, 10_000).await.expect("the log");
        let positions: Vec<i64> = log.iter().map(|entry| entry.pos).collect();
        assert_eq!(positions, (1..=heads.positions.get(lane)).collect::<Vec<_>>(), "positions have no hole");
    }

    async fn a_full_queue_and_a_deadline_that_passed_are_unavailable_and_lose_nothing(db: TestDatabase) {
        let limits = Limits { commit_queue_max: 1, send_timeout: Duration::from_secs(1), ..Limits::default() };
        let chat = db.chat_with(limits);
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        let lanes: Vec<_> = chat.layout().lanes().collect();
        let elsewhere = db.another_store().await;
        let held = elsewhere.begin(&lanes).await.expect("locks every lane");
        let mut waiting = Vec::new();
        let begun = Instant::now();
        // The committer takes some of them, at most a batch, and waits for its lane.
        let refusal = loop {
            assert!(waiting.len() < 300, "the queue is never full");
            let command = SendMessage { conversation: id, client_key: key(format!("k{}", waiting.len())), text: text("x"), mentions: Mentions::default() };
            match chat.enqueue_message(&users[0], command) {
                Ok(pending) => waiting.push(pending),
                Err(refusal) => break refusal,
            }
        };
        assert!(begun.elapsed() < Duration::from_millis(500), "at once");
        assert_eq!((refusal.code(), refusal.retryable(), refusal.retry_after()), (ErrorCode::Unavailable, true, Some(Duration::from_secs(1))));
        let count = waiting.len();
        for answer in join_all(waiting).await {
            let late = answer.expect_err("nothing can be committed");
            assert_eq!((late.code(), late.retryable()), (ErrorCode::Unavailable, true));
        }
        held.rollback().await;
        let mut seqs = BTreeSet::new();
        for index in 0..=count {
            let command = SendMessage { conversation: id, client_key: key(format!("k{index}")), text: text("x"), mentions: Mentions::default() };
            // What waited may still be on its way while the committer goes on.
            let sent = loop {
                match chat.send_message(&users[0], command.clone()).await {
                    Ok(sent) => break sent,
                    Err(error) if error.retryable() && begun.elapsed() < Duration::from_secs(30) => {}
                    Err(error) => panic!("{error:?}"),
                }
            };
            seqs.insert(sent.seq);
        }
        assert_eq!(seqs, (1..=i32::try_from(count).expect("few") + 1).collect::<BTreeSet<_>>());
    }

    async fn leases_of_ids_never_overlap_whatever_clocks_and_processes_ask(db: TestDatabase) {
        let elsewhere = db.another_store().await;
        let asks = (0..40_i64).map(|index| {
            let store = if index % 2 == 0 { &db.store } else { &elsewhere };
            // Forward, back, and the same moment again.
            store.lease_ids(1_000_000 + [0, 60_000, -50_000, 0][usize::try_from(index % 4).expect("small")], 10_000)
        });
        let mut leases: Vec<_> = join_all(asks).await.into_iter().map(|lease| lease.expect("a lease")).collect();
        leases.sort_by_key(|lease| (lease.machine, lease.from_ms));
        for pair in leases.windows(2) {
            assert!(pair[0].machine != pair[1].machine || pair[0].until_ms <= pair[1].from_ms, "{pair:?}");
        }
        assert!(leases.iter().all(|lease| lease.until_ms - lease.from_ms == 10_000));
    }

    async fn a_stranger_and_a_missing_conversation_look_the_same(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(3).await;
        let id = group(&chat, &users[0], &users[1..2]).await;
        let missing = domain::ConversationId::group(12_345);
        let mut refusals = Vec::new();
        for conversation in [id, missing] {
            let command = SendMessage { conversation, client_key: key("k"), text: text("x"), mentions: Mentions::default() };
            let refusal = chat.send_message(&users[2], command).await.expect_err("no member");
            refusals.push((refusal.code(), refusal.message().to_owned(), refusal.field()));
        }
        assert_eq!(refusals[0], refusals[1]);
        assert_eq!(refusals[0].0, ErrorCode::NotFound);
    }

    async fn ones_own_messages_are_never_unread_however_many_send(db: TestDatabase) {
        let chat = db.chat();
        // More than the head remembers, so that they displace each other.
        let users = db.users(12).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        let mut read = [0; 12];
        let mut last = 0;
        for step in 0..150_usize {
            // Some often, some seldom, in no regular order.
            let user = step * step * 7 % 31 % users.len();
            last = send(&chat, &users[user], id, "x").await.seq;
            read[user] = last;
            if step % 50 == 30 {
                let reader = step % 7;
                chat.mark_read(&users[reader], MarkRead { conversation: id, seq: last - 3 }).await.expect("marks");
                read[reader] = read[reader].max(last - 3);
            }
            if step % 50 == 49 {
                let elsewhere = db.chat();
                for (user, read) in users.iter().zip(read) {
                    let view = elsewhere.conversations(user, &[id]).await.expect("reads").remove(&id).expect("theirs");
                    assert_eq!((view.viewer.read_seq, view.unread_count()), (read, last - read), "step {step}");
                }
            }
        }
        chat.remove_member(&users[0], RemoveMember { conversation: id, user: users[5].user }).await.expect("removes");
        chat.add_members(&users[0], AddMembers { conversation: id, users: vec![users[5].user] }).await.expect("adds");
        let view = chat.conversations(&users[5], &[id]).await.expect("reads").remove(&id).expect("theirs");
        assert_eq!(view.unread_count(), 0, "who comes back starts with nothing unread");
        assert_eq!(view.viewer.read_seq, last + 1, "from before the system message of joining");
    }

    async fn what_another_node_changed_counts_for_the_next_send(db: TestDatabase) {
        let (here, there) = (db.chat(), db.chat());
        let users = db.users(3).await;
        let id = group(&here, &users[0], &users[1..]).await;
        let send_as = async |user: &Caller| {
            let command = SendMessage { conversation: id, client_key: key(format!("{:x}", random_number())), text: text("x"), mentions: Mentions::default() };
            here.send_message(user, command).await.map_err(|error| error.code())
        };
        assert_eq!(send_as(&users[1]).await.expect("a member").seq, 1);
        there.remove_member(&users[0], RemoveMember { conversation: id, user: users[1].user }).await.expect("removes");
        assert_eq!(send_as(&users[1]).await.expect_err("removed there"), ErrorCode::NotFound);
        there.update_group(&users[0], UpdateGroup { conversation: id, title: Some(title("new")) }).await.expect("renames");
        let before = send_as(&users[2]).await.expect("a member");
        // More transactions than are looked through one by one.
        for _ in 0..70 {
            send(&there, &users[0], id, "x").await;
        }
        let after = send_as(&users[2]).await.expect("a member");
        assert_eq!((after.seq, after.rev), (before.seq + 71, before.rev + 71));
        // Twice, so that this node takes for granted again how far the lane is; a batch with nothing to write looks all the same.
        for _ in 0..2 {
            send_as(&users[2]).await.expect("a member");
        }
        let newest = send(&there, &users[0], id, "x").await.seq;
        let read = here.mark_read(&users[2], MarkRead { conversation: id, seq: newest }).await;
        assert_eq!(read.expect("there is such a message").viewer.read_seq, newest);
        there.add_members(&users[0], AddMembers { conversation: id, users: vec![users[1].user] }).await.expect("adds");
        assert!(send_as(&users[1]).await.is_ok(), "a member again");
        let view = here.conversations(&users[0], &[id]).await.expect("reads").remove(&id).expect("theirs");
        assert_eq!(view.conversation.title.as_deref(), Some("new"));
    }
}

/// Unless ids have to be leased meanwhile, so of several the fewest count.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_send_into_a_conversation_takes_mariadb_two_statements_and_the_next_one() {
    let Some(db) = database(Kind::MariaDb).await else { return };
    let (chat, users) = (db.chat(), db.users(1).await);
    let groups = join_all((0..64).map(|_| group(&chat, &users[0], &[]))).await;
    let mut fewest = [u64::MAX; 2];
    // The first of a lane find out how far it is, and that nobody else commits there.
    for (count, id) in groups.into_iter().enumerate() {
        for fewest in &mut fewest {
            let before = db.store.statements();
            send(&chat, &users[0], id, "x").await;
            if count >= 32 {
                *fewest = db.store.statements().saturating_sub(before).min(*fewest);
            }
        }
    }
    assert_eq!(fewest, [2, 1]);
    assert!(db.store.has_blocks(), "one of them is the batch, which is answered once");
}

/// Whoever answers, perhaps a replica behind a proxy, may not be as far, or further.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_up_on_mariadb_was_so_at_the_positions_that_are_known() {
    let Some(db) = database(Kind::MariaDb).await else { return };
    let (chat, users) = (db.chat(), db.users(2).await);
    let id = group(&chat, &users[0], &[]).await;
    let lane = chat.layout().of_conversation(id);
    let Heads { epoch, positions } = db.store.heads().await.expect("reads");
    let stands = positions.get(lane);
    let members = [0, 1].map(|user: usize| MemberId { conversation: id, user: users[user].user });
    let found = async |epoch, pos| {
        // Its connection is kept.
        db.store.begin(&[lane]).await.expect("begins").rollback().await;
        db.store.look_up(epoch, &[(lane, pos)], &members).await.len()
    };
    assert_eq!(found(epoch, stands).await, 1, "the other is no member");
    for (epoch, pos) in [(epoch, stands - 1), (epoch, stands + 1), (epoch + 1, stands)] {
        assert_eq!(found(epoch, pos).await, 0, "at {pos} of {epoch}");
    }
}
