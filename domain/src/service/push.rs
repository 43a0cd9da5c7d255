//! What workers ask about pushes: whom, about what, and that it is done. And the tasks that could not be.

use std::collections::HashSet;

use crate::{
    Content, ConversationId, ConversationKind, DeadTask, Domain, MessageId, PushBatch, PushRange, Pushed,
    ServiceError, ServiceResult, UserId,
};

/// Code points of a message that a push shows: what fits a provider's 4 KiB in any script.
const TEXT_CHARS_MAX: usize = 200;
/// What a record of the dead may say.
const REASON_CHARS_MAX: usize = 500;

impl Domain {
    /// The last user of each run of so many active members after a user, at most `runs` of them.
    pub async fn member_runs(
        &self,
        conversation: ConversationId,
        after: UserId,
        size: u32,
        runs: u32,
    ) -> ServiceResult<Vec<UserId>> {
        Ok(self.services.devices.member_runs(conversation, after, size.max(1), runs).await?)
    }

    /// Who in the range is due a push about the message now: away, neither muted nor in quiet hours, and has not read it.
    pub async fn due_pushes(&self, range: PushRange) -> ServiceResult<PushBatch> {
        let PushRange { conversation, seq, .. } = range;
        let mut batch = PushBatch {
            message: MessageId(0),
            sender: "".into(),
            title: None,
            text: String::new(),
            targets: Vec::new(),
        };
        let store = &self.services.conversations;
        let Some(message) = store.messages_for_hub(&[(conversation, seq)]).await?.pop() else {
            return Ok(batch);
        };
        let (Some(sender), Content::Text(text)) = (message.sender, &message.content) else {
            return Ok(batch);
        };
        let now = self.services.clock.now();
        let mut candidates = self.services.devices.candidates(&range, sender, now).await?;
        candidates.retain(|one| !one.quiet_hours.as_ref().is_some_and(|hours| hours.holds_at(now)));
        let users: HashSet<UserId> = candidates.iter().map(|one| one.target.user).collect();
        let users: Vec<UserId> = users.into_iter().collect();
        let live = self.services.presence.live_sessions(&users).await;
        candidates.retain(|one| !live.contains(&one.target.session));
        if candidates.is_empty() {
            return Ok(batch);
        }
        let head = store.heads_of(&[conversation]).await?.pop();
        let unread = self.services.devices.unread(&users).await?;
        batch.message = message.id;
        batch.text = text.chars().take(TEXT_CHARS_MAX).collect();
        batch.title = head.filter(|head| head.kind == ConversationKind::Group).and_then(|head| head.title);
        let known = self.services.copies.users(None, &[sender]).await?.remove(&sender);
        batch.sender = known.map_or_else(|| "".into(), |user| user.display_name);
        batch.targets = candidates
            .into_iter()
            .map(|mut one| {
                one.target.badge = unread.get(&one.target.user).copied().unwrap_or(0);
                one.target
            })
            .collect();
        Ok(batch)
    }

    /// Pushes that are done are not due again; devices that are gone are forgotten.
    pub async fn note_pushed(
        &self,
        conversation: ConversationId,
        seq: i32,
        pushed: Pushed,
    ) -> ServiceResult<()> {
        let devices = self.services.devices.clone();
        let note =
            self.services.tasks.spawn(async move { devices.note_pushed(conversation, seq, &pushed).await });
        Ok(note.await.map_err(ServiceError::internal)??)
    }

    /// Keeps a task that could not be done, for people to look at.
    pub async fn bury_task(&self, topic: &str, record: Vec<u8>, reason: &str) -> ServiceResult<()> {
        let task = DeadTask {
            id: self.services.ids.one().await?,
            topic: topic.to_owned(),
            record,
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
            died_at: self.services.clock.now(),
        };
        let devices = self.services.devices.clone();
        let bury = self.services.tasks.spawn(async move { devices.bury(&task).await });
        Ok(bury.await.map_err(ServiceError::internal)??)
    }

    /// Oldest first.
    pub async fn dead_tasks(&self, limit: u32) -> ServiceResult<Vec<DeadTask>> {
        Ok(self.services.devices.dead(limit).await?)
    }

    pub async fn forget_dead_task(&self, id: i64) -> ServiceResult<()> {
        let devices = self.services.devices.clone();
        let forget = self.services.tasks.spawn(async move { devices.forget_dead(id).await });
        Ok(forget.await.map_err(ServiceError::internal)??)
    }
}
