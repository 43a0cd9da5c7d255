//! Who is there and who is typing, as this process knows it. What the caller may know of it, the domain says.

use std::{collections::HashMap, time::Duration};

use tokio::sync::{broadcast, watch};

use super::Chat;
use crate::{
    Caller, Contact, ConversationId, ErrorCode, Heard, NodeId, Presence, PresenceState, PresenceVisibility,
    ServiceError, ServiceResult, SessionId, Standings, Switches, TYPING_LIFE, Timestamp, Topic, UserId,
    Whisper, service::group::no_such_conversation,
};

/// Users whose presence is asked for in one call of the domain.
const USERS_AT_ONCE: usize = 500;

impl Chat {
    /// A session's first subscription on this node went live, or its last one ended. A hint for pushes, and presence.
    pub fn announce(&self, user: UserId, session: SessionId, live: bool) {
        self.local.presence.announce(user, session, live);
        if live {
            self.local.departures.forget(session);
        } else if self.local.switches.borrow().presence {
            self.local.departures.note(session, self.local.clock.now());
        }
    }

    /// What may change while the process runs.
    pub fn switches(&self) -> watch::Receiver<Switches> {
        self.local.switches.clone()
    }

    /// Nobody looks at the caller's device, or somebody does again.
    pub fn set_away(&self, caller: &Caller, away: bool) {
        self.local.presence.set_away(caller.user, caller.session, away);
    }

    /// Whether these people are there, as far as the caller may know and it can be known; nobody else is in it.
    pub async fn presences(
        &self,
        caller: &Caller,
        users: &[UserId],
    ) -> ServiceResult<HashMap<UserId, Presence>> {
        let mut found = HashMap::with_capacity(users.len());
        if !self.local.switches.borrow().presence {
            return Ok(found);
        }
        for users in users.chunks(USERS_AT_ONCE) {
            let scope = self.activity_scope(caller, users, &[], 0).await?;
            let shown: Vec<Contact> = scope.contacts.into_iter().filter(|contact| contact.shows).collect();
            let users: Vec<UserId> = shown.iter().map(|contact| contact.user).collect();
            let standings = self.standings(&users).await;
            found.extend(shown.into_iter().filter_map(|Contact { user, last_used_at, .. }| {
                let presence = match standings.there.get(&user) {
                    Some(there) => Presence { state: there.state, last_seen_at: None },
                    None if standings.complete => {
                        Presence { state: PresenceState::Offline, last_seen_at: last_used_at }
                    }
                    None => return None,
                };
                Some((user, presence))
            }));
        }
        Ok(found)
    }

    /// Who may know whether the caller is there.
    pub async fn set_presence_visibility(
        &self,
        caller: &Caller,
        visibility: PresenceVisibility,
    ) -> ServiceResult<()> {
        self.keep_presence_visibility(caller, visibility).await?;
        self.local.whispers.say(Whisper::VisibilityChanged(caller.user));
        Ok(())
    }

    /// Tells those who watch one of the caller's conversations. Until when it holds unless it is said again; `None` when nobody is told:
    /// it has ended, is switched off, or the group is large.
    pub async fn set_typing(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        typing: bool,
    ) -> ServiceResult<Option<Timestamp>> {
        let now = self.local.clock.now();
        if self.local.limits.rate_limits {
            self.local.typing.take(caller.user, now).map_err(too_fast)?;
        }
        let scope = self.activity_scope(caller, &[], &[conversation], 0).await?;
        let head = scope.conversations.first().ok_or_else(no_such_conversation)?;
        let large = head.member_count > self.local.limits.fanout_inline_members_max;
        if large || !self.local.switches.borrow().typing {
            return Ok(None);
        }
        self.local.whispers.say(Whisper::Typing { conversation, user: caller.user, typing });
        Ok(typing.then(|| now + TYPING_LIFE))
    }

    /// For whoever may know.
    pub async fn standings(&self, users: &[UserId]) -> Standings {
        self.local.presence.standings(users).await
    }

    /// Those of the nodes that are dead; `None` when that cannot be known.
    pub async fn fallen(&self, nodes: &[NodeId]) -> Option<Vec<NodeId>> {
        self.local.presence.fallen(nodes).await
    }

    /// Hears what is said in passing: here, and elsewhere about what [`Chat::listen`] names.
    pub fn whispers(&self) -> broadcast::Receiver<Heard> {
        self.local.whispers.hear()
    }

    pub fn listen(&self, topics: &[Topic]) {
        self.local.whispers.listen(topics);
    }

    pub fn ignore(&self, topics: &[Topic]) {
        self.local.whispers.ignore(topics);
    }

    /// What is due by time alone: sessions whose grace has passed, and what SQL is to know of those who went. About once a second.
    pub async fn upkeep_of_presence(&self) {
        self.local.presence.expire();
        if let Err(error) = self.local.departures.write(self).await {
            tracing::debug!(error = %error, "when sessions were last used is written later");
        }
    }
}

fn too_fast(wait: Duration) -> ServiceError {
    ServiceError::new(ErrorCode::RateLimited, "typing is told often enough; wait and try again").after(wait)
}
