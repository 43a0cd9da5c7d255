//! Who may know whether somebody is there, and what SQL knows of it. Who is there is known by the processes that hold the sockets.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::try_join;

use super::Services;
use crate::{
    ActivityScope, Caller, Contact, ConversationId, Domain, PresenceVisibility, ServiceError, ServiceResult,
    SessionId, Timestamp, UserId,
};

impl Domain {
    /// What of this the caller may watch: conversations that they are in, and of the users and those conversations' members, at most
    /// `members_max` of these, whom they talk to. Members of large groups do not count as such.
    pub async fn activity_scope(
        &self,
        caller: &Caller,
        users: &[UserId],
        conversations: &[ConversationId],
        members_max: u32,
    ) -> ServiceResult<ActivityScope> {
        let Services { contacts, limits, .. } = &*self.services;
        let small = limits.fanout_inline_members_max;
        let talks_to =
            async { contacts.contacts(caller.user, users, small).await.map_err(ServiceError::from) };
        let (views, talks_to) = try_join!(self.conversations(caller, conversations), talks_to)?;
        let heads = views.into_values().map(|view| view.conversation);
        let mut heads: Vec<_> = heads.collect();
        heads.sort_unstable_by_key(|head| head.id);
        let watched: Vec<ConversationId> =
            heads.iter().filter(|head| head.member_count <= small).map(|head| head.id).collect();
        let wanted = if members_max == 0 { &[][..] } else { &watched[..] };
        let mut members = contacts.members_of(wanted, members_max.saturating_add(1)).await?;
        let most = usize::try_from(members_max).unwrap_or(usize::MAX);
        let too_many = members.len() > most;
        members.truncate(most);
        let myself = users.contains(&caller.user).then_some(caller.user);
        let known: BTreeSet<UserId> = talks_to.into_iter().chain(members).chain(myself).collect();
        let contacts = self.contacts(caller, known.into_iter().collect()).await?;
        Ok(ActivityScope { conversations: heads, contacts, too_many })
    }

    async fn contacts(&self, caller: &Caller, users: Vec<UserId>) -> ServiceResult<Vec<Contact>> {
        let store = &self.services.contacts;
        let (hidden, used) = try_join!(store.hidden(&users), store.last_used(&users))?;
        let (hidden, used): (HashSet<_>, HashMap<_, _>) =
            (hidden.into_iter().collect(), used.into_iter().collect());
        let contact = |user| {
            let shows = user == caller.user || !hidden.contains(&user);
            Contact { user, shows, last_used_at: used.get(&user).copied().filter(|_| shows) }
        };
        Ok(users.into_iter().map(contact).collect())
    }

    pub async fn presence_visibility(&self, caller: &Caller) -> ServiceResult<PresenceVisibility> {
        let hidden = self.services.contacts.hidden(&[caller.user]).await?;
        Ok(if hidden.is_empty() { PresenceVisibility::EveryoneITalkTo } else { PresenceVisibility::Nobody })
    }

    pub async fn keep_presence_visibility(
        &self,
        caller: &Caller,
        visibility: PresenceVisibility,
    ) -> ServiceResult<()> {
        let (contacts, user) = (self.services.contacts.clone(), caller.user);
        let hidden = visibility == PresenceVisibility::Nobody;
        self.to_the_end(async move { Ok(contacts.set_hidden(user, hidden).await?) }).await
    }

    /// These sessions had a subscription until then.
    pub async fn note_seen(&self, sessions: Vec<SessionId>, until: Timestamp) -> ServiceResult<()> {
        let contacts = self.services.contacts.clone();
        self.to_the_end(async move { Ok(contacts.note_used(&sessions, until).await?) }).await
    }
}
