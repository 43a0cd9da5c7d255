//! A member's role.

use async_trait::async_trait;

use super::group::{Group, Names};
use crate::{
    Caller, ConversationId, Domain, ErrorCode, Member, MemberRole, ServiceError, ServiceResult, Timestamp,
    UserId,
    commit::{Change, ChangeError, Changed},
    model::message::SystemAction,
    port::LaneTransaction,
};

#[derive(Clone, Debug)]
pub struct SetMemberRole {
    pub conversation: ConversationId,
    pub user: UserId,
    pub role: MemberRole,
}

impl Domain {
    /// For owners. A group keeps at least one owner.
    pub async fn set_member_role(&self, caller: &Caller, command: SetMemberRole) -> ServiceResult<Member> {
        let lane = self.layout().of_conversation(command.conversation);
        let message_id = self.services.ids.one().await?;
        let names = self.names([caller.user, command.user]).await?;
        self.change(lane, SetRole { caller: *caller, command, message_id, names }).await
    }
}

struct SetRole {
    caller: Caller,
    command: SetMemberRole,
    message_id: i64,
    names: Names,
}

#[async_trait]
impl Change for SetRole {
    type Output = Member;

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<Member>, ChangeError> {
        let SetMemberRole { conversation, user, role } = self.command;
        let mut group = Group::lock(tx, self.caller.user, conversation, &[user], now).await?;
        group.require(MemberRole::Owner, "only owners change roles")?;
        let not_a_member =
            || ServiceError::new(ErrorCode::NotAMember, "this user is not a member").at(&["userId"]);
        let before = group.role_of(user).ok_or_else(not_a_member)?;
        if before != role {
            if before == MemberRole::Owner && tx.owners(conversation, 2).await?.len() < 2 {
                return Err(
                    ServiceError::new(ErrorCode::LastOwner, "a group keeps at least one owner").into()
                );
            }
            group.set_role(user, role)?;
            let word = match role {
                MemberRole::Owner => "owner",
                MemberRole::Admin => "admin",
                MemberRole::Member => "member",
            };
            let text = format!("{} made {} {word}", self.names.of(self.caller.user), self.names.of(user));
            group.say(self.message_id, SystemAction::RoleChanged, &[user], text)?;
            group.write(tx).await?;
        }
        let member = group.members.get(&user).cloned().ok_or_else(not_a_member)?;
        Ok(Changed::new(group.into_events(), member))
    }
}
