//! Groups and direct conversations: who may do what, what each change counts, and what happens twice.

use domain::{
    Caller, Chat, ConversationId, ErrorCode, MemberId, MemberRole, Mentions, ServiceError,
    service::{
        add_members::AddMembers, create_group::CreateGroup, mark_read::MarkRead, remove_member::RemoveMember,
        send_message::SendMessage, set_member_role::SetMemberRole, update_group::UpdateGroup,
    },
};
use sea_orm::ConnectionTrait as _;

use crate::{
    harness::{group, key, send, text, title},
    on_every_database,
};

async fn head(chat: &Chat, viewer: &Caller, id: ConversationId) -> (i32, i32, i32) {
    let view = chat.conversations(viewer, &[id]).await.expect("reads").remove(&id).expect("a member");
    (view.conversation.last_seq, view.conversation.rev, view.unread_count())
}

fn code(result: Result<impl Sized, ServiceError>) -> Option<ErrorCode> {
    result.err().map(|error| error.code())
}

async fn set_role(
    chat: &Chat,
    caller: &Caller,
    id: ConversationId,
    user: &Caller,
    role: MemberRole,
) -> Option<ErrorCode> {
    code(chat.set_member_role(caller, SetMemberRole { conversation: id, user: user.user, role }).await)
}

on_every_database! {
    async fn a_direct_conversation_opens_once_from_either_side(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(2).await;
        let (one, two) = tokio::join!(
            chat.open_direct_conversation(&users[0], users[1].user),
            chat.open_direct_conversation(&users[1], users[0].user),
        );
        let (one, two) = (one.expect("opens"), two.expect("opens"));
        assert_eq!(one.conversation.id, two.conversation.id);
        assert_eq!((one.conversation.rev, one.conversation.last_seq), (1, 0));
        let with_oneself = chat.open_direct_conversation(&users[0], users[0].user).await;
        assert_eq!(code(with_oneself), Some(ErrorCode::InvalidInput));
        let unknown = chat.open_direct_conversation(&users[0], domain::UserId(5)).await;
        assert_eq!(code(unknown), Some(ErrorCode::NotFound));
        assert_eq!(code(chat.leave_group(&users[0], one.conversation.id).await), Some(ErrorCode::Forbidden));
    }

    async fn creating_a_group_again_with_its_key_gives_the_same_group(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(3).await;
        let command = CreateGroup { title: title("a"), members: vec![users[1].user], client_key: Some(key("k")) };
        let all = futures_util::future::join_all((0..20).map(|_| chat.create_group(&users[0], command.clone()))).await;
        let ids: std::collections::BTreeSet<_> = all.into_iter().map(|one| one.expect("a group").conversation.id).collect();
        assert_eq!(ids.len(), 1);
        let other = CreateGroup { title: title("b"), ..command.clone() };
        assert_eq!(code(chat.create_group(&users[0], other).await), Some(ErrorCode::IdempotencyConflict));
        let stranger = CreateGroup { members: vec![domain::UserId(5)], client_key: None, ..command };
        assert_eq!(code(chat.create_group(&users[0], stranger).await), Some(ErrorCode::NotFound));
    }

    async fn every_change_of_members_counts_a_rev_and_one_system_message(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(4).await;
        let id = group(&chat, &users[0], &users[1..2]).await;
        send(&chat, &users[0], id, "before").await;
        let both = AddMembers { conversation: id, users: vec![users[2].user, users[3].user] };
        chat.add_members(&users[0], both.clone()).await.expect("added");
        assert_eq!(head(&chat, &users[0], id).await, (2, 5, 0), "two members, one message");
        assert_eq!(head(&chat, &users[2], id).await, (2, 5, 0), "nothing before the joining is unread");
        assert_eq!(head(&chat, &users[1], id).await, (2, 5, 1), "system messages are never unread");
        chat.add_members(&users[0], both).await.expect("nothing to do");
        assert_eq!(head(&chat, &users[0], id).await, (2, 5, 0), "a repeat changes nothing");
        chat.leave_group(&users[3], id).await.expect("left");
        chat.leave_group(&users[3], id).await.expect("left already");
        assert_eq!(head(&chat, &users[0], id).await, (3, 7, 0));
        let gone = chat.conversations(&users[3], &[id]).await.expect("reads");
        assert!(gone.is_empty(), "a former member sees nothing");
        chat.add_members(&users[0], AddMembers { conversation: id, users: vec![users[3].user] }).await.expect("back");
        assert_eq!(head(&chat, &users[3], id).await, (4, 9, 0));
    }

    async fn roles_decide_who_may_do_what(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(5).await;
        let (owner, admin, member, stranger) = (&users[0], &users[1], &users[2], &users[4]);
        let id = group(&chat, owner, &users[1..4]).await;
        assert_eq!(set_role(&chat, owner, id, admin, MemberRole::Admin).await, None);
        let rename = UpdateGroup { conversation: id, title: Some(title("new")) };
        assert_eq!(code(chat.update_group(member, rename.clone()).await), Some(ErrorCode::Forbidden));
        assert_eq!(code(chat.update_group(stranger, rename.clone()).await), Some(ErrorCode::NotFound));
        assert_eq!(code(chat.update_group(admin, rename).await), None);
        let remove = |user: &Caller| RemoveMember { conversation: id, user: user.user };
        assert_eq!(code(chat.remove_member(admin, remove(owner)).await), Some(ErrorCode::Forbidden));
        assert_eq!(code(chat.remove_member(member, remove(&users[3])).await), Some(ErrorCode::Forbidden));
        assert_eq!(code(chat.remove_member(admin, remove(&users[3])).await), None);
        assert_eq!(code(chat.remove_member(admin, remove(&users[3])).await), None, "again changes nothing");
        assert_eq!(set_role(&chat, admin, id, member, MemberRole::Admin).await, Some(ErrorCode::Forbidden));
        assert_eq!(set_role(&chat, owner, id, stranger, MemberRole::Admin).await, Some(ErrorCode::NotAMember));
        assert_eq!(set_role(&chat, owner, id, owner, MemberRole::Member).await, Some(ErrorCode::LastOwner));
        assert_eq!(code(chat.leave_group(owner, id).await), Some(ErrorCode::LastOwner));
        assert_eq!(set_role(&chat, owner, id, member, MemberRole::Owner).await, None);
        assert_eq!(code(chat.leave_group(owner, id).await), None);
    }

    async fn reads_move_forward_only_and_count_exactly(db: TestDatabase) {
        let chat = db.chat();
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        for _ in 0..5 {
            send(&chat, &users[0], id, "x").await;
        }
        let mark = |seq| chat.mark_read(&users[1], MarkRead { conversation: id, seq });
        assert_eq!(mark(3).await.expect("moves").unread_count(), 2);
        let (_, rev, _) = head(&chat, &users[1], id).await;
        assert_eq!(mark(2).await.expect("stays").viewer.read_seq, 3);
        assert_eq!(mark(3).await.expect("stays").viewer.read_seq, 3);
        assert_eq!(head(&chat, &users[1], id).await, (5, rev, 2), "what changes nothing counts nothing");
        assert_eq!(code(mark(6).await), Some(ErrorCode::InvalidInput));
        let quick = futures_util::future::join_all([mark(4), mark(5), mark(4)]).await;
        assert!(quick.into_iter().all(|view| view.expect("moves").viewer.read_seq == 5), "marks of a second are folded");
        assert_eq!(head(&chat, &users[1], id).await, (5, rev + 1, 0));
        send(&chat, &users[1], id, "mine").await;
        assert_eq!(head(&chat, &users[1], id).await.2, 0, "one's own messages are never unread");
        assert_eq!(head(&chat, &users[0], id).await.2, 1);
    }

    async fn a_conversation_that_has_counted_to_the_end_is_full_and_can_still_be_read(db: TestDatabase) {
        let users = db.users(2).await;
        let id = group(&db.chat(), &users[0], &users[1..]).await;
        let set = async |what: &str| {
            let sql = format!("UPDATE conversation SET {what} = {}", i32::MAX - 1);
            db.store.connection().execute_unprepared(&sql).await.expect("sets");
            // A process that has not seen it before.
            db.reopen().await
        };
        let send = |key_text: &str| SendMessage { conversation: id, client_key: key(key_text), text: text("x"), mentions: Mentions::default() };
        let chat = set("last_seq").await;
        let last = chat.send_message(&users[0], send("last")).await.expect("one more");
        assert_eq!(last.seq, i32::MAX);
        let refusal = chat.send_message(&users[0], send("beyond")).await.expect_err("full");
        assert_eq!((refusal.code(), refusal.retryable()), (ErrorCode::ConversationFull, false));
        assert_eq!(chat.send_message(&users[0], send("last")).await.expect("sent before"), last);
        let found = chat.messages(&users[1], &[last.id]).await.expect("reads");
        assert_eq!(found.get(&last.id).map(|found| found.seq), Some(i32::MAX));

        let chat = set("last_seq = 0, rev").await;
        let rename = |name: &str| UpdateGroup { conversation: id, title: Some(title(name)) };
        // A title is two changes, the system message included: neither is made.
        assert_eq!(code(chat.update_group(&users[0], rename("new")).await), Some(ErrorCode::ConversationFull));
        assert_eq!(head(&chat, &users[0], id).await.1, i32::MAX - 1);
    }

    async fn a_full_group_takes_nobody_more(db: TestDatabase) {
        let chat = db.chat_with(domain::Limits { group_members_max: 3, ..domain::Limits::default() });
        let users = db.users(4).await;
        let id = group(&chat, &users[0], &users[1..3]).await;
        let add = AddMembers { conversation: id, users: vec![users[3].user] };
        assert_eq!(code(chat.add_members(&users[0], add).await), Some(ErrorCode::TooManyMembers));
        let members = chat.members(&users[0], &[MemberId { conversation: id, user: users[3].user }]).await.expect("reads");
        assert!(members.is_empty());
    }
}
