//! Who is due a push, what is noted of it, and what waits.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use domain::{
    Caller, Chat, ConversationId, ErrorCode, LaneId, Mentions, Message, PushAddress, PushBatch, PushProvider,
    PushRange, PushTask, Pushed, QuietHours, SessionId, Timestamp, UserId,
    service::{mark_read::MarkRead, remove_member::RemoveMember, send_message::SendMessage},
};

use crate::{
    harness::{ManualClock, group, key, random_number, send, text},
    on_every_database,
};

fn everybody(conversation: ConversationId, seq: i32) -> PushRange {
    PushRange { conversation, seq, after: UserId(0), upto: UserId(i64::MAX) }
}

fn sessions(batch: &PushBatch) -> BTreeSet<SessionId> {
    batch.targets.iter().map(|target| target.session).collect()
}

fn those(callers: &[&Caller]) -> BTreeSet<SessionId> {
    callers.iter().map(|caller| caller.session).collect()
}

async fn ask(chat: &Chat, range: PushRange) -> PushBatch {
    let mut batches = chat.due_pushes(vec![range]).await.expect("asks");
    assert_eq!(batches.len(), 1);
    batches.remove(0)
}

async fn due(chat: &Chat, conversation: ConversationId, seq: i32) -> BTreeSet<SessionId> {
    sessions(&ask(chat, everybody(conversation, seq)).await)
}

async fn register(chat: &Chat, caller: &Caller) {
    let token = PushAddress::Fcm(format!("token-{}", caller.session.0));
    assert_eq!(chat.register_device(caller, token).await.expect("registers"), PushProvider::Fcm);
}

async fn group_with_devices(chat: &Chat, users: &[Caller]) -> ConversationId {
    for user in users {
        register(chat, user).await;
    }
    group(chat, &users[0], &users[1..]).await
}

async fn mention(
    chat: &Chat,
    sender: &Caller,
    conversation: ConversationId,
    body: &str,
    users: &[&Caller],
) -> Arc<Message> {
    let (client_key, text) = (key(format!("{:x}", random_number())), text(body));
    let mentions = Mentions::new(&[], users.iter().map(|caller| caller.user)).expect("few");
    let command = SendMessage { conversation, client_key, text, mentions };
    chat.send_message(sender, command).await.expect("a message")
}

on_every_database! {
    async fn those_who_are_away_and_have_not_read_are_due_once(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(5).await;
        let id = group_with_devices(&chat, &users).await;
        let seq = send(&chat, &users[0], id, "hello").await.seq;
        let [one, two, three, four] = [&users[1], &users[2], &users[3], &users[4]];
        let batch = ask(&chat, everybody(id, seq)).await;
        assert_eq!(sessions(&batch), those(&[one, two, three, four]), "not the sender's");
        assert_eq!((batch.text.as_str(), &*batch.sender, batch.title.as_deref()), ("hello", "user0", Some("group")));
        assert!(batch.targets.iter().all(|target| target.badge == 1));

        chat.announce(one.user, one.session, true);
        assert_eq!(due(&chat, id, seq).await, those(&[two, three, four]), "one has the app open");
        chat.announce(one.user, one.session, false);
        chat.mark_read(two, MarkRead { conversation: id, seq }).await.expect("reads");
        chat.mute_conversation(three, id, Timestamp::FAR).await.expect("mutes");
        let night = QuietHours::new(0, 1439, "UTC".to_owned()).expect("hours");
        chat.set_quiet_hours(four, Some(night.clone())).await.expect("sets");
        // Nearly the whole day; the minute left over may be now.
        let quiet = night.holds_at(chat.clock().now());
        assert_eq!(due(&chat, id, seq).await, if quiet { those(&[one]) } else { those(&[one, four]) });
        chat.set_quiet_hours(four, None).await.expect("sets");
        chat.mute_conversation(three, id, Timestamp(1)).await.expect("unmutes");
        assert_eq!(due(&chat, id, seq).await, those(&[one, three, four]));

        let gone = vec![(three.session, format!("token-{}", three.session.0))];
        let pushed = Pushed { conversation: id, seq, sent: vec![one.session], gone };
        chat.note_pushed(vec![pushed]).await.expect("notes");
        assert_eq!(due(&chat, id, seq).await, those(&[four]), "one was pushed to, one is gone");
        assert_eq!(chat.push_providers(three).await.expect("asks").len(), 0);
        let next = send(&chat, &users[0], id, "again").await.seq;
        assert_eq!(due(&chat, id, next).await, those(&[one, two, four]));
        for seq in [next, seq] {
            let pushed = Pushed { conversation: id, seq, sent: vec![four.session], gone: Vec::new() };
            chat.note_pushed(vec![pushed]).await.expect("notes");
        }
        assert_eq!(due(&chat, id, next).await, those(&[one, two]), "a mark never goes back");

        chat.remove_member(&users[0], RemoveMember { conversation: id, user: one.user }).await.expect("removes");
        chat.sign_out(two, None).await.expect("ends");
        assert_eq!(due(&chat, id, next).await, those(&[]));
    }

    async fn who_is_mentioned_hears_of_it_though_they_have_muted_the_conversation(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(5).await;
        let id = group_with_devices(&chat, &users[..4]).await;
        let [one, two, three, stranger] = [&users[1], &users[2], &users[3], &users[4]];
        register(&chat, stranger).await;
        for user in [two, three] {
            chat.mute_conversation(user, id, Timestamp::FAR).await.expect("mutes");
        }
        let before = send(&chat, &users[0], id, "before").await.seq;
        assert_eq!(due(&chat, id, before).await, those(&[one]), "two and three have muted it");
        let mentioned = mention(&chat, &users[0], id, "@two", &[two, stranger]).await;
        assert_eq!(mentioned.mentions, [two.user].into_iter().collect(), "a stranger is left out");
        let (mentioned, after) = (mentioned.seq, send(&chat, &users[0], id, "after").await.seq);
        assert_eq!(due(&chat, id, before).await, those(&[one]), "not with what came sooner");
        assert_eq!(due(&chat, id, mentioned).await, those(&[one, two]));
        assert_eq!(due(&chat, id, after).await, those(&[one, two]), "tasks may be one, of the newest");

        let told = Pushed { conversation: id, seq: mentioned, sent: vec![two.session], gone: Vec::new() };
        chat.note_pushed(vec![told]).await.expect("notes");
        assert_eq!(due(&chat, id, after).await, those(&[one]), "two was told, and of the rest has muted it");
        let again = mention(&chat, one, id, "@two @three", &[two, three]).await.seq;
        assert_eq!(due(&chat, id, again).await, [&users[0], two, three].map(|user| user.session).into());
        chat.mark_read(three, MarkRead { conversation: id, seq: again }).await.expect("reads");
        send(&chat, two, id, "read by who answers").await;
        let last = send(&chat, &users[0], id, "last").await.seq;
        assert_eq!(due(&chat, id, last).await, those(&[one]), "both have read that they were mentioned");
    }

    async fn the_badge_is_all_that_is_unread(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group_with_devices(&chat, &users).await;
        let direct = chat.open_direct_conversation(&users[0], users[1].user).await.expect("opens").conversation.id;
        for text in ["a", "b"] {
            send(&chat, &users[0], direct, text).await;
        }
        let seq = send(&chat, &users[0], id, "c").await.seq;
        let badge = async || {
            let batch = ask(&chat, everybody(id, seq)).await;
            batch.targets.iter().map(|target| target.badge).collect::<Vec<_>>()
        };
        assert_eq!(badge().await, [3]);
        chat.mark_read(&users[1], MarkRead { conversation: direct, seq: 1 }).await.expect("reads");
        assert_eq!(badge().await, [2]);
    }

    async fn a_range_is_looked_at_a_few_devices_at_a_time(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(150).await;
        let id = group_with_devices(&chat, &users[..100]).await;
        let members = users[100..].iter().map(|user| user.user).collect();
        let command = domain::service::add_members::AddMembers { conversation: id, users: members };
        chat.add_members(&users[0], command).await.expect("adds");
        for user in &users[100..] {
            register(&chat, user).await;
        }
        let seq = send(&chat, &users[0], id, "hello").await.seq;
        let (mut range, mut found, mut batches) = (everybody(id, seq), BTreeSet::new(), 0);
        loop {
            let batch = ask(&chat, range).await;
            batches += 1;
            assert!(batch.targets.len() <= 64);
            for target in &batch.targets {
                assert!(found.insert(target.session), "nobody twice");
            }
            let Some(next) = batch.next else { break };
            range.after = next;
        }
        assert_eq!((found.len(), batches), (149, 3));
        // The same in the runs that a fan-out makes.
        let ends = chat.member_runs(id, UserId(0), 50, 10).await.expect("asks");
        assert_eq!(ends.len(), 3);
        assert_eq!(chat.member_runs(id, UserId(0), 50, 2).await.expect("asks"), ends[..2]);
        let mut all = 0;
        let mut after = UserId(0);
        for upto in ends {
            let range = PushRange { conversation: id, seq, after, upto };
            all += ask(&chat, range).await.targets.len();
            after = upto;
        }
        assert_eq!(all, 149);
    }

    async fn many_ranges_are_answered_as_each_alone(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(90).await;
        let mut ranges = Vec::new();
        for members in [&users[..30], &users[30..32], &users[32..], &users[..32]] {
            let id = group_with_devices(&chat, members).await;
            for text in ["one", "two", "three"] {
                let seq = send(&chat, &members[0], id, text).await.seq;
                ranges.push(everybody(id, seq));
                let pushed = Pushed { conversation: id, seq: seq - 1, sent: vec![members[1].session], gone: Vec::new() };
                chat.note_pushed(vec![pushed.clone(), pushed]).await.expect("notes");
            }
            chat.mark_read(&members[1], MarkRead { conversation: id, seq: 3 }).await.expect("reads");
            let newest = ranges[ranges.len() - 1];
            ranges.push(PushRange { after: members[0].user, upto: members[members.len() / 2].user, ..newest });
        }
        // More than are answered at once, and none that exist.
        ranges.resize(300, everybody(ConversationId::group(1), 1));
        let mut alone = Vec::new();
        for range in &ranges {
            alone.push(ask(&chat, *range).await);
        }
        let (mut together, mut left) = (vec![BTreeSet::new(); ranges.len()], ranges.clone());
        let mut numbers: Vec<usize> = (0..ranges.len()).collect();
        let mut calls = 0;
        while !left.is_empty() {
            calls += 1;
            assert!(calls < 20, "it goes on");
            let batches = chat.due_pushes(left.clone()).await.expect("asks");
            assert_eq!(batches.len(), left.len());
            for ((number, range), batch) in numbers.iter().zip(&mut left).zip(&batches) {
                for target in &batch.targets {
                    assert!(together[*number].insert(target.session), "nobody twice");
                    let same = alone[*number].targets.iter().any(|one| one == target);
                    assert!(same && batch.text == alone[*number].text && batch.message == alone[*number].message);
                }
                range.after = batch.next.unwrap_or(range.upto);
            }
            (numbers, left) = numbers.into_iter().zip(left).filter(|(_, range)| range.after < range.upto).unzip();
        }
        assert!(alone.iter().all(|batch| batch.next.is_none()));
        assert_eq!(together, alone.iter().map(sessions).collect::<Vec<_>>());
        assert!(together.iter().any(|sessions| sessions.len() > 50));
    }

    async fn one_device_is_one_users_and_ends_with_its_session(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(3).await;
        let token = || PushAddress::Apns("ab".repeat(32));
        // All at once, with one address: one of them has it in the end, and nobody sees a fault.
        let at_once = users.iter().map(|user| chat.register_device(user, token()));
        for registered in futures_util::future::join_all(at_once).await {
            assert_eq!(registered.expect("registers"), PushProvider::Apns);
        }
        let mut owners = 0;
        for user in &users {
            owners += chat.push_providers(user).await.expect("asks").len();
        }
        assert_eq!(owners, 1);
        chat.register_device(&users[1], token()).await.expect("registers");
        assert_eq!(chat.push_providers(&users[1]).await.expect("asks")[&users[1].session], PushProvider::Apns);
        chat.unregister_device(&users[0], users[1].session).await.expect("nothing of theirs");
        assert_eq!(chat.push_providers(&users[1]).await.expect("asks").len(), 1);
        chat.sign_out(&users[1], None).await.expect("ends");
        let late = chat.register_device(&users[1], token()).await.map_err(|error| error.code());
        assert_eq!(late, Err(ErrorCode::Unauthenticated), "the session has ended");
    }

    async fn what_is_parked_is_the_newest_of_each_run_and_comes_when_it_is_due(db: TestDatabase) {
        let clock = ManualClock::start();
        let chat = db.chat_at(clock.clone());
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        let lane: LaneId = chat.layout().of_conversation(id);
        let task = |seq, tries| PushTask { range: everybody(id, seq), tries };
        chat.park_push(task(4, 1), 5_000).await.expect("parks");
        chat.park_push(task(3, 2), 1_000).await.expect("an older one changes nothing");
        assert_eq!(chat.parked_pushes(lane).await.expect("asks"), []);
        clock.advance(Duration::from_secs(5));
        assert_eq!(chat.parked_pushes(lane).await.expect("asks"), [task(4, 1)]);
        chat.park_push(task(5, 2), 0).await.expect("parks");
        assert_eq!(chat.parked_pushes(lane).await.expect("asks"), [task(5, 2)]);
        chat.unpark_push(task(4, 1)).await.expect("is another by now");
        assert_eq!(chat.parked_pushes(lane).await.expect("asks"), [task(5, 2)]);
        chat.unpark_push(task(5, 2)).await.expect("goes");
        assert_eq!(chat.parked_pushes(lane).await.expect("asks"), []);
    }

    async fn nobody_is_pushed_what_is_a_day_old(db: TestDatabase) {
        let clock = ManualClock::start();
        let chat = db.chat_at(clock.clone());
        let users = db.users(2).await;
        let id = group_with_devices(&chat, &users).await;
        let seq = send(&chat, &users[0], id, "hello").await.seq;
        clock.advance(Duration::from_hours(23));
        assert_eq!(due(&chat, id, seq).await, those(&[&users[1]]));
        clock.advance(Duration::from_hours(2));
        assert_eq!(due(&chat, id, seq).await, those(&[]));
    }

    async fn what_died_is_there_until_it_is_forgotten(db: TestDatabase) {
        let chat = db.chat();
        for record in [vec![0, 255], Vec::new()] {
            chat.bury_task("task.push", record, &"because ".repeat(200)).await.expect("buries");
        }
        let dead = chat.dead_tasks(10).await.expect("asks");
        assert_eq!(dead.iter().map(|task| task.record.clone()).collect::<Vec<_>>(), [vec![0, 255], Vec::new()]);
        assert!(dead[0].reason.starts_with("because because") && dead[0].reason.len() <= 500);
        assert_eq!(chat.dead_tasks(1).await.expect("asks").len(), 1);
        chat.forget_dead_task(dead[0].id).await.expect("forgets");
        assert_eq!(chat.dead_tasks(10).await.expect("asks"), dead[1..]);
    }
}
