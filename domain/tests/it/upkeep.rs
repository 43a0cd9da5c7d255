//! What a long-lived installation lets go of.

use std::{fmt::Write as _, time::Duration};

use domain::{Chat, Positions};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use crate::{
    harness::{ManualClock, TestDatabase, floor, group, send},
    on_every_database,
};

const DAY: Duration = Duration::from_hours(24);
/// More than are removed at once, and no multiple of it.
const LONG_DEAD: usize = 2500;

/// Sessions that nobody has used for decades, half of them ended, with a token each.
async fn long_dead_sessions(db: &TestDatabase) {
    let connection = db.store.connection();
    let (mut sessions, mut tokens) = (String::new(), String::new());
    for number in 1..=LONG_DEAD {
        let comma = if number == 1 { "" } else { "," };
        let ended = if number % 2 == 0 { "2" } else { "NULL" };
        let _ = write!(sessions, "{comma}({number}, {number}, 1, 1, {ended})");
        let hash = match connection.get_database_backend() {
            DbBackend::Postgres => format!("decode('{number:064x}', 'hex')"),
            _ => format!("x'{number:064x}'"),
        };
        let _ = write!(tokens, "{comma}({hash}, {number}, {number}, 1)");
    }
    for (into, rows) in [
        ("session (id, user_id, created_at, last_used_at, ended_at)", sessions),
        ("refresh_token (hash, session_id, user_id, issued_at)", tokens),
    ] {
        connection.execute_unprepared(&format!("INSERT INTO {into} VALUES {rows}")).await.expect("writes");
    }
}

async fn count(db: &TestDatabase, table: &str) -> i64 {
    let connection = db.store.connection();
    let sql =
        Statement::from_string(connection.get_database_backend(), format!("SELECT COUNT(*) FROM {table}"));
    let row = connection.query_one_raw(sql).await.expect("reads").expect("a row");
    row.try_get_by_index(0).expect("a number")
}

async fn upkeep(chat: &Chat) -> u64 {
    chat.remove_expired().await.expect("removes")
}

on_every_database! {
    async fn upkeep_removes_all_whose_time_has_passed_however_much_it_is_and_nothing_else(db: TestDatabase) {
        let clock = ManualClock::start();
        let chat = db.chat_at(clock.clone());
        let users = db.users(2).await;
        let id = group(&chat, &users[0], &users[1..]).await;
        send(&chat, &users[0], id, "x").await;
        assert_eq!(upkeep(&chat).await, 0);
        long_dead_sessions(&db).await;
        assert_eq!(upkeep(&chat).await, 2 * LONG_DEAD as u64, "sessions and tokens");
        assert_eq!((count(&db, "session").await, count(&db, "refresh_token").await), (2, 2));

        let heads = chat.heads().await.expect("heads").positions;
        clock.advance(Duration::from_hours(72) - Duration::from_mins(1));
        assert_eq!(upkeep(&chat).await, 0);
        assert_eq!(floor(&chat, &users[0]).await, Positions::zero(chat.layout()));
        clock.advance(Duration::from_mins(2));
        assert_eq!(upkeep(&chat).await, 2, "the group and the message");
        assert_eq!(floor(&chat, &users[0]).await, heads);
        assert_eq!(send(&chat, &users[0], id, "after").await.seq, 2, "positions and seq go on");
    }

    async fn a_session_that_nobody_uses_dies_with_its_token_and_is_removed_a_day_later(db: TestDatabase) {
        let clock = ManualClock::start();
        let chat = db.chat_at(clock.clone());
        let user = db.user("ada").await;
        clock.advance(29 * DAY);
        assert_eq!(chat.sessions(&user).await.expect("lists").len(), 1);
        clock.advance(DAY + Duration::from_mins(1));
        assert_eq!(chat.sessions(&user).await.expect("lists"), []);
        assert_eq!(upkeep(&chat).await, 1, "the token");
        assert_eq!(count(&db, "session").await, 1);
        clock.advance(DAY);
        assert_eq!(upkeep(&chat).await, 1, "the session");
        assert_eq!(count(&db, "session").await, 0);
    }

    async fn who_uses_a_session_keeps_it_for_ever(db: TestDatabase) {
        use domain::service::register::Register;
        let clock = ManualClock::start();
        let chat = db.chat_at(clock.clone());
        let register = Register {
            username: "ada".to_owned(),
            password: "correct horse battery".to_owned(),
            display_name: "Ada".to_owned(),
            device_name: None,
            address: None,
        };
        let mut credentials = chat.register(register).await.expect("registers").credentials;
        let caller = chat.authenticate(&credentials.access_token).expect("a good token");
        for _ in 0..4 {
            clock.advance(29 * DAY);
            upkeep(&chat).await;
            assert_eq!(chat.sessions(&caller).await.expect("lists").len(), 1);
            credentials = chat.refresh_session(&credentials.refresh_token).await.expect("it lives");
        }
    }
}
