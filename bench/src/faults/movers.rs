//! Members who are removed and come back all the time, and listen: they must not get what is not theirs (I7).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    actors::{RETRY_PAUSE, Stage},
    journal::Absence,
};

/// How long somebody is out, at least: a delivery is late after a second. Some stay out longer, through more of a fault.
const OUT_FOR: Duration = Duration::from_millis(1500);
const IN_FOR: Duration = Duration::from_millis(700);

impl Stage {
    /// One after the other from each group, until told to stop; and a member of all at the end.
    pub(crate) async fn move_on(self: Arc<Self>, mover: usize, stop: CancellationToken) {
        self.until_live(&stop).await;
        let user = &self.users[mover].id;
        let mine: Vec<_> = self.groups.iter().filter(|(_, members)| members.contains(&mover)).collect();
        let mut turn = mover;
        while !mine.is_empty() && !stop.is_cancelled() {
            let (conversation, members) = mine[turn % mine.len()];
            // Who made the group.
            let owner = members[0];
            if !self.set_until_known(owner, conversation, user, false, turn).await {
                return;
            }
            let from = self.now();
            sleep(OUT_FOR + OUT_FOR.mul_f64(f64::from(u8::try_from(turn % 3).unwrap_or(0)))).await;
            let to = self.now();
            if !self.set_until_known(owner, conversation, user, true, turn).await {
                return;
            }
            self.changes.fetch_add(2, Ordering::Relaxed);
            let (user, conversation) = (user.clone(), conversation.clone());
            self.journal().absences.push(Absence { user, conversation, from, to, back: self.now() });
            turn += 1;
            sleep(IN_FOR).await;
        }
    }

    /// `false` after a refusal, which nothing explains.
    async fn set_until_known(
        &self,
        owner: usize,
        conversation: &str,
        user: &str,
        is_in: bool,
        at: usize,
    ) -> bool {
        for attempt in at.. {
            let token = &self.users[owner].token;
            match self.api.set_member(attempt, token, conversation, user, is_in).await {
                Ok(true) => return true,
                Ok(false) => sleep(RETRY_PAUSE).await,
                Err(why) => {
                    self.complain(format!("{user} cannot be moved in {conversation}: {why}"));
                    return false;
                }
            }
        }
        false
    }
}
