//! A member is removed from a group.

use async_trait::async_trait;

use super::group::{Group, Names};
use crate::{
    Caller, ConversationId, ConversationView, Domain, MemberRole, ServiceError, ServiceResult, Timestamp,
    UserId,
    commit::{Change, ChangeError, Changed},
    model::message::SystemAction,
    port::LaneTransaction,
};

#[derive(Clone, Debug)]
pub struct RemoveMember {
    pub conversation: ConversationId,
    pub user: UserId,
}

impl Domain {
    /// Admins remove members, owners also admins; nobody removes an owner. Removing who is no member changes nothing.
    pub async fn remove_member(
        &self,
        caller: &Caller,
        command: RemoveMember,
    ) -> ServiceResult<ConversationView> {
        if command.user == caller.user {
            let text = "leave a group by `leaveGroup`";
            return Err(ServiceError::invalid(&["userId"], text));
        }
        let lane = self.layout().of_conversation(command.conversation);
        let message_id = self.services.ids.one().await?;
        let names = self.names([caller.user, command.user]).await?;
        self.change(lane, Remove { caller: *caller, command, message_id, names }).await
    }
}

struct Remove {
    caller: Caller,
    command: RemoveMember,
    message_id: i64,
    names: Names,
}

#[async_trait]
impl Change for Remove {
    type Output = ConversationView;

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<ConversationView>, ChangeError> {
        let target = self.command.user;
        let mut group = Group::lock(tx, self.caller.user, self.command.conversation, &[target], now).await?;
        let role = group.require(MemberRole::Admin, "only admins and owners remove members")?;
        let Some(target_role) = group.role_of(target) else {
            if !group.members.contains_key(&target) && tx.existing_users(&[target]).await?.is_empty() {
                return Err(ServiceError::not_found("user").at(&["userId"]).into());
            }
            return group.done();
        };
        if target_role >= role || target_role == MemberRole::Owner {
            return Err(ServiceError::forbidden("only members below one's own role can be removed").into());
        }
        group.remove(target)?;
        let text = format!("{} removed {}", self.names.of(self.caller.user), self.names.of(target));
        group.say(self.message_id, SystemAction::MemberRemoved, &[target], text)?;
        group.write(tx).await?;
        group.done()
    }
}
