//! A new group; its maker is the owner.

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::open_direct_conversation::{created, first_head, first_member};
use crate::{
    Caller, ClientKey, ConversationId, ConversationKind, ConversationView, Domain, ErrorCode, Member,
    MemberId, MemberRole, ServiceError, ServiceResult, Timestamp, Title, UserId,
    commit::{Change, ChangeError, Changed},
    port::{LaneTransaction, log::NewConversation},
};

#[derive(Clone, Debug)]
pub struct CreateGroup {
    pub title: Title,
    /// The others; the maker need not be named.
    pub members: Vec<UserId>,
    /// Makes a retry answer with the same group.
    pub client_key: Option<ClientKey>,
}

impl Domain {
    pub async fn create_group(
        &self,
        caller: &Caller,
        command: CreateGroup,
    ) -> ServiceResult<ConversationView> {
        let mut members = self.distinct(&["memberIds"], &command.members)?;
        members.retain(|user| *user != caller.user);
        if members.len() >= self.services.limits.group_members_max as usize {
            let text = "the group would have more members than allowed";
            return Err(ServiceError::new(ErrorCode::TooManyMembers, text).at(&["memberIds"]));
        }
        let id = ConversationId::group(self.services.ids.one().await?);
        let request_hash = hash_request(&command.title, &members);
        let change = Create { id, caller: caller.user, command, members, request_hash };
        match self.change(self.layout().of_conversation(id), change).await? {
            Created::Now(view) => Ok(view),
            // Its lane is another one, so it is read after the transaction.
            Created::Before(id) => {
                let view = self.conversations(caller, &[id]).await?.remove(&id);
                view.ok_or_else(|| ServiceError::not_found("conversation"))
            }
        }
    }
}

/// What the key stands for: a retry asks for the same.
fn hash_request(title: &Title, members: &[UserId]) -> [u8; 16] {
    let mut hash = Sha256::new_with_prefix(title.as_str());
    for user in members {
        hash.update(user.0.to_be_bytes());
    }
    let digest = hash.finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

struct Create {
    id: ConversationId,
    caller: UserId,
    command: CreateGroup,
    members: Vec<UserId>,
    request_hash: [u8; 16],
}

enum Created {
    Now(ConversationView),
    Before(ConversationId),
}

#[async_trait]
impl Change for Create {
    type Output = Created;

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<Created>, ChangeError> {
        if let Some(key) = &self.command.client_key
            && let Some((id, request_hash)) = tx.group_by_key(self.caller, key).await?
        {
            if request_hash == self.request_hash {
                return Ok(Changed::nothing(Created::Before(id)));
            }
            let text = "this `clientKey` was used for another group";
            return Err(ServiceError::new(ErrorCode::IdempotencyConflict, text).at(&["clientKey"]).into());
        }
        if tx.existing_users(&self.members).await?.len() != self.members.len() {
            return Err(ServiceError::not_found("user").at(&["memberIds"]).into());
        }
        let count = i32::try_from(self.members.len() + 1).unwrap_or(i32::MAX);
        let title = Some(self.command.title.as_str());
        let conversation =
            first_head(self.id, ConversationKind::Group, title, count, now, tx.pos_of(self.id));
        let owner = first_member(&conversation, self.caller, MemberRole::Owner, now);
        let others =
            self.members.iter().map(|user| first_member(&conversation, *user, MemberRole::Member, now));
        let members: Vec<Member> = std::iter::once(owner.clone()).chain(others).collect();
        let new = NewConversation {
            conversation: conversation.clone(),
            creator: self.caller,
            client_key: self.command.client_key.clone(),
            request_hash: self.request_hash,
        };
        tx.insert_conversation(&new).await?;
        tx.put_members(&members).await?;
        let head = Arc::new(conversation);
        let event = created(&head, members.iter().map(Member::id).map(|id: MemberId| id.user).collect());
        let view = ConversationView { conversation: head, viewer: owner };
        Ok(Changed::new(vec![event], Created::Now(view)))
    }
}
