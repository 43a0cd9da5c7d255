//! Leases of lanes for the relay.

use async_trait::async_trait;

use super::{SqlStore, dialect::lane_number, rows::Row, statement::Sql};
use crate::{
    LaneId, RelayBacklog, RelayLane, Timestamp, WorkerId,
    port::{Relays, StoreError},
};

#[async_trait]
impl Relays for SqlStore {
    async fn hold(
        &self,
        worker: WorkerId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<RelayLane>, StoreError> {
        // A lease that ran out is taken anew, with another fence: somebody may have had the lane meanwhile.
        Sql::new(self.dialect, "UPDATE relay_lane SET lease_until = ")
            .bind(until.0)
            .push(" WHERE worker = ")
            .bind(worker.0)
            .push(" AND lease_until > ")
            .bind(now.0)
            .run(&self.writer)
            .await?;
        let free = Sql::new(self.dialect, "SELECT lane, fence FROM relay_lane WHERE lease_until <= ")
            .bind(now.0)
            .push(" ORDER BY lease_until, lane LIMIT 1")
            .one(&self.reader)
            .await?;
        if let Some(row) = free {
            let mut row = Row::new(&row);
            let (lane, fence): (i16, i64) = (row.get()?, row.get()?);
            Sql::new(self.dialect, "UPDATE relay_lane SET worker = ")
                .bind(worker.0)
                .push(", lease_until = ")
                .bind(until.0)
                .push(", fence = fence + 1 WHERE lane = ")
                .bind(lane)
                .push(" AND fence = ")
                .bind(fence)
                .push(" AND lease_until <= ")
                .bind(now.0)
                .run(&self.writer)
                .await?;
        }
        let held = Sql::new(self.dialect, "SELECT lane, fence, pos FROM relay_lane WHERE worker = ")
            .bind(worker.0)
            .push(" AND lease_until > ")
            .bind(now.0)
            .push(" ORDER BY lane")
            .all(&self.writer)
            .await?;
        held.iter()
            .map(|row| {
                let mut row = Row::new(row);
                let lane: i16 = row.get()?;
                Ok(RelayLane { lane: LaneId(lane.cast_unsigned()), fence: row.get()?, pos: row.get()? })
            })
            .collect()
    }

    async fn note(&self, lane: LaneId, fence: i64, pos: i64) -> Result<bool, StoreError> {
        let noted = Sql::new(self.dialect, "UPDATE relay_lane SET pos = ")
            .bind(pos)
            .push(" WHERE lane = ")
            .bind(lane_number(lane))
            .push(" AND fence = ")
            .bind(fence)
            .push(" AND pos < ")
            .bind(pos)
            .run(&self.writer)
            .await?;
        Ok(noted.rows_affected() == 1)
    }

    async fn backlog(&self) -> Result<Vec<RelayBacklog>, StoreError> {
        let sql = "SELECT r.lane, l.pos - r.pos, (SELECT o.created_at FROM outbox o \
            WHERE o.lane = r.lane AND o.pos > r.pos ORDER BY o.pos LIMIT 1) \
            FROM relay_lane r JOIN log_lane l ON l.id = r.lane ORDER BY r.lane";
        let rows = Sql::new(self.dialect, sql).all(&self.reader).await?;
        rows.iter()
            .map(|row| {
                let mut row = Row::new(row);
                let lane: i16 = row.get()?;
                let (positions, oldest) = (row.get()?, row.get::<Option<i64>>()?.map(Timestamp));
                Ok(RelayBacklog { lane: LaneId(lane.cast_unsigned()), positions, oldest })
            })
            .collect()
    }

    async fn release(&self, worker: WorkerId) -> Result<(), StoreError> {
        let release =
            Sql::new(self.dialect, "UPDATE relay_lane SET lease_until = 0 WHERE worker = ").bind(worker.0);
        release.run(&self.writer).await.map(drop)
    }
}
