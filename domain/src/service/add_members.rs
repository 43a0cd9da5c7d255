//! New members of a group, all or none.

use async_trait::async_trait;

use super::group::{Group, Names};
use crate::{
    Caller, ConversationId, ConversationView, Domain, ErrorCode, MemberRole, ServiceError, ServiceResult,
    Timestamp, UserId,
    commit::{Change, ChangeError, Changed},
    model::message::SystemAction,
    port::LaneTransaction,
};

#[derive(Clone, Debug)]
pub struct AddMembers {
    pub conversation: ConversationId,
    /// Those who are members already are passed over.
    pub users: Vec<UserId>,
}

impl Domain {
    /// For admins and owners. New members see the whole history; nothing before their joining is unread.
    pub async fn add_members(&self, caller: &Caller, command: AddMembers) -> ServiceResult<ConversationView> {
        let users = self.distinct(&["userIds"], &command.users)?;
        let lane = self.layout().of_conversation(command.conversation);
        let message_id = self.services.ids.one().await?;
        let names = self.names(users.iter().copied().chain([caller.user])).await?;
        let members_max = self.services.limits.group_members_max;
        let add = Add {
            caller: *caller,
            conversation: command.conversation,
            users,
            message_id,
            names,
            members_max,
        };
        self.change(lane, add).await
    }
}

struct Add {
    caller: Caller,
    conversation: ConversationId,
    users: Vec<UserId>,
    message_id: i64,
    names: Names,
    members_max: u32,
}

#[async_trait]
impl Change for Add {
    type Output = ConversationView;

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<ConversationView>, ChangeError> {
        let mut group = Group::lock(tx, self.caller.user, self.conversation, &self.users, now).await?;
        group.require(MemberRole::Admin, "only admins and owners add members")?;
        if tx.existing_users(&self.users).await?.len() != self.users.len() {
            return Err(ServiceError::not_found("user").at(&["userIds"]).into());
        }
        let new: Vec<UserId> =
            self.users.iter().copied().filter(|user| group.role_of(*user).is_none()).collect();
        if new.is_empty() {
            return group.done();
        }
        if group.head.member_count.unsigned_abs() as usize + new.len() > self.members_max as usize {
            let text = format!("a group has at most {} members", self.members_max);
            return Err(ServiceError::new(ErrorCode::TooManyMembers, text).at(&["userIds"]).into());
        }
        for user in &new {
            group.join(*user)?;
        }
        let text = format!("{} added {}", self.names.of(self.caller.user), self.names.list(&new));
        group.say(self.message_id, SystemAction::MembersAdded, &new, text)?;
        group.write(tx).await?;
        group.done()
    }
}
