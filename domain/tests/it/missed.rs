//! What a subscription missed, from one snapshot, and the log it can be read from.

use domain::{
    Fact, MemberRole, Positions,
    service::{
        add_members::AddMembers, mark_read::MarkRead, remove_member::RemoveMember,
        set_member_role::SetMemberRole,
    },
};

use crate::{
    harness::{group, send},
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

    async fn retention_removes_old_rows_and_moves_the_floor(db: TestDatabase) {
        use domain::port::Log as _;
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        send(&chat, &users[0], id, "x").await;
        let heads = chat.heads().await.expect("heads").positions;
        let zero = Positions::zero(chat.layout());
        assert_eq!(chat.resumable_from().await.expect("floor"), zero);
        let removed = db.store.remove_expired(domain::Timestamp(i64::MAX), 1000).await.expect("removes");
        assert_eq!(removed, 2);
        assert_eq!(chat.resumable_from().await.expect("floor"), heads);
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
