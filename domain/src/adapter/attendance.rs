//! The sessions of one node: live, or gone for a moment.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{PRESENCE_GRACE, PresenceState, SessionId, Standing, UserId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Said to be away before its subscription went live: counts for nothing yet.
    Expected,
    Live,
    /// Its last subscription ended within the grace.
    Leaving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub stage: Stage,
    pub away: bool,
    /// When the stage ends by itself; `None` for a live one.
    until: Option<Instant>,
}

impl Entry {
    pub const fn state(self) -> PresenceState {
        match self {
            Self { stage: Stage::Expected, .. } => PresenceState::Offline,
            Self { away: true, .. } => PresenceState::Away,
            Self { away: false, .. } => PresenceState::Online,
        }
    }
}

/// What became of a user by a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// A session is another than it was.
    pub changed: bool,
    /// The user is there in another way than before, on this node.
    pub state_changed: bool,
}

/// As many users as have a subscription on this node, or had one a moment ago.
#[derive(Default)]
pub(super) struct Attendance {
    /// Most users have one or two sessions.
    sessions: HashMap<UserId, Vec<(SessionId, Entry)>>,
    /// In the order in which the grace ends, which is the same time for all.
    grace: VecDeque<(Instant, UserId, SessionId)>,
}

impl Attendance {
    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.sessions.keys().copied()
    }

    pub fn sessions(&self, user: UserId) -> impl Iterator<Item = (SessionId, Entry)> {
        self.sessions.get(&user).into_iter().flatten().copied()
    }

    fn entry(&self, user: UserId, session: SessionId) -> Option<Entry> {
        self.sessions(user).find(|(known, _)| *known == session).map(|(_, entry)| entry)
    }

    pub fn state(&self, user: UserId) -> PresenceState {
        self.sessions(user).map(|(_, entry)| entry.state()).max().unwrap_or(PresenceState::Offline)
    }

    /// Those of the users who are there.
    pub fn standings(&self, users: &[UserId]) -> HashMap<UserId, Standing> {
        let states = users.iter().map(|user| (*user, self.state(*user)));
        let there = states.filter(|(_, state)| *state != PresenceState::Offline);
        there.map(|(user, state)| (user, Standing { state, nodes: Vec::new() })).collect()
    }

    pub fn announce(&mut self, user: UserId, session: SessionId, live: bool, now: Instant) -> Outcome {
        let known = self.entry(user, session);
        let stage = match (live, known.map(|entry| entry.stage)) {
            (true, _) => Stage::Live,
            (false, Some(Stage::Live)) => Stage::Leaving,
            (false, _) => return Outcome::default(),
        };
        let away = known.is_some_and(|entry| entry.away);
        let until = (stage == Stage::Leaving).then(|| now + PRESENCE_GRACE);
        self.set(user, session, Entry { stage, away, until })
    }

    pub fn set_away(&mut self, user: UserId, session: SessionId, away: bool, now: Instant) -> Outcome {
        let known = self.entry(user, session);
        match known {
            Some(entry) => self.set(user, session, Entry { away, ..entry }),
            None if away => {
                let until = Some(now + PRESENCE_GRACE);
                self.set(user, session, Entry { stage: Stage::Expected, away, until })
            }
            None => Outcome::default(),
        }
    }

    fn set(&mut self, user: UserId, session: SessionId, entry: Entry) -> Outcome {
        let state = self.state(user);
        let before = self.entry(user, session);
        let sessions = self.sessions.entry(user).or_default();
        match sessions.iter_mut().find(|(known, _)| *known == session) {
            Some((_, known)) => *known = entry,
            None => {
                sessions.reserve_exact(1);
                sessions.push((session, entry));
            }
        }
        if let Some(until) = entry.until
            && before.and_then(|before| before.until) != entry.until
        {
            self.grace.push_back((until, user, session));
        }
        Outcome { changed: before != Some(entry), state_changed: state != self.state(user) }
    }

    /// Forgets sessions whose grace has passed; the users, and whether they are there in another way now.
    pub fn expire(&mut self, now: Instant) -> Vec<(UserId, Outcome)> {
        let mut expired = Vec::new();
        while let Some((until, user, session)) = self.grace.front().copied() {
            if until > now {
                break;
            }
            self.grace.pop_front();
            let state = self.state(user);
            let Some(sessions) = self.sessions.get_mut(&user) else { continue };
            // One that came back, or left once more, has another end or none.
            let ended = |(known, entry): &(SessionId, Entry)| *known == session && entry.until == Some(until);
            let Some(place) = sessions.iter().position(ended) else { continue };
            sessions.swap_remove(place);
            if sessions.is_empty() {
                self.sessions.remove(&user);
            }
            expired.push((user, Outcome { changed: true, state_changed: state != self.state(user) }));
        }
        expired
    }

    /// How long until somebody's grace has passed.
    pub fn next_expiry(&self, now: Instant) -> Option<Duration> {
        self.grace.front().map(|(until, ..)| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: UserId = UserId(7);
    const NONE: Outcome = Outcome { changed: false, state_changed: false };
    const SILENT: Outcome = Outcome { changed: true, state_changed: false };
    const SEEN: Outcome = Outcome { changed: true, state_changed: true };

    #[tokio::test]
    async fn a_session_that_comes_back_within_the_grace_was_never_away() {
        let (mut here, now) = (Attendance::default(), Instant::now());
        assert_eq!(here.announce(USER, SessionId(1), true, now), SEEN);
        assert_eq!(here.announce(USER, SessionId(1), false, now), SILENT);
        assert_eq!(here.announce(USER, SessionId(1), false, now), NONE, "told once");
        let later = now + PRESENCE_GRACE / 2;
        assert_eq!(here.announce(USER, SessionId(1), true, later), SILENT);
        assert_eq!(here.announce(USER, SessionId(1), false, later), SILENT);
        assert_eq!(here.expire(now + PRESENCE_GRACE), [], "the second grace has not passed");
        assert_eq!(here.state(USER), PresenceState::Online);
        assert_eq!(here.expire(later + PRESENCE_GRACE), [(USER, SEEN)]);
        assert_eq!((here.state(USER), here.users().count()), (PresenceState::Offline, 0));
        assert_eq!(here.next_expiry(now), None);
    }

    #[tokio::test]
    async fn the_best_device_counts_and_what_is_said_too_soon_is_kept_for_the_grace() {
        let (mut here, now) = (Attendance::default(), Instant::now());
        assert_eq!(here.set_away(USER, SessionId(1), true, now), SILENT, "not yet there");
        assert_eq!(here.announce(USER, SessionId(1), true, now), SEEN);
        assert_eq!(here.state(USER), PresenceState::Away);
        assert_eq!(here.announce(USER, SessionId(2), true, now), SEEN);
        assert_eq!(here.set_away(USER, SessionId(2), true, now), SEEN);
        assert_eq!(here.set_away(USER, SessionId(2), true, now), NONE);
        assert_eq!(here.set_away(USER, SessionId(1), false, now), SEEN);
        assert_eq!(here.state(USER), PresenceState::Online);
        here.set_away(UserId(8), SessionId(3), true, now);
        assert_eq!(here.expire(now + PRESENCE_GRACE), [(UserId(8), SILENT)], "it never came");
    }
}
