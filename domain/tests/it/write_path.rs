//! Sends: once, in order, without holes, whoever else writes.

use std::collections::BTreeSet;

use domain::{ErrorCode, PageRequest, port::Log as _, service::send_message::SendMessage};
use futures_util::future::join_all;

use crate::{
    harness::{group, key, send, text},
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
        let command = SendMessage { conversation: id, client_key: key("k"), text: text("hello") };
        let answers = join_all((0..100).map(|_| chat.send_message(&users[0], command.clone()))).await;
        let ids: BTreeSet<_> = answers.into_iter().map(|answer| answer.expect("sent").id).collect();
        assert_eq!(ids.len(), 1);
        // Another process with its own memory: only the database knows the key.
        let elsewhere = db.chat();
        let again = elsewhere.send_message(&users[0], command.clone()).await.expect("sent before");
        assert!(ids.contains(&again.id));
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
            let command = SendMessage { conversation: id, client_key: key(format!("k{round}")), text: text("hello") };
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
        let users = db.users(20).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        let sends = (0..500).map(|index| {
            let command = SendMessage { conversation: id, client_key: key(format!("k{index}")), text: text("x") };
            let (chat, user) = (chat.clone(), users[index % users.len()]);
            async move { chat.send_message(&user, command).await }
        });
        let mut seqs: Vec<i32> = join_all(sends).await.into_iter().map(|sent| sent.expect("sent").seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=500).collect::<Vec<_>>());
        let heads = chat.heads().await.expect("heads");
        let lane = chat.layout().of_conversation(id);
        let log = db.store.read(lane, 0, 10_000).await.expect("the log");
        let positions: Vec<i64> = log.iter().map(|entry| entry.pos).collect();
        assert_eq!(positions, (1..=heads.positions.get(lane)).collect::<Vec<_>>(), "positions have no hole");
    }

    async fn a_stranger_and_a_missing_conversation_look_the_same(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(3).await;
        let id = group(&chat, &users[0], &users[1..2]).await;
        let missing = domain::ConversationId::group(12_345);
        let mut refusals = Vec::new();
        for conversation in [id, missing] {
            let command = SendMessage { conversation, client_key: key("k"), text: text("x") };
            let refusal = chat.send_message(&users[2], command).await.expect_err("no member");
            refusals.push((refusal.code(), refusal.message().to_owned(), refusal.field()));
        }
        assert_eq!(refusals[0], refusals[1]);
        assert_eq!(refusals[0].0, ErrorCode::NotFound);
    }
}
