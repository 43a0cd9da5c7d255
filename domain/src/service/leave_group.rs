//! The caller leaves a group.

use async_trait::async_trait;

use super::group::{Group, Names, no_such_conversation};
use crate::{
    Caller, ConversationId, Domain, ErrorCode, MemberRole, ServiceError, ServiceResult, Timestamp,
    commit::{Change, ChangeError, Changed},
    model::message::SystemAction,
    port::LaneTransaction,
};

impl Domain {
    /// The last owner hands over first, unless nobody else is left. Leaving again changes nothing and succeeds.
    pub async fn leave_group(&self, caller: &Caller, conversation: ConversationId) -> ServiceResult<()> {
        let lane = self.layout().of_conversation(conversation);
        let message_id = self.services.ids.one().await?;
        let names = self.names([caller.user]).await?;
        self.change(lane, Leave { caller: *caller, conversation, message_id, names }).await
    }
}

struct Leave {
    caller: Caller,
    conversation: ConversationId,
    message_id: i64,
    names: Names,
}

#[async_trait]
impl Change for Leave {
    type Output = ();

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<()>, ChangeError> {
        let me = self.caller.user;
        let group = Group::lock_as_stranger(tx, me, self.conversation, &[], now).await?;
        let mut group =
            group.filter(|group| group.members.contains_key(&me)).ok_or_else(no_such_conversation)?;
        let Some(role) = group.role_of(me) else { return Ok(Changed::nothing(())) };
        group.require(MemberRole::Member, "a direct conversation cannot be left")?;
        let last_owner = role == MemberRole::Owner && tx.owners(self.conversation, 2).await?.len() < 2;
        if last_owner && group.head.member_count > 1 {
            return Err(
                ServiceError::new(ErrorCode::LastOwner, "make another member owner before leaving").into()
            );
        }
        group.remove(me)?;
        let text = format!("{} left", self.names.of(me));
        group.say(self.message_id, SystemAction::MemberLeft, &[me], text)?;
        group.write(tx).await?;
        Ok(Changed::new(group.into_events(), ()))
    }
}
