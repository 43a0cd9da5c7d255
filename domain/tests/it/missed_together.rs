//! Many subscriptions that resume at once are read for together, and told the same as if each had been alone.

use std::time::Duration;

use domain::{
    Caller, Chat, ConversationId, LaneId, MemberRole, Positions,
    port::{Log as _, conversations::Missed},
    service::{
        add_members::AddMembers, mark_read::MarkRead, remove_member::RemoveMember,
        set_member_role::SetMemberRole, update_group::UpdateGroup,
    },
};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{
    harness::{group, random_number, send, title},
    on_every_database,
};

/// What a subscription asks.
struct Question {
    caller: Caller,
    since: Option<Positions>,
    only: Option<Vec<ConversationId>>,
}

impl Question {
    async fn ask(&self, chat: &Chat) -> Missed {
        chat.missed(&self.caller, self.since.as_ref(), self.only.as_deref()).await.expect("reads")
    }
}

/// In one order, whichever the database has.
fn sorted(mut missed: Missed) -> Missed {
    missed.memberships.sort_unstable();
    missed.conversations.sort_unstable_by_key(|one| one.conversation.id);
    for one in &mut missed.conversations {
        one.members.sort_unstable_by_key(|member| member.user);
    }
    missed
}

fn below(bound: usize) -> usize {
    usize::try_from(random_number() >> 1).expect("63 bits") % bound
}

/// Something that happens in a group; what is refused changes nothing.
async fn happens(chat: &Chat, users: &[Caller], groups: &[ConversationId]) {
    let (conversation, owner) = (groups[below(groups.len())], &users[0]);
    let somebody = &users[1 + below(users.len() - 1)];
    match below(8) {
        0 => {
            let command = RemoveMember { conversation, user: somebody.user };
            drop(chat.remove_member(owner, command).await);
        }
        1 | 2 => {
            let command = AddMembers { conversation, users: vec![somebody.user] };
            drop(chat.add_members(owner, command).await);
        }
        3 => {
            let role = if below(2) == 0 { MemberRole::Admin } else { MemberRole::Member };
            let command = SetMemberRole { conversation, user: somebody.user, role };
            drop(chat.set_member_role(owner, command).await);
        }
        4 => {
            let title = Some(title(&format!("{}", below(1000))));
            drop(chat.update_group(owner, UpdateGroup { conversation, title }).await);
        }
        5 => drop(chat.mark_read(somebody, MarkRead { conversation, seq: 1 }).await),
        _ => drop(send(chat, owner, conversation, "something").await),
    }
}

on_every_database! {
    async fn together_each_is_told_what_it_would_be_told_alone(db: TestDatabase) {
        let chat = db.chat_with(domain::Limits { replay_events_max: 60, receipts_members_max: 7, ..domain::Limits::default() });
        let users = db.users(8).await;
        let mut groups = Vec::new();
        for size in [2, 5, 8, 8, 6] {
            groups.push(group(&chat, &users[0], &users[1..size]).await);
        }
        let mut moments = vec![chat.heads().await.expect("heads").positions];
        for round in 0..120 {
            happens(&chat, &users, &groups).await;
            if round % 15 == 0 {
                moments.push(chat.heads().await.expect("heads").positions);
            }
        }
        // More than is read together of one conversation, and more than anybody is told.
        join_all((0..40).map(|_| send(&chat, &users[0], groups[1], "much"))).await;
        moments.push(chat.heads().await.expect("heads").positions);
        happens(&chat, &users, &groups).await;

        let questions: Vec<Question> = (0..120).map(|number| Question {
            caller: users[below(users.len())],
            since: (number % 9 != 0).then(|| moments[below(moments.len())].clone()),
            only: (number % 5 == 0).then(|| vec![groups[below(groups.len())], groups[0]]),
        }).collect();
        let before = db.store.statements();
        let mut alone = Vec::new();
        for question in &questions {
            alone.push(sorted(question.ask(&chat).await));
        }
        let of_alone = db.store.statements() - before;
        let before = db.store.statements();
        let together = join_all(questions.iter().map(|question| question.ask(&chat))).await;
        let of_together = db.store.statements() - before;
        assert!(together.iter().any(|missed| missed.too_much), "somebody missed too much");
        for ((alone, together), question) in alone.iter().zip(together).zip(&questions) {
            let together = sorted(together);
            assert_eq!(alone.heads.positions, together.heads.positions);
            assert_eq!((alone.heads.epoch, &alone.resumable_from), (together.heads.epoch, &together.resumable_from));
            assert_eq!(alone.memberships, together.memberships);
            assert_eq!(alone.too_much, together.too_much, "{:?}", question.since);
            if !alone.too_much {
                assert_eq!(format!("{:?}", alone.conversations), format!("{:?}", together.conversations));
            }
        }
        assert!(of_together < of_alone, "{of_together} statements together, {of_alone} alone");
    }

    async fn a_storm_costs_statements_by_its_turns_and_not_by_its_subscriptions(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(200).await;
        let mut groups = Vec::new();
        for members in users.chunks(10) {
            groups.push((group(&chat, &members[0], &members[1..]).await, members));
        }
        let since = chat.heads().await.expect("heads").positions;
        for (id, members) in &groups {
            send(&chat, &members[0], *id, "missed").await;
        }
        let before = db.store.statements();
        let missed = join_all(users.iter().map(|user| chat.missed(user, Some(&since), None))).await;
        let statements = db.store.statements() - before;
        for missed in missed {
            let missed = missed.expect("reads");
            assert_eq!(missed.conversations.len(), 1);
            assert_eq!(missed.conversations[0].messages.len(), 1);
        }
        assert!(statements < 200, "{statements} statements for 200");
    }

    async fn nobody_is_told_of_a_position_before_a_late_commit_below_it(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        let heads = chat.heads().await.expect("heads").positions;
        let lane: LaneId = chat.layout().of_conversation(id);
        // It has taken its position, and takes its time.
        let held = db.store.begin(&[lane]).await.expect("begins");
        assert_eq!(held.pos(lane), heads.get(lane) + 1);
        let mut sending = Box::pin(send(&chat, &users[0], id, "after it"));
        assert!(timeout(Duration::from_millis(300), &mut sending).await.is_err(), "the lane is locked");
        let missed = chat.missed(&users[1], Some(&heads), None).await.expect("reads");
        assert_eq!((missed.heads.positions, missed.conversations.len()), (heads.clone(), 0));
        held.commit(&[(lane, Vec::new())], domain::Timestamp(1)).await.expect("commits");
        sending.await;
        let missed = chat.missed(&users[1], Some(&heads), None).await.expect("reads");
        assert_eq!(missed.heads.positions.get(lane), heads.get(lane) + 2);
        assert_eq!(missed.conversations[0].messages[0].pos, heads.get(lane) + 2, "above the late one");
        let log = chat.read_log(lane, heads.get(lane), 10).await.expect("the log");
        assert_eq!(log.iter().map(|batch| batch.pos - heads.get(lane)).collect::<Vec<_>>(), [1, 2]);
    }
}
