//! Who is due a push, what waits for a provider, and dead tasks.

use std::{
    collections::{BTreeMap, HashMap},
    iter,
};

use async_trait::async_trait;
use entity::{dead_task, device};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QueryResult, QuerySelect as _,
};

use super::{
    SqlStore,
    dialect::{Dialect, Otherwise, lane_number, store_error},
    rows::{Row, id_value},
    statement::Sql,
};
use crate::{
    ConversationId, DeadTask, LaneId, PushAddress, PushProvider, PushRange, PushTarget, PushTask, Pushed,
    QuietHours, SessionId, Timestamp, UserId,
    model::push::Subscription,
    port::{Pushes, StoreError, pushes::Candidate},
};

/// Rows in one statement.
const MARKS_AT_ONCE: usize = 512;
/// Users whose unread conversations are in memory at once.
const USERS_AT_ONCE: usize = 256;

pub(super) const fn provider(number: i16) -> PushProvider {
    match number {
        0 => PushProvider::Apns,
        1 => PushProvider::Fcm,
        _ => PushProvider::WebPush,
    }
}

fn address(row: &mut Row<'_>) -> Result<PushAddress, StoreError> {
    let unsound = |what: &str| StoreError::Fault(format!("a device has no sound {what}").into());
    let kind = provider(row.get()?);
    let text = String::from_utf8(row.get()?).map_err(|_| unsound("address"))?;
    let (p256dh, auth): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get()?, row.get()?);
    Ok(match kind {
        PushProvider::Apns => PushAddress::Apns(text),
        PushProvider::Fcm => PushAddress::Fcm(text),
        PushProvider::WebPush => PushAddress::WebPush(Box::new(Subscription {
            endpoint: text,
            p256dh: p256dh.and_then(|key| key.try_into().ok()).ok_or_else(|| unsound("key"))?,
            auth: auth.and_then(|secret| secret.try_into().ok()).ok_or_else(|| unsound("secret"))?,
        })),
    })
}

/// The ranges without repeats: one for all messages about which the same members are asked, with the newest.
fn spans(ranges: &[PushRange]) -> Vec<PushRange> {
    let mut spans: BTreeMap<(ConversationId, UserId, UserId), i32> = BTreeMap::new();
    for PushRange { conversation, seq, after, upto } in ranges {
        let newest = spans.entry((*conversation, *after, *upto)).or_insert(*seq);
        *newest = (*newest).max(*seq);
    }
    let span = |((conversation, after, upto), seq)| PushRange { conversation, seq, after, upto };
    spans.into_iter().map(span).collect()
}

fn candidate(row: &QueryResult, now: Timestamp) -> Result<Candidate, StoreError> {
    let mut row = Row::new(row);
    let conversation = row.conversation_id()?;
    let senders = row.senders()?;
    let user = UserId(row.get()?);
    let read_seq: i32 = row.get()?;
    // What they sent, they have read.
    let read_seq = senders.of(user).map_or(read_seq, |sent| sent.seq.max(read_seq));
    let pushed_seq: Option<i32> = row.get()?;
    let session = SessionId(row.get()?);
    let target = PushTarget { session, user, address: address(&mut row)?, badge: 0 };
    let (starts, ends): (Option<i16>, Option<i16>) = (row.get()?, row.get()?);
    let time_zone: Option<String> = row.get()?;
    let quiet_hours = starts.zip(ends).zip(time_zone);
    let quiet_hours = quiet_hours.map(|((starts, ends), time_zone)| QuietHours { starts, ends, time_zone });
    let muted_until: Option<i64> = row.get()?;
    let mentioned_seq: Option<i32> = row.get()?;
    Ok(Candidate {
        conversation,
        target,
        read_seq,
        pushed_seq: pushed_seq.unwrap_or(0),
        quiet_hours,
        is_muted: muted_until.is_some_and(|until| until > now.0),
        mentioned_seq: mentioned_seq.unwrap_or(0),
    })
}

/// A mark never goes back: a worker that slept through its task may come late.
const KEEP_THE_NEWER_MARK: Otherwise = Otherwise {
    mysql: " ON DUPLICATE KEY UPDATE seq = GREATEST(seq, VALUES(seq))",
    postgres: " ON CONFLICT (session_id, conversation_id) DO UPDATE SET seq = GREATEST(push_mark.seq, excluded.seq)",
    sqlite: " ON CONFLICT (session_id, conversation_id) DO UPDATE SET seq = MAX(push_mark.seq, excluded.seq)",
};

/// A device shows one push a conversation, so the newest message's is the one that counts. `seq` is set last: the others look at it.
const PARK_THE_NEWER: Otherwise = Otherwise {
    mysql: " ON DUPLICATE KEY UPDATE upto_user = GREATEST(upto_user, VALUES(upto_user)), \
        tries = IF(VALUES(seq) >= seq, VALUES(tries), tries), due_at = IF(VALUES(seq) >= seq, VALUES(due_at), due_at), \
        seq = GREATEST(seq, VALUES(seq))",
    postgres: " ON CONFLICT (conversation_id, after_user) DO UPDATE SET \
        upto_user = GREATEST(parked_push.upto_user, excluded.upto_user), \
        tries = CASE WHEN excluded.seq >= parked_push.seq THEN excluded.tries ELSE parked_push.tries END, \
        due_at = CASE WHEN excluded.seq >= parked_push.seq THEN excluded.due_at ELSE parked_push.due_at END, \
        seq = GREATEST(parked_push.seq, excluded.seq)",
    sqlite: " ON CONFLICT (conversation_id, after_user) DO UPDATE SET \
        upto_user = MAX(parked_push.upto_user, excluded.upto_user), \
        tries = CASE WHEN excluded.seq >= parked_push.seq THEN excluded.tries ELSE parked_push.tries END, \
        due_at = CASE WHEN excluded.seq >= parked_push.seq THEN excluded.due_at ELSE parked_push.due_at END, \
        seq = MAX(parked_push.seq, excluded.seq)",
};

pub(super) async fn remove_marks(
    dialect: Dialect,
    on: &impl ConnectionTrait,
    sessions: &[i64],
) -> Result<(), StoreError> {
    let delete = Sql::new(dialect, "DELETE FROM push_mark WHERE session_id IN ");
    delete.list(sessions.iter().copied()).run(on).await.map(drop)
}

#[async_trait]
impl Pushes for SqlStore {
    async fn member_runs(
        &self,
        conversation: ConversationId,
        mut after: UserId,
        size: u32,
        runs: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut ends = Vec::new();
        for _ in 0..runs {
            let last = self
                .sql("SELECT m.user_id FROM member m WHERE m.removed_rev IS NULL AND m.conversation_id = ")
                .bind(id_value(conversation))
                .push(" AND m.user_id > ")
                .bind(after.0)
                .push(" ORDER BY m.user_id LIMIT 1 OFFSET ")
                .bind(i64::from(size) - 1)
                .one(&self.reader)
                .await?;
            let Some(last) = last else { break };
            after = UserId(Row::new(&last).get()?);
            ends.push(after);
        }
        Ok(ends)
    }

    async fn candidates(
        &self,
        ranges: &[PushRange],
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Candidate>, StoreError> {
        let spans = spans(ranges);
        let Some(last) = spans.last() else { return Ok(Vec::new()) };
        // Left alone, MariaDB begins with every session that has not ended, and weighs every index for every range.
        let (in_this_order, by_place) = match self.dialect {
            Dialect::MySql => ("STRAIGHT_JOIN ", "FORCE INDEX (PRIMARY) "),
            Dialect::Postgres | Dialect::Sqlite => ("", ""),
        };
        let mut sql = self
            .sql("SELECT ")
            .push(in_this_order)
            .push(
                "m.conversation_id, c.senders, m.user_id, m.read_seq, k.seq, d.session_id, d.provider, d.address, \
                 d.p256dh, d.auth, h.starts, h.ends, h.time_zone, q.until, n.seq FROM member m ",
            )
            .push(by_place)
            .push(
                "JOIN conversation c ON c.id = m.conversation_id JOIN device d ON d.user_id = m.user_id \
                 JOIN session s ON s.id = d.session_id AND s.ended_at IS NULL \
                 LEFT JOIN muted_conversation q ON q.user_id = m.user_id AND q.conversation_id = m.conversation_id \
                 LEFT JOIN mention n ON n.conversation_id = m.conversation_id AND n.user_id = m.user_id \
                 LEFT JOIN quiet_hours h ON h.user_id = m.user_id \
                 LEFT JOIN push_mark k ON k.session_id = d.session_id AND k.conversation_id = m.conversation_id \
                 WHERE m.removed_rev IS NULL AND (q.until IS NULL OR q.until <= ",
            )
            .bind(now.0)
            .push(" OR (n.seq > m.read_seq AND (k.seq IS NULL OR n.seq > k.seq))) AND (");
        // Padded, so that there are few distinct texts.
        let padded = spans.iter().chain(iter::repeat(last)).take(spans.len().next_power_of_two());
        for (index, span) in padded.enumerate() {
            sql = sql
                .push(if index > 0 { " OR (m.conversation_id = " } else { "(m.conversation_id = " })
                .bind(id_value(span.conversation))
                .push(" AND m.user_id > ")
                .bind(span.after.0)
                .push(" AND m.user_id <= ")
                .bind(span.upto.0)
                .push(" AND m.read_seq < ")
                .bind(span.seq)
                .push(")");
        }
        let rows = sql
            .push(") ORDER BY m.conversation_id, m.user_id, d.session_id LIMIT ")
            .bind(i64::from(limit))
            .all(&self.reader)
            .await?;
        rows.iter().map(|row| candidate(row, now)).collect()
    }

    async fn unread(&self, users: &[UserId]) -> Result<HashMap<UserId, i32>, StoreError> {
        let mut unread: HashMap<UserId, i32> = HashMap::new();
        for users in users.chunks(USERS_AT_ONCE) {
            let rows = self
                .sql(
                    "SELECT m.user_id, m.read_seq, m.read_countable, c.countable, c.senders FROM member m \
                     JOIN conversation c ON c.id = m.conversation_id WHERE m.removed_rev IS NULL \
                     AND m.read_countable < c.countable AND m.user_id IN ",
                )
                .list(users.iter().map(|user| user.0))
                .all(&self.reader)
                .await?;
            for row in &rows {
                let mut row = Row::new(row);
                let user = UserId(row.get()?);
                let (read_seq, read_countable, countable): (i32, i32, i32) =
                    (row.get()?, row.get()?, row.get()?);
                let sent = row.senders()?.of(user).filter(|sent| sent.seq > read_seq);
                let read_countable = sent.map_or(read_countable, |sent| sent.countable);
                let total = unread.entry(user).or_default();
                *total = total.saturating_add((countable - read_countable).max(0));
            }
        }
        Ok(unread)
    }

    async fn note_pushed(&self, pushed: &[Pushed]) -> Result<(), StoreError> {
        // No row twice in a statement, and in one order for everybody, so that no two wait for each other.
        let mut marks: BTreeMap<(SessionId, ConversationId), i32> = BTreeMap::new();
        for Pushed { conversation, seq, sent, .. } in pushed {
            for session in sent {
                let mark = marks.entry((*session, *conversation)).or_insert(*seq);
                *mark = (*mark).max(*seq);
            }
        }
        let marks: Vec<_> = marks.into_iter().collect();
        for marks in marks.chunks(MARKS_AT_ONCE) {
            let rows = marks.iter().map(|((session, conversation), seq)| {
                [session.0.into(), id_value(*conversation), (*seq).into()]
            });
            self.sql("INSERT INTO push_mark (session_id, conversation_id, seq) VALUES ")
                .rows(rows)
                .push(self.dialect.otherwise(&KEEP_THE_NEWER_MARK))
                .run(&self.writer)
                .await?;
        }
        for (session, gone) in pushed.iter().flat_map(|pushed| &pushed.gone) {
            // It may have registered anew meanwhile.
            let removed = device::Entity::delete_many()
                .filter(device::Column::SessionId.eq(session.0))
                .filter(device::Column::Address.eq(gone.as_bytes().to_vec()))
                .exec(&self.writer)
                .await
                .map_err(store_error)?;
            if removed.rows_affected > 0 {
                remove_marks(self.dialect, &self.writer, &[session.0]).await?;
            }
        }
        Ok(())
    }

    async fn park(&self, task: &PushTask, lane: LaneId, due_at: Timestamp) -> Result<(), StoreError> {
        let PushTask { range, tries } = task;
        self.sql(
            "INSERT INTO parked_push (conversation_id, after_user, upto_user, seq, tries, lane, due_at) VALUES ",
        )
        .rows([[
            id_value(range.conversation),
            range.after.0.into(),
            range.upto.0.into(),
            range.seq.into(),
            tries.cast_signed().into(),
            lane_number(lane).into(),
            due_at.0.into(),
        ]])
        .push(self.dialect.otherwise(&PARK_THE_NEWER))
        .run(&self.writer)
        .await
        .map(drop)
    }

    async fn parked(&self, lane: LaneId, now: Timestamp, limit: u32) -> Result<Vec<PushTask>, StoreError> {
        let rows = self
            .sql("SELECT conversation_id, seq, after_user, upto_user, tries FROM parked_push WHERE lane = ")
            .bind(lane_number(lane))
            .push(" AND due_at <= ")
            .bind(now.0)
            .push(" ORDER BY due_at LIMIT ")
            .bind(i64::from(limit))
            .all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| {
                let mut row = Row::new(row);
                let (conversation, seq) = (row.conversation_id()?, row.get()?);
                let (after, upto) = (UserId(row.get()?), UserId(row.get()?));
                let tries: i32 = row.get()?;
                let range = PushRange { conversation, seq, after, upto };
                Ok(PushTask { range, tries: tries.cast_unsigned() })
            })
            .collect()
    }

    async fn unpark(&self, task: &PushTask) -> Result<(), StoreError> {
        let PushTask { range, tries } = task;
        self.sql("DELETE FROM parked_push WHERE conversation_id = ")
            .bind(id_value(range.conversation))
            .push(" AND after_user = ")
            .bind(range.after.0)
            .push(" AND seq = ")
            .bind(range.seq)
            .push(" AND tries = ")
            .bind(tries.cast_signed())
            .run(&self.writer)
            .await
            .map(drop)
    }

    async fn bury(&self, task: &DeadTask) -> Result<(), StoreError> {
        let row = dead_task::ActiveModel {
            id: Set(task.id),
            topic: Set(task.topic.clone()),
            record: Set(task.record.clone()),
            reason: Set(task.reason.clone()),
            died_at: Set(task.died_at.0),
        };
        dead_task::Entity::insert(row)
            .exec_without_returning(&self.writer)
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn dead(&self, limit: u32) -> Result<Vec<DeadTask>, StoreError> {
        let find = dead_task::Entity::find().order_by_asc(dead_task::Column::Id).limit(u64::from(limit));
        let rows = find.all(&self.reader).await.map_err(store_error)?;
        let task = |row: dead_task::Model| DeadTask {
            id: row.id,
            topic: row.topic,
            record: row.record,
            reason: row.reason,
            died_at: Timestamp(row.died_at),
        };
        Ok(rows.into_iter().map(task).collect())
    }

    async fn forget_dead(&self, id: i64) -> Result<(), StoreError> {
        dead_task::Entity::delete_by_id(id).exec(&self.writer).await.map(drop).map_err(store_error)
    }
}
