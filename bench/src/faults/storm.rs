//! A storm of calls, half of which their clients drop within 20 ms: what was dropped may have happened, once. All go to one small group:
//! what is tried is the sending, not how fast this process reads.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use crate::{
    actors::Stage,
    journal::{Attempt, Outcome},
};

const AT_ONCE: usize = 64;
const DROPPED_WITHIN_MICROS: u64 = 20_000;

impl Stage {
    /// Each dropped call is asked again at the end, so that its outcome is known.
    pub async fn storm(self: &Arc<Self>, calls: usize, cycle: usize) {
        let dropped = stream::iter(0..calls)
            .map(|call| self.storm_call(call, cycle))
            .buffer_unordered(AT_ONCE)
            .filter_map(async |again| again);
        let dropped: Vec<usize> = dropped.collect().await;
        stream::iter(dropped)
            .for_each_concurrent(AT_ONCE, async |call| {
                let (user, conversation) = self.of_call(call);
                self.send_until_known(user, &conversation, &key(call, cycle), call + 1).await;
            })
            .await;
    }

    /// Every second call waits for its answer. The number of one that was dropped.
    async fn storm_call(&self, call: usize, cycle: usize) -> Option<usize> {
        let (user, conversation) = self.of_call(call);
        if call.is_multiple_of(2) {
            self.send_until_known(user, &conversation, &key(call, cycle), call).await;
            return None;
        }
        // A multiplicative hash: the same in every run.
        let micros = (call as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let patience = Duration::from_micros(micros % DROPPED_WITHIN_MICROS);
        let (token, key) = (&self.users[user].token, key(call, cycle));
        let invoked = self.now();
        let sent = timeout(patience, self.api.send(call, token, &conversation, &key));
        let outcome = match sent.await {
            Ok(Ok(Some((id, seq)))) => Outcome::Acked { id, seq },
            Ok(Ok(None)) | Err(_) => Outcome::Unknown,
            Ok(Err(why)) => Outcome::Refused(why),
        };
        let again = outcome == Outcome::Unknown;
        self.note_attempt(Attempt {
            user: self.users[user].id.clone(),
            conversation,
            key,
            invoked,
            answered: self.now(),
            outcome,
        });
        again.then_some(call)
    }

    /// Who sends, and where to.
    fn of_call(&self, call: usize) -> (usize, String) {
        let (conversation, members) = &self.groups[self.groups.len() - 1];
        (members[call / 2 % members.len()], conversation.clone())
    }
}

fn key(call: usize, cycle: usize) -> String {
    format!("storm{cycle}-{call}")
}
