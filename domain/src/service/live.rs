//! What the hub of an API node needs: the log and what a subscription missed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::try_join;

use crate::{
    Caller, Conversation, ConversationId, Domain, Event, Fact, LaneId, LaneLayout, LoggedBatch, LoggedFact,
    Member, MemberId, Message, Positions, ServiceResult,
    port::{
        conversations::{Missed, MissedBounds},
        log::Heads,
    },
};

impl Domain {
    pub(crate) fn layout(&self) -> LaneLayout {
        self.services.log.layout()
    }

    pub async fn heads(&self) -> ServiceResult<Heads> {
        Ok(self.services.log.heads().await?)
    }

    /// Voids every cursor of this epoch: the database lost a tail or was restored.
    pub async fn raise_epoch(&self, epoch: i64) -> ServiceResult<()> {
        Ok(self.services.log.raise_epoch(epoch, self.services.clock.now()).await?)
    }

    /// What a lane's log says after a position, with the data of its facts as it is now.
    pub async fn read_log(&self, lane: LaneId, after: i64, limit: u32) -> ServiceResult<Vec<LoggedBatch>> {
        let entries = self.services.log.read(lane, after, limit).await?;
        let known =
            self.data_of(entries.iter().flat_map(|entry| &entry.facts).map(|entry| &entry.fact)).await?;
        let batches = entries.into_iter().map(|entry| LoggedBatch {
            lane: entry.lane,
            pos: entry.pos,
            events: entry.facts.into_iter().map(|fact| Arc::new(known.event(fact))).collect(),
        });
        Ok(batches.collect())
    }

    async fn data_of<'a>(&self, facts: impl Iterator<Item = &'a Fact>) -> ServiceResult<Known> {
        let mut conversations = BTreeSet::new();
        let mut messages = BTreeSet::new();
        let mut members = BTreeSet::new();
        for fact in facts {
            let Some(conversation) = fact.conversation() else { continue };
            conversations.insert(conversation);
            match fact {
                Fact::MessageSent { seq, .. } => drop(messages.insert((conversation, *seq))),
                Fact::MemberJoined { user, .. } | Fact::RoleChanged { user, .. } => {
                    members.insert(MemberId { conversation, user: *user });
                }
                _ => {}
            }
        }
        let store = &self.services.conversations;
        let conversations: Vec<_> = conversations.into_iter().collect();
        let messages: Vec<_> = messages.into_iter().collect();
        let members: Vec<_> = members.into_iter().collect();
        let (conversations, messages, members) = try_join!(
            store.heads_of(&conversations),
            store.messages_for_hub(&messages),
            store.members_for_hub(&members),
        )?;
        Ok(Known {
            conversations: conversations.into_iter().map(|head| (head.id, Arc::new(head))).collect(),
            messages: messages.into_iter().map(|one| ((one.conversation, one.seq), Arc::new(one))).collect(),
            members: members.into_iter().map(|member| (member.id(), Arc::new(member))).collect(),
        })
    }

    /// What changed for the caller after these positions, from one snapshot; without `since` only heads and memberships.
    pub async fn missed(
        &self,
        caller: &Caller,
        since: Option<&Positions>,
        only: Option<&[ConversationId]>,
    ) -> ServiceResult<Missed> {
        // A task of its own: a snapshot is a transaction, and no caller may cancel it half way (trap 1).
        let (store, limits) = (self.services.conversations.clone(), &self.services.limits);
        let bounds = MissedBounds {
            events_max: limits.replay_events_max,
            receipts_members_max: limits.receipts_members_max,
        };
        let (user, since, only) = (caller.user, since.cloned(), only.map(<[_]>::to_vec));
        let read = async move { store.missed(user, since.as_ref(), only.as_deref(), bounds).await };
        Ok(self.services.tasks.spawn(read).await.map_err(crate::ServiceError::internal)??)
    }
}

/// Data of facts, by what they name.
struct Known {
    conversations: HashMap<ConversationId, Arc<Conversation>>,
    messages: HashMap<(ConversationId, i32), Arc<Message>>,
    members: HashMap<MemberId, Arc<Member>>,
}

impl Known {
    fn event(&self, logged: LoggedFact) -> Event {
        let LoggedFact { fact, trace } = logged;
        let conversation = fact.conversation().and_then(|id| self.conversations.get(&id).cloned());
        let message = match fact {
            Fact::MessageSent { conversation, seq, .. } => self.messages.get(&(conversation, seq)).cloned(),
            _ => None,
        };
        let member = match fact {
            Fact::MemberJoined { conversation, user, .. } | Fact::RoleChanged { conversation, user, .. } => {
                self.members.get(&MemberId { conversation, user }).cloned()
            }
            _ => None,
        };
        Event { fact, conversation, message, member, trace }
    }
}
