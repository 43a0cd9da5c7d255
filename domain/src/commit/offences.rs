//! Senders whose keys spoiled batches lately: whose batch came again, with every key looked up, because one was taken.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{ClientKey, UserId};

/// Who spoils so many batches within [`OFFENCE_WINDOW`] is committed alone for the rest of it.
const OFFENCES_MAX: u32 = 3;
const OFFENCE_WINDOW: Duration = Duration::from_mins(1);

/// How often each did, since when.
#[derive(Default)]
pub(super) struct Offences(HashMap<UserId, (u32, Instant)>);

impl Offences {
    pub fn expire(&mut self, now: Instant) {
        self.0.retain(|_, (_, since)| now.duration_since(*since) < OFFENCE_WINDOW);
    }

    pub fn are_many(&self, sender: UserId) -> bool {
        self.0.get(&sender).is_some_and(|(count, _)| *count >= OFFENCES_MAX)
    }

    pub fn note(&mut self, known: &[(UserId, ClientKey)]) {
        for (user, _) in known {
            let (count, _) = self.0.entry(*user).or_insert((0, Instant::now()));
            *count += 1;
        }
    }
}
