//! Lanes, outbox, epoch, id leases.

use std::collections::HashMap;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, QueryResult};

use super::{
    SqlStore,
    dialect::{Dialect, lane_number, store_error},
    kept::Line,
    rows::{CONVERSATION, MEMBER, Row, id_value},
    statement::Sql,
    transaction::SqlTransaction,
    unsent::Unsent,
};
use crate::{
    Conversation, LaneId, LaneLayout, Member, MemberId, Positions, Timestamp,
    contract::outbox,
    port::{
        LaneTransaction, Log, StoreError,
        log::{Heads, IdRange, LogEntry},
    },
};

/// In this order: with statistics of when there were few conversations, `MariaDB` would read all of them.
const AT_POSITIONS: &str = ", l.id, l.pos, e.epoch FROM member m FORCE INDEX (PRIMARY) STRAIGHT_JOIN conversation c ON c.id = m.conversation_id \
    STRAIGHT_JOIN log_lane l ON l.id = c.lane STRAIGHT_JOIN confab_meta e ON e.id = 1 WHERE (m.conversation_id, m.user_id) IN ";

/// How often a lease is tried when other processes take the same machine number.
const LEASE_ATTEMPTS_MAX: u32 = 64;

impl SqlStore {
    fn transaction(
        &self,
        line: Line,
        positions: Vec<(LaneId, i64)>,
        unsent: Option<Unsent>,
    ) -> SqlTransaction {
        let Self { dialect, exchange, layout, .. } = *self;
        SqlTransaction { dialect, line, kept: self.kept.clone(), exchange, layout, positions, unsent }
    }

    /// How far each lane has been relayed; those that nobody has ever relayed are absent.
    async fn relayed(&self) -> Result<HashMap<LaneId, i64>, StoreError> {
        let rows = Sql::new(self.dialect, "SELECT lane, pos FROM relay_lane WHERE fence > 0")
            .all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| {
                let mut row = Row::new(row);
                let lane: i16 = row.get()?;
                Ok((LaneId(lane.cast_unsigned()), row.get()?))
            })
            .collect()
    }

    pub(super) fn decode_heads(&self, rows: &[QueryResult]) -> Result<Heads, StoreError> {
        let mut epoch = 0;
        let mut positions = Positions::zero(self.layout);
        for row in rows {
            let mut row = Row::new(row);
            epoch = row.get()?;
            let lane: i16 = row.get()?;
            positions.set(LaneId(lane.cast_unsigned()), row.get()?);
        }
        Ok(Heads { epoch, positions })
    }
}

#[async_trait]
impl Log for SqlStore {
    fn layout(&self) -> LaneLayout {
        self.layout
    }

    async fn begin(&self, lanes: &[LaneId]) -> Result<Box<dyn LaneTransaction>, StoreError> {
        debug_assert!(lanes.is_sorted(), "lanes are locked in the order of their numbers");
        let line = match self.kept.begin().await {
            Some(line) => line,
            None => Line::new(self.dialect.begin_write(&self.writer).await?),
        };
        let mut positions = Vec::with_capacity(lanes.len());
        for lane in lanes {
            positions.push((*lane, self.dialect.take_position(&line.connection, *lane).await?));
        }
        Ok(Box::new(self.transaction(line, positions, None)))
    }

    async fn begin_after(
        &self,
        epoch: i64,
        last: &[(LaneId, i64)],
    ) -> Result<Option<Box<dyn LaneTransaction>>, StoreError> {
        debug_assert!(last.is_sorted(), "lanes are locked in the order of their numbers");
        let positions = last.iter().map(|(lane, pos)| (*lane, pos + 1)).collect();
        if let Some(line) = self.kept.take() {
            let unsent = Unsent::begin_after(self.exchange, epoch, last);
            return Ok(Some(Box::new(self.transaction(line, positions, Some(unsent)))));
        }
        let transaction = self.dialect.begin_write(&self.writer).await?;
        if !self.dialect.take_positions_after(&transaction, epoch, last).await? {
            transaction.rollback().await.map_err(store_error)?;
            return Ok(None);
        }
        Ok(Some(Box::new(self.transaction(Line::new(transaction), positions, None))))
    }

    /// In one exchange, so that all of a batch whose conversations are not known yet takes two, and only one while its lanes are locked.
    /// The positions come from the same statement, and so from the same moment: whatever answers it, perhaps a replica behind a proxy that
    /// is not as far, tells no more than what was so at them.
    async fn look_up(
        &self,
        epoch: i64,
        last: &[(LaneId, i64)],
        members: &[MemberId],
    ) -> Vec<(Conversation, Member)> {
        // Elsewhere than with MySQL and `MariaDB` none is kept, and reading under the lock costs no more.
        let Some(line) = self.kept.take() else { return Vec::new() };
        let pairs = members.iter().map(|id| [id_value(id.conversation), id.user.0.into()]);
        let select = Sql::new(self.dialect, "SELECT ").push(CONVERSATION).push(", ").push(MEMBER);
        let rows = match select.push(AT_POSITIONS).tuples(pairs).all(&line.connection).await {
            Ok(rows) => rows,
            // The connection is let go; whoever locks the lanes reads what is missing.
            Err(error) => {
                tracing::debug!(error = %error, "nothing was looked up before the lock");
                return Vec::new();
            }
        };
        self.kept.put(line);
        let at_them = |row| {
            let mut row = Row::new(row);
            let both = (row.conversation().ok()?, row.member().ok()?);
            let stood = (LaneId(row.get::<i16>().ok()?.cast_unsigned()), row.get::<i64>().ok()?);
            (last.contains(&stood) && row.get::<i64>().ok()? == epoch).then_some(both)
        };
        rows.iter().filter_map(at_them).collect()
    }

    async fn heads(&self) -> Result<Heads, StoreError> {
        // One statement, so that epoch and positions belong together.
        let sql = "SELECT e.epoch, l.id, l.pos FROM log_lane l JOIN confab_meta e ON e.id = 1 ORDER BY l.id";
        self.decode_heads(&Sql::new(self.dialect, sql).all(&self.reader).await?)
    }

    async fn read(&self, lane: LaneId, after: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        read_entries(self.dialect, &self.reader, lane, after, limit).await
    }

    async fn remove_expired(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let mut removed = 0;
        let relayed = self.relayed().await?;
        for lane in self.layout.lanes() {
            let rows = Sql::new(self.dialect, "SELECT pos, created_at FROM outbox WHERE lane = ")
                .bind(lane_number(lane))
                .push(" ORDER BY pos LIMIT ")
                .bind(i64::from(limit))
                .all(&self.reader)
                .await?;
            let mut last = None;
            for row in &rows {
                let mut row = Row::new(row);
                let pos: i64 = row.get()?;
                if row.time()? >= before || relayed.get(&lane).is_some_and(|relayed| pos > *relayed) {
                    break;
                }
                last = Some(pos);
            }
            if let Some(last) = last {
                let delete =
                    Sql::new(self.dialect, "DELETE FROM outbox WHERE lane = ").bind(lane_number(lane));
                removed += delete.push(" AND pos <= ").bind(last).run(&self.writer).await?.rows_affected();
            }
        }
        Ok(removed)
    }

    async fn raise_epoch(&self, epoch: i64, now: Timestamp) -> Result<(), StoreError> {
        // Time goes on whatever was restored.
        let next = now.seconds().max(epoch + 1);
        let raise = Sql::new(self.dialect, "UPDATE confab_meta SET epoch = ").bind(next);
        raise.push(" WHERE id = 1 AND epoch = ").bind(epoch).run(&self.writer).await.map(drop)
    }

    async fn lease_ids(&self, from_ms: i64, span_ms: i64) -> Result<IdRange, StoreError> {
        for _ in 0..LEASE_ATTEMPTS_MAX {
            // The machine number that was leased the shortest into the future; with few processes, one of the past.
            let row = Sql::new(
                self.dialect,
                "SELECT machine, ceiling_ms FROM id_lease ORDER BY ceiling_ms, machine LIMIT 1",
            )
            .one(&self.writer)
            .await?
            .ok_or_else(|| StoreError::Fault("no machine numbers".into()))?;
            let mut row = Row::new(&row);
            let machine: i16 = row.get()?;
            let ceiling: i64 = row.get()?;
            let start = ceiling.max(from_ms);
            let taken = Sql::new(self.dialect, "UPDATE id_lease SET ceiling_ms = ")
                .bind(start + span_ms)
                .push(" WHERE machine = ")
                .bind(machine)
                .push(" AND ceiling_ms = ")
                .bind(ceiling)
                .run(&self.writer)
                .await?;
            if taken.rows_affected() == 1 {
                return Ok(IdRange {
                    machine: machine.cast_unsigned(),
                    from_ms: start,
                    until_ms: start + span_ms,
                });
            }
        }
        Err(StoreError::Conflict("id leases are contended".into()))
    }
}

/// Entries of a lane after a position, oldest first.
pub(super) async fn read_entries(
    dialect: Dialect,
    on: &impl ConnectionTrait,
    lane: LaneId,
    after: i64,
    limit: u32,
) -> Result<Vec<LogEntry>, StoreError> {
    let rows = Sql::new(dialect, "SELECT pos, payload FROM outbox WHERE lane = ")
        .bind(lane_number(lane))
        .push(" AND pos > ")
        .bind(after)
        .push(" ORDER BY pos LIMIT ")
        .bind(i64::from(limit))
        .all(on)
        .await?;
    rows.iter()
        .map(|row| {
            let mut row = Row::new(row);
            let pos = row.get()?;
            let payload: Vec<u8> = row.get()?;
            let facts = outbox::decode(&payload).map_err(|error| StoreError::Fault(error.into()))?;
            Ok(LogEntry { lane, pos, facts })
        })
        .collect()
}
