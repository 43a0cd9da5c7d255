//! A group's title.

use async_trait::async_trait;

use super::group::{Group, Names};
use crate::{
    Caller, ConversationId, ConversationView, Domain, MemberRole, ServiceResult, Timestamp, Title,
    commit::{Change, ChangeError, Changed},
    model::message::SystemAction,
    port::LaneTransaction,
};

#[derive(Clone, Debug)]
pub struct UpdateGroup {
    pub conversation: ConversationId,
    /// `None` leaves the title as it is.
    pub title: Option<Title>,
}

impl Domain {
    /// For admins and owners.
    pub async fn update_group(
        &self,
        caller: &Caller,
        command: UpdateGroup,
    ) -> ServiceResult<ConversationView> {
        let lane = self.layout().of_conversation(command.conversation);
        let message_id = self.services.ids.one().await?;
        let names = self.names([caller.user]).await?;
        self.change(lane, Update { caller: *caller, command, message_id, names }).await
    }
}

struct Update {
    caller: Caller,
    command: UpdateGroup,
    message_id: i64,
    names: Names,
}

#[async_trait]
impl Change for Update {
    type Output = ConversationView;

    async fn apply(
        &mut self,
        tx: &mut dyn LaneTransaction,
        now: Timestamp,
    ) -> Result<Changed<ConversationView>, ChangeError> {
        let mut group = Group::lock(tx, self.caller.user, self.command.conversation, &[], now).await?;
        group.require(MemberRole::Admin, "only admins and owners change the title")?;
        let title = self.command.title.as_ref().map(Title::as_str);
        let Some(title) = title.filter(|title| group.head.title.as_deref() != Some(title)) else {
            return group.done();
        };
        group.retitle(title)?;
        let text = format!("{} changed the title to {title}", self.names.of(self.caller.user));
        group.say(self.message_id, SystemAction::TitleChanged, &[], text)?;
        group.write(tx).await?;
        group.done()
    }
}
