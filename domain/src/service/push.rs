//! What workers ask about pushes: whom, about what, and that it is done. And the tasks that could not be.

use std::{collections::HashSet, time::Duration};

use super::Services;
use crate::{
    Content, ConversationId, ConversationKind, DeadTask, Domain, LaneId, MessageId, PushBatch, PushRange,
    PushTask, Pushed, ServiceError, ServiceResult, UserId, port::pushes::Candidate,
};

/// Devices that are looked at, and pushed to, at once.
const DEVICES_AT_ONCE: u32 = 64;
/// Nobody wants to be woken by what is older; providers are told to keep pushes no longer either.
const PUSH_AGE_MAX: Duration = Duration::from_hours(24);
/// Parked pushes that set out again together.
const PARKED_AT_ONCE: u32 = 100;
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
        Ok(self.services.pushes.member_runs(conversation, after, size.max(1), runs).await?)
    }

    /// Who is due a push about the message now, of the first devices in the range: away, neither muted nor in quiet hours, and has
    /// not read it.
    pub async fn due_pushes(&self, range: PushRange) -> ServiceResult<PushBatch> {
        let PushRange { conversation, seq, .. } = range;
        let Services { conversations, pushes, presence, clock, .. } = &*self.services;
        let nothing = PushBatch {
            message: MessageId(0),
            sender: "".into(),
            title: None,
            text: String::new(),
            targets: Vec::new(),
            next: None,
        };
        let now = clock.now();
        let Some(message) = conversations.messages_for_hub(&[(conversation, seq)]).await?.pop() else {
            return Ok(nothing);
        };
        let (Some(sender), Content::Text(text)) = (message.sender, &message.content) else {
            return Ok(nothing);
        };
        if message.created_at < now.minus(PUSH_AGE_MAX) {
            return Ok(nothing);
        }
        let mut candidates = pushes.candidates(&range, sender, now, DEVICES_AT_ONCE + 1).await?;
        let next = next_of(&mut candidates);
        candidates.retain(|one| !one.quiet_hours.as_ref().is_some_and(|hours| hours.holds_at(now)));
        let live = presence.live_sessions(&users_of(&candidates)).await;
        candidates.retain(|one| !live.contains(&one.target.session));
        if candidates.is_empty() {
            return Ok(PushBatch { next, ..nothing });
        }
        let head = conversations.heads_of(&[conversation]).await?.pop();
        let unread = pushes.unread(&users_of(&candidates)).await?;
        let target = |mut one: Candidate| {
            one.target.badge = unread.get(&one.target.user).copied().unwrap_or(0);
            one.target
        };
        Ok(PushBatch {
            message: message.id,
            text: text.chars().take(TEXT_CHARS_MAX).collect(),
            title: head.filter(|head| head.kind == ConversationKind::Group).and_then(|head| head.title),
            sender: self
                .services
                .copies
                .users(None, &[sender])
                .await?
                .remove(&sender)
                .map_or_else(|| "".into(), |user| user.display_name),
            targets: candidates.into_iter().map(target).collect(),
            next,
        })
    }

    /// Pushes wait for so many milliseconds, because their provider is away.
    pub async fn park_push(&self, task: PushTask, wait_ms: u64) -> ServiceResult<()> {
        let due_at = self.services.clock.now() + Duration::from_millis(wait_ms);
        let pushes = self.services.pushes.clone();
        let lane = self.layout().of_conversation(task.range.conversation);
        let park = self.services.tasks.spawn(async move { pushes.park(&task, lane, due_at).await });
        Ok(park.await.map_err(ServiceError::internal)??)
    }

    /// Pushes of a lane that have waited long enough.
    pub async fn parked_pushes(&self, lane: LaneId) -> ServiceResult<Vec<PushTask>> {
        Ok(self.services.pushes.parked(lane, self.services.clock.now(), PARKED_AT_ONCE).await?)
    }

    /// They are on their way again.
    pub async fn unpark_push(&self, task: PushTask) -> ServiceResult<()> {
        let pushes = self.services.pushes.clone();
        let unpark = self.services.tasks.spawn(async move { pushes.unpark(&task).await });
        Ok(unpark.await.map_err(ServiceError::internal)??)
    }

    /// Pushes that are done are not due again; devices that are gone are forgotten.
    pub async fn note_pushed(
        &self,
        conversation: ConversationId,
        seq: i32,
        pushed: Pushed,
    ) -> ServiceResult<()> {
        let store = self.services.pushes.clone();
        let note =
            self.services.tasks.spawn(async move { store.note_pushed(conversation, seq, &pushed).await });
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
        let pushes = self.services.pushes.clone();
        let bury = self.services.tasks.spawn(async move { pushes.bury(&task).await });
        Ok(bury.await.map_err(ServiceError::internal)??)
    }

    /// Oldest first.
    pub async fn dead_tasks(&self, limit: u32) -> ServiceResult<Vec<DeadTask>> {
        Ok(self.services.pushes.dead(limit).await?)
    }

    pub async fn forget_dead_task(&self, id: i64) -> ServiceResult<()> {
        let pushes = self.services.pushes.clone();
        let forget = self.services.tasks.spawn(async move { pushes.forget_dead(id).await });
        Ok(forget.await.map_err(ServiceError::internal)??)
    }
}

fn users_of(candidates: &[Candidate]) -> Vec<UserId> {
    let users: HashSet<UserId> = candidates.iter().map(|one| one.target.user).collect();
    users.into_iter().collect()
}

/// Where to go on, when there were more than are taken at once. A user's devices stay together, so that the place is a user's.
fn next_of(candidates: &mut Vec<Candidate>) -> Option<UserId> {
    if candidates.len() <= DEVICES_AT_ONCE as usize {
        return None;
    }
    let last = candidates.last()?.target.user;
    if candidates.first()?.target.user != last {
        candidates.retain(|one| one.target.user != last);
    }
    candidates.last().map(|one| one.target.user)
}
