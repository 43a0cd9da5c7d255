//! The one conversation of two people, from either side and however often.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Caller, Conversation, ConversationId, ConversationKind, ConversationView, Domain, Event, Fact, Member,
    MemberId, MemberRole, RecentSenders, ServiceError, ServiceResult, Timestamp, UserId,
    commit::{Change, ChangeError, Changed},
    port::{LaneTransaction, log::NewConversation},
};

impl Domain {
    pub async fn open_direct_conversation(
        &self,
        caller: &Caller,
        other: UserId,
    ) -> ServiceResult<ConversationView> {
        let id = ConversationId::direct(caller.user, other).ok_or_else(|| {
            ServiceError::invalid(&["userId"], "a direct conversation is with somebody else")
        })?;
        if let Some(view) = self.conversations(caller, &[id]).await?.remove(&id) {
            return Ok(view);
        }
        let lane = self.layout().of_conversation(id);
        self.change(lane, OpenDirect { id, caller: caller.user, other }).await
    }
}

struct OpenDirect {
    id: ConversationId,
    caller: UserId,
    other: UserId,
}

#[async_trait]
impl Change for OpenDirect {
    type Output = ConversationView;

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<ConversationView>, ChangeError> {
        if let Some(head) = tx.lock_conversations(&[self.id]).await?.pop() {
            let me = MemberId { conversation: self.id, user: self.caller };
            let viewer = tx.members(&[me]).await?.pop();
            let viewer = viewer.ok_or_else(|| ServiceError::not_found("conversation"))?;
            return Ok(Changed::nothing(ConversationView { conversation: Arc::new(head), viewer }));
        }
        if tx.existing_users(&[self.other]).await?.is_empty() {
            return Err(ServiceError::not_found("user").at(&["userId"]).into());
        }
        let conversation = first_head(self.id, ConversationKind::Direct, None, 2, now, tx.pos_of(self.id));
        let member = |user| first_member(&conversation, user, MemberRole::Member, now);
        let members = [member(self.caller), member(self.other)];
        let new = NewConversation {
            conversation: conversation.clone(),
            creator: self.caller,
            client_key: None,
            request_hash: [0; 16],
        };
        tx.insert_conversation(&new).await?;
        tx.put_members(&members).await?;
        let [viewer, other] = members;
        let head = Arc::new(conversation);
        let event = created(&head, vec![viewer.user, other.user]);
        Ok(Changed::new(vec![event], ConversationView { conversation: head, viewer }))
    }
}

/// A conversation as it begins: nothing said, one change.
pub(super) fn first_head(
    id: ConversationId,
    kind: ConversationKind,
    title: Option<&str>,
    member_count: i32,
    now: Timestamp,
    pos: i64,
) -> Conversation {
    Conversation {
        id,
        kind,
        title: title.map(Arc::from),
        created_at: now,
        last_seq: 0,
        rev: 1,
        countable: 0,
        member_count,
        active_at: now,
        pos,
        title_pos: pos,
        title_rev: 1,
        senders: RecentSenders::default(),
    }
}

/// A membership from the beginning.
pub(super) fn first_member(head: &Conversation, user: UserId, role: MemberRole, now: Timestamp) -> Member {
    Member {
        conversation: head.id,
        user,
        role,
        read_seq: 0,
        read_countable: 0,
        joined_at: now,
        joined_rev: 1,
        joined_pos: head.pos,
        removed_rev: None,
        removed_pos: 0,
        role_rev: 1,
        role_pos: head.pos,
        read_rev: 1,
        read_pos: head.pos,
    }
}

pub(super) fn created(head: &Arc<Conversation>, members: Vec<UserId>) -> Event {
    Event {
        fact: Fact::ConversationCreated { conversation: head.id, rev: 1, members },
        conversation: Some(head.clone()),
        message: None,
        member: None,
        trace: None,
    }
}
