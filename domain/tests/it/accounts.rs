//! Accounts: who may come in, what they hold, and how it ends.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use argon2::{Algorithm, Argon2, Params, Version, password_hash::PasswordHasher as _};
use domain::{
    Caller, Chat, ErrorCode, Fact, Limits, Rate, ServiceError, Session, SessionId, Timestamp, UserId,
    port::{Accounts as _, Log as _, accounts::NewSession},
    service::{
        change_password::ChangePassword,
        register::{Register, SignedIn},
        sign_in::SignIn,
    },
};
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, Statement};

use crate::{
    harness::{ManualClock, TestDatabase},
    on_every_database,
};

const PASSWORD: &str = "correct horse battery";

fn registration(username: &str) -> Register {
    Register {
        username: username.to_owned(),
        password: PASSWORD.to_owned(),
        display_name: "Alice".to_owned(),
        device_name: Some("phone".to_owned()),
        address: None,
    }
}

async fn register(chat: &Chat, username: &str) -> SignedIn {
    chat.register(registration(username))
        .await
        .unwrap_or_else(|error| panic!("registers {username}: {error:?}"))
}

async fn sign_in(chat: &Chat, username: &str, password: &str) -> Result<SignedIn, ServiceError> {
    let (username, password) = (username.to_owned(), password.to_owned());
    chat.sign_in(SignIn { username, password, device_name: None, address: None }).await
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The code of the refusal, if it is one.
async fn try_from(chat: &Chat, username: &str, password: &str, from: &str) -> Option<ErrorCode> {
    let (username, password) = (username.to_owned(), password.to_owned());
    let command = SignIn { username, password, device_name: None, address: Some(address(from)) };
    chat.sign_in(command).await.err().map(|refusal| refusal.code())
}

fn caller(chat: &Chat, signed_in: &SignedIn) -> Caller {
    chat.authenticate(&signed_in.credentials.access_token).expect("a valid token")
}

fn assert_refused(chat: &Chat, access_token: &str) {
    let refusal = chat.authenticate(access_token).expect_err("refused");
    assert_eq!(refusal.code(), ErrorCode::Unauthenticated);
}

/// The ends of sessions that the log names.
async fn ends(db: &TestDatabase, chat: &Chat) -> BTreeSet<SessionId> {
    let mut ended = BTreeSet::new();
    for lane in chat.layout().lanes() {
        for entry in db.store.read(lane, 0, 1000).await.expect("the log") {
            ended.extend(entry.facts.iter().filter_map(|entry| match &entry.fact {
                Fact::SessionEnded { session, .. } => Some(*session),
                _ => None,
            }));
        }
    }
    ended
}

on_every_database! {
    async fn no_session_comes_of_a_password_that_was_changed_after_it_was_checked(db: TestDatabase) {
        let chat = db.chat();
        let alice = register(&chat, "alice").await;
        let here = caller(&chat, &alice);
        let checked = db.store.secret_by_id(here.user).await.expect("reads").expect("known").password_hash;
        let change = ChangePassword { current_password: PASSWORD.to_owned(), new_password: "another horse".to_owned() };
        chat.change_password(&here, change).await.expect("changes");
        let session = chat.sessions(&here).await.expect("reads").remove(0);
        let session = NewSession { session: Session { id: SessionId(7), ..session }, token_hash: [7; 32] };
        assert!(!db.store.insert_session(&session, &checked).await.expect("asks"));
        assert_eq!(chat.sessions(&here).await.expect("reads").len(), 1);
        let holds = db.store.secret_by_id(here.user).await.expect("reads").expect("known").password_hash;
        assert!(db.store.insert_session(&session, &holds).await.expect("asks"));
        assert_eq!(chat.sessions(&here).await.expect("reads").len(), 2);
    }

    async fn who_registers_is_signed_in_and_can_sign_in_again(db: TestDatabase) {
        let chat = db.chat();
        let registered = register(&chat, "Alice").await;
        assert_eq!((&*registered.user.username, &*registered.user.display_name), ("Alice", "Alice"));
        assert_eq!(caller(&chat, &registered).user, registered.user.id);
        let again = sign_in(&chat, "ａＬＩＣＥ", PASSWORD).await.expect("the same name in other clothes");
        assert_eq!(again.user, registered.user);
        assert_ne!(caller(&chat, &again).session, caller(&chat, &registered).session);
        let elsewhere = db.chat();
        assert_eq!(caller(&elsewhere, &again).user, registered.user.id);
    }

    async fn a_name_that_differs_only_in_case_or_width_is_taken(db: TestDatabase) {
        let chat = db.chat();
        register(&chat, "alice").await;
        for name in ["alice", "ALICE", "Ａｌｉｃｅ"] {
            let Err(refusal) = chat.register(registration(name)).await else { panic!("{name} is taken") };
            assert_eq!((refusal.code(), refusal.field()), (ErrorCode::UsernameTaken, ["username"].as_slice()));
        }
        let at_once = join_all((0..5).map(|_| chat.register(registration("bob")))).await;
        assert_eq!(at_once.iter().filter(|one| one.is_ok()).count(), 1);
        let refused = at_once.into_iter().filter_map(Result::err);
        assert!(refused.into_iter().all(|refusal| refusal.code() == ErrorCode::UsernameTaken));
    }

    async fn bad_input_is_refused_with_the_field_that_is_bad(db: TestDatabase) {
        let chat = db.chat();
        let good = || registration("carol");
        let long = "x".repeat(129);
        let bad = [
            ("username", Register { username: "a b".to_owned(), ..good() }),
            ("username", Register { username: "a\u{202E}b".to_owned(), ..good() }),
            ("password", Register { password: "1234567".to_owned(), ..good() }),
            ("password", Register { password: long, ..good() }),
            ("displayName", Register { display_name: "a\0".to_owned(), ..good() }),
            ("deviceName", Register { device_name: Some(String::new()), ..good() }),
        ];
        for (field, command) in bad {
            let Err(refusal) = chat.register(command).await else { panic!("{field} is bad") };
            assert_eq!((refusal.code(), refusal.field()), (ErrorCode::InvalidInput, [field].as_slice()));
        }
        register(&chat, "carol").await;
    }

    async fn an_unknown_user_and_a_wrong_password_look_the_same(db: TestDatabase) {
        let chat = db.chat();
        register(&chat, "alice").await;
        let mut answers = Vec::new();
        for (name, password) in [("alice", "wrong horse"), ("nobody", PASSWORD), ("no body", PASSWORD), ("alice", "")] {
            let Err(refusal) = sign_in(&chat, name, password).await else { panic!("{name} came in") };
            answers.push((refusal.code(), refusal.message().to_owned(), refusal.field(), refusal.retry_after()));
        }
        assert!(answers.iter().all(|answer| answer.0 == ErrorCode::InvalidCredentials && *answer == answers[0]));
    }

    async fn guessing_is_slowed_down(db: TestDatabase) {
        let clock = ManualClock::start();
        let chat = db.chat_at(clock.clone());
        register(&chat, "alice").await;
        for _ in 0..5 {
            let Err(refusal) = sign_in(&chat, "alice", "wrong horse").await else { panic!("came in") };
            assert_eq!(refusal.code(), ErrorCode::InvalidCredentials);
        }
        let Err(refusal) = sign_in(&chat, "alice", PASSWORD).await else { panic!("came in") };
        assert_eq!((refusal.code(), refusal.retry_after()), (ErrorCode::RateLimited, Some(Duration::from_secs(30))));
        clock.advance(Duration::from_secs(30));
        sign_in(&chat, "alice", PASSWORD).await.expect("after the wait");
    }

    async fn strangers_who_guess_do_not_lock_the_owner_out_of_another_node(db: TestDatabase) {
        let limits = Limits {
            sign_in_account_rate: Rate { burst: 2, refill: Duration::from_hours(1) },
            ..Limits::default()
        };
        let (home, elsewhere) = (db.chat_with(limits.clone()), db.chat_with(limits.clone()));
        for name in ["alice", "bob"] {
            home.register(Register { address: Some(address("192.0.2.1")), ..registration(name) }).await.expect("registers");
        }
        assert_eq!(try_from(&home, "alice", PASSWORD, "192.0.2.2").await, None, "signs in from a second place");
        for index in 1..=2 {
            let guess = try_from(&elsewhere, "alice", "wrong horse", &format!("198.51.100.{index}")).await;
            assert_eq!(guess, Some(ErrorCode::InvalidCredentials));
        }
        let limited = Some(ErrorCode::RateLimited);
        assert_eq!(try_from(&elsewhere, "alice", PASSWORD, "198.51.100.3").await, limited, "the flood is stopped");
        assert_eq!(try_from(&elsewhere, "nobody", PASSWORD, "192.0.2.1").await, Some(ErrorCode::InvalidCredentials));
        for known in ["192.0.2.1", "192.0.2.2"] {
            assert_eq!(try_from(&elsewhere, "alice", PASSWORD, known).await, None, "the owner comes in from {known}");
        }
        assert_eq!(try_from(&elsewhere, "alice", PASSWORD, "198.51.100.3").await, limited, "and opens it to nobody");
        // What is stored is no address.
        let rows = db.store.connection().query_all_raw(Statement::from_string(
            db.store.connection().get_database_backend(),
            "SELECT hash FROM familiar_network",
        ));
        let hashes: Vec<Vec<u8>> = rows.await.expect("reads").iter().map(|row| row.try_get_by_index(0).expect("bytes")).collect();
        assert_eq!(hashes.len(), 3);
        assert!(hashes.iter().all(|hash| hash.len() == 32 && !hash.windows(3).any(|part| part == [192, 0, 2])));
    }

    async fn familiar_networks_are_bounded_and_forgotten(db: TestDatabase) {
        let hash = |index: u8| [index; 32];
        for index in 1..=5 {
            db.store.note_network(UserId(1), &hash(index), Timestamp(i64::from(index)), 3).await.expect("notes");
        }
        db.store.note_network(UserId(2), &hash(9), Timestamp(1), 3).await.expect("notes");
        let knows = async |index, since| db.store.knows_network(&[hash(99), hash(index)], Timestamp(since)).await.expect("asks");
        let answers = [knows(1, 0).await, knows(2, 0).await, knows(3, 0).await, knows(5, 0).await, knows(9, 0).await];
        assert_eq!(answers, [false, false, true, true, true], "the oldest of a user give way");
        assert!(!knows(5, 5).await, "noted too long ago");
        db.store.note_network(UserId(1), &hash(3), Timestamp(7), 3).await.expect("notes again");
        assert!(knows(3, 5).await);
        assert_eq!(db.store.remove_networks(Timestamp(5), 10).await.expect("removes"), 2);
        assert!(knows(3, 0).await && !knows(4, 0).await && !knows(9, 0).await);
    }

    async fn a_sign_in_renews_a_hash_of_weaker_parameters(db: TestDatabase) {
        let chat = db.chat();
        let alice = register(&chat, "alice").await;
        let stored = async || db.store.secret_by_id(alice.user.id).await.expect("reads").expect("known").password_hash;
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8192, 1, 1, None).expect("sound"));
        let weak = weak.hash_password_with_salt(PASSWORD.as_bytes(), &[1; 16]).expect("hashes").to_string();
        db.store.replace_password_hash(alice.user.id, &stored().await, &weak).await.expect("replaces");
        assert!(sign_in(&chat, "alice", "wrong horse").await.is_err());
        assert_eq!(stored().await, weak, "who does not come in renews nothing");
        sign_in(&chat, "alice", PASSWORD).await.expect("signs in");
        let renewed = stored().await;
        assert!(renewed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{renewed}");
        sign_in(&chat, "alice", PASSWORD).await.expect("signs in with the new one");
        assert_eq!(stored().await, renewed, "and it stays");
    }

    async fn a_refresh_spends_the_token_and_gives_new_ones(db: TestDatabase) {
        let clock = ManualClock::start();
        let chat = db.chat_at(clock.clone());
        let alice = register(&chat, "alice").await;
        clock.advance(Duration::from_mins(15));
        assert_refused(&chat, &alice.credentials.access_token);
        let mut token = alice.credentials.refresh_token.clone();
        for _ in 0..5 {
            clock.advance(Duration::from_hours(24 * 29));
            let next = chat.refresh_session(&token).await.expect("refreshes");
            assert_ne!(next.refresh_token, token);
            let caller = chat.authenticate(&next.access_token).expect("a valid token");
            assert_eq!((caller.user, caller.expires_at), (alice.user.id, next.access_token_expires_at));
            token = next.refresh_token;
        }
        // In one second, too: a client tells by it that somebody else has renewed meanwhile.
        let first = chat.refresh_session(&token).await.expect("refreshes");
        let second = chat.refresh_session(&first.refresh_token).await.expect("refreshes");
        assert_ne!(first.access_token, second.access_token);
        token = second.refresh_token;
        clock.advance(Duration::from_hours(24 * 30));
        assert_eq!(chat.refresh_session(&token).await.err().map(|e| e.code()), Some(ErrorCode::InvalidCredentials));
        for bad in ["", "cfr_", "cfr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", alice.credentials.access_token.as_str()] {
            assert_eq!(chat.refresh_session(bad).await.err().map(|e| e.code()), Some(ErrorCode::InvalidCredentials));
        }
        assert_refused(&chat, &token);
    }

    async fn fifty_refreshes_at_once_get_one_successor(db: TestDatabase) {
        let nodes = [db.chat(), db.chat()];
        let alice = register(&nodes[0], "alice").await;
        let spent = &alice.credentials.refresh_token;
        let answers = join_all((0..50).map(|index| nodes[index % 2].refresh_session(spent))).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("refreshes")).collect();
        let successors: BTreeSet<_> = answers.iter().map(|answer| answer.refresh_token.as_str()).collect();
        assert_eq!(successors.len(), 1);
        for answer in &answers {
            nodes[0].authenticate(&answer.access_token).expect("a valid token");
        }
        let next = nodes[1].refresh_session(&answers[0].refresh_token).await.expect("the family goes on");
        assert!(!successors.contains(next.refresh_token.as_str()));
    }

    async fn a_spent_token_used_late_ends_its_session(db: TestDatabase) {
        let clock = ManualClock::start();
        let chat = db.chat_at(clock.clone());
        let alice = register(&chat, "alice").await;
        let other = sign_in(&chat, "alice", PASSWORD).await.expect("signs in");
        let session = caller(&chat, &alice).session;
        let spent = &alice.credentials.refresh_token;
        let next = chat.refresh_session(spent).await.expect("refreshes");
        clock.advance(Duration::from_secs(30));
        let again = chat.refresh_session(spent).await.expect("a lost answer is given again");
        assert_eq!(again.refresh_token, next.refresh_token);
        clock.advance(Duration::from_secs(1));
        let refusal = chat.refresh_session(spent).await.err().expect("reused");
        assert_eq!(refusal.code(), ErrorCode::InvalidCredentials);
        assert_eq!(ends(&db, &chat).await, BTreeSet::from([session]));
        assert_refused(&chat, &again.access_token);
        assert!(chat.refresh_session(&next.refresh_token).await.is_err(), "the whole family is dead");
        caller(&chat, &other);
        chat.refresh_session(&other.credentials.refresh_token).await.expect("another session goes on");
    }

    async fn signing_out_ends_a_session_on_every_node(db: TestDatabase) {
        let (chat, elsewhere) = (db.chat(), db.chat());
        let alice = register(&chat, "alice").await;
        let phone = sign_in(&chat, "alice", PASSWORD).await.expect("signs in");
        let mallory = register(&chat, "mallory").await;
        let (here, there) = (caller(&chat, &alice), caller(&chat, &phone));
        let stranger = caller(&chat, &mallory);
        for (who, session) in [(stranger, there.session), (here, SessionId(12_345))] {
            let refusal = chat.sign_out(&who, Some(session)).await.expect_err("not theirs");
            assert_eq!((refusal.code(), refusal.message()), (ErrorCode::NotFound, "no such session"));
        }
        caller(&chat, &phone);
        chat.sign_out(&here, Some(there.session)).await.expect("signs the phone out");
        chat.sign_out(&here, Some(there.session)).await.expect("again changes nothing");
        assert_refused(&chat, &phone.credentials.access_token);
        assert!(chat.refresh_session(&phone.credentials.refresh_token).await.is_err());
        assert_eq!(ends(&db, &chat).await, BTreeSet::from([there.session]));
        caller(&elsewhere, &phone);
        elsewhere.note_session_ended(there.session);
        assert_refused(&elsewhere, &phone.credentials.access_token);
        let restarted = db.chat();
        restarted.load_ended_sessions().await.expect("loads");
        assert_refused(&restarted, &phone.credentials.access_token);
        caller(&restarted, &alice);
        chat.sign_out(&here, None).await.expect("signs out");
        assert_refused(&chat, &alice.credentials.access_token);
        caller(&chat, &mallory);
    }

    async fn a_new_password_ends_the_other_sessions(db: TestDatabase) {
        let chat = db.chat();
        let alice = register(&chat, "alice").await;
        let phone = sign_in(&chat, "alice", PASSWORD).await.expect("signs in");
        let here = caller(&chat, &alice);
        let change = |current: &str, new: &str| ChangePassword {
            current_password: current.to_owned(),
            new_password: new.to_owned(),
        };
        let refusal = chat.change_password(&here, change("wrong horse", "another horse")).await.expect_err("wrong");
        assert_eq!((refusal.code(), refusal.field()), (ErrorCode::InvalidCredentials, ["currentPassword"].as_slice()));
        let refusal = chat.change_password(&here, change(PASSWORD, "short")).await.expect_err("too short");
        assert_eq!((refusal.code(), refusal.field()), (ErrorCode::InvalidInput, ["newPassword"].as_slice()));
        caller(&chat, &phone);
        chat.change_password(&here, change(PASSWORD, "another horse")).await.expect("changes");
        assert_refused(&chat, &phone.credentials.access_token);
        caller(&chat, &alice);
        assert!(sign_in(&chat, "alice", PASSWORD).await.is_err());
        // No other session is left to end, and the password changes all the same.
        chat.change_password(&here, change("another horse", "a third horse")).await.expect("changes");
        sign_in(&chat, "alice", "a third horse").await.expect("signs in");
    }

    async fn sessions_are_listed_newest_first_while_they_live(db: TestDatabase) {
        let clock = ManualClock::start();
        let chat = db.chat_at(clock.clone());
        let alice = register(&chat, "alice").await;
        clock.advance(Duration::from_mins(1));
        let phone = sign_in(&chat, "alice", PASSWORD).await.expect("signs in");
        register(&chat, "bob").await;
        let (here, there) = (caller(&chat, &alice), caller(&chat, &phone));
        clock.advance(Duration::from_mins(1));
        chat.refresh_session(&alice.credentials.refresh_token).await.expect("refreshes");
        let sessions = chat.sessions(&here).await.expect("lists");
        let ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
        assert_eq!(ids, [there.session, here.session]);
        assert_eq!(sessions[1].device_name.as_deref(), Some("phone"));
        assert_eq!(sessions[1].last_used_at.since(sessions[1].created_at), Duration::from_mins(2));
        chat.sign_out(&here, Some(there.session)).await.expect("signs out");
        assert_eq!(chat.sessions(&here).await.expect("lists").len(), 1);
    }

    async fn a_display_name_changes_when_it_is_given(db: TestDatabase) {
        let chat = db.chat();
        let here = caller(&chat, &register(&chat, "alice").await);
        let name = async |name: Option<&str>| {
            chat.update_profile(&here, name.map(str::to_owned)).await.map(|user| user.display_name.to_string())
        };
        assert_eq!(name(Some("李小龍")).await.expect("changes"), "李小龍");
        assert_eq!(name(None).await.expect("reads"), "李小龍");
        let refusal = name(Some("a\u{202E}b")).await.expect_err("bidi");
        assert_eq!((refusal.code(), refusal.field()), (ErrorCode::InvalidInput, ["displayName"].as_slice()));
    }
}
