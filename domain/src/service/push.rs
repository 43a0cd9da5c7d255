//! What workers ask about pushes: whom, about what, and that it is done. And the tasks that could not be.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use futures_util::try_join;

use super::Services;
use crate::{
    Content, ConversationId, ConversationKind, DeadTask, Domain, LaneId, Message, MessageId, PushBatch,
    PushRange, PushTarget, PushTask, Pushed, ServiceError, ServiceResult, Timestamp, UserId,
    port::pushes::Candidate,
};

/// Ranges that are answered at once.
const RANGES_AT_ONCE: usize = 256;
/// Devices of a range that are pushed to at once.
const DEVICES_AT_ONCE: usize = 64;
/// Devices of all ranges that are looked at, and in memory, at once.
const DEVICES_MAX: usize = 2048;
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

    /// Who is due a push about its message now, of the first devices in each range: away, not in quiet hours,
    /// has not read it, and has not muted the conversation or is mentioned in what they have not read. One answer for each range; those that there was no room for are answered by where they begin.
    pub async fn due_pushes(&self, ranges: Vec<PushRange>) -> ServiceResult<Vec<PushBatch>> {
        let Services { conversations, pushes, presence, clock, .. } = &*self.services;
        let now = clock.now();
        let first = &ranges[..ranges.len().min(RANGES_AT_ONCE)];
        let places: BTreeSet<_> = first.iter().map(|range| (range.conversation, range.seq)).collect();
        let ids: BTreeSet<_> = first.iter().map(|range| range.conversation).collect();
        let (places, ids): (Vec<_>, Vec<_>) = (places.into_iter().collect(), ids.into_iter().collect());
        let (messages, heads) =
            try_join!(conversations.messages_for_hub(&places), conversations.heads_of(&ids))?;
        let messages: HashMap<_, _> = messages.iter().filter_map(|message| About::of(message, now)).collect();
        let heads: HashMap<_, _> = heads.into_iter().map(|head| (head.id, head)).collect();
        let (mut asked, mut reached, mut room) = (Vec::with_capacity(first.len()), 0, DEVICES_MAX);
        for range in first {
            if room == 0 {
                break;
            }
            reached += 1;
            if messages.contains_key(&(range.conversation, range.seq)) {
                let members = heads.get(&range.conversation).map_or(0, |head| head.member_count);
                room = room.saturating_sub(usize::try_from(members).unwrap_or(0).clamp(1, DEVICES_AT_ONCE));
                asked.push(*range);
            }
        }
        let limit = DEVICES_MAX.min((DEVICES_AT_ONCE + 1) * asked.len());
        let candidates = pushes.candidates(&asked, now, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
        let mut seen = Seen::new(candidates, limit);
        seen.candidates.retain(|one| !one.quiet_hours.as_ref().is_some_and(|hours| hours.holds_at(now)));
        let part = |(number, range): (usize, &PushRange)| {
            if number >= reached {
                return Part { targets: Vec::new(), next: Some(range.after) };
            }
            let about = messages.get(&(range.conversation, range.seq));
            about.map(|about| seen.part_of(range, about.sender)).unwrap_or_default()
        };
        let mut parts: Vec<Part<'_>> = ranges.iter().enumerate().map(part).collect();
        let live = presence.live_sessions(&users_of(&parts)).await;
        for part in &mut parts {
            part.targets.retain(|one| !live.contains(&one.target.session));
        }
        let users = users_of(&parts);
        let with_targets = ranges.iter().zip(&parts).filter(|(_, part)| !part.targets.is_empty());
        let senders = with_targets.filter_map(|(range, _)| messages.get(&(range.conversation, range.seq)));
        let senders: HashSet<UserId> = senders.map(|about| about.sender).collect();
        let senders: Vec<UserId> = senders.into_iter().collect();
        let unread = async { pushes.unread(&users).await.map_err(ServiceError::from) };
        let (unread, names) = try_join!(unread, self.services.copies.users(None, &senders))?;
        let batch = |(range, part): (&PushRange, Part<'_>)| {
            let about = messages.get(&(range.conversation, range.seq)).filter(|_| !part.targets.is_empty());
            let Some(about) = about else { return PushBatch { next: part.next, ..nothing() } };
            let target = |one: &Candidate| PushTarget {
                badge: unread.get(&one.target.user).copied().unwrap_or(0),
                ..one.target.clone()
            };
            let head = heads.get(&range.conversation).filter(|head| head.kind == ConversationKind::Group);
            PushBatch {
                message: about.id,
                sender: names.get(&about.sender).map_or_else(|| "".into(), |user| user.display_name.clone()),
                title: head.and_then(|head| head.title.clone()),
                text: about.text.chars().take(TEXT_CHARS_MAX).collect(),
                targets: part.targets.into_iter().map(target).collect(),
                next: part.next,
            }
        };
        Ok(ranges.iter().zip(parts).map(batch).collect())
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
    pub async fn note_pushed(&self, pushed: Vec<Pushed>) -> ServiceResult<()> {
        let store = self.services.pushes.clone();
        let note = self.services.tasks.spawn(async move { store.note_pushed(&pushed).await });
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

/// What a push is about.
struct About<'a> {
    id: MessageId,
    sender: UserId,
    text: &'a str,
}

impl<'a> About<'a> {
    /// `None` for what nobody is pushed.
    fn of(message: &'a Message, now: Timestamp) -> Option<((ConversationId, i32), Self)> {
        let (Some(sender), Content::Text(text)) = (message.sender, &message.content) else { return None };
        let is_new = message.created_at >= now.minus(PUSH_AGE_MAX);
        is_new.then_some(((message.conversation, message.seq), Self { id: message.id, sender, text }))
    }
}

/// Devices that were looked at, for all ranges together.
struct Seen {
    candidates: Vec<Candidate>,
    /// The last member of whom all devices are there; `None` when that are all members of all ranges.
    upto: Option<(ConversationId, UserId)>,
}

/// What a range has of it.
#[derive(Default)]
struct Part<'a> {
    targets: Vec<&'a Candidate>,
    next: Option<UserId>,
}

impl Seen {
    /// A user's devices stay together, so that the place where to go on is a user's.
    fn new(mut candidates: Vec<Candidate>, limit: usize) -> Self {
        let is_cut = candidates.len() >= limit;
        if is_cut {
            drop_last_user(&mut candidates, Candidate::place);
        }
        let upto = candidates.last().filter(|_| is_cut).map(Candidate::place);
        Self { candidates, upto }
    }

    fn part_of(&self, range: &PushRange, sender: UserId) -> Part<'_> {
        let PushRange { conversation, seq, after, upto } = *range;
        let begin = self.candidates.partition_point(|one| one.place() <= (conversation, after));
        let those = self.candidates[begin..].iter().take_while(|one| one.place() <= (conversation, upto));
        let due = |one: &&Candidate| {
            let known = one.read_seq.max(one.pushed_seq);
            // Who has muted the conversation hears of nothing before somebody mentions them.
            let is_wanted = !one.is_muted || (known + 1..=seq).contains(&one.mentioned_seq);
            one.conversation == conversation && one.target.user != sender && known < seq && is_wanted
        };
        let mut targets: Vec<&Candidate> = those.filter(due).take(DEVICES_AT_ONCE + 1).collect();
        if targets.len() > DEVICES_AT_ONCE {
            drop_last_user(&mut targets, |one| one.place());
            let next = targets.last().map(|one| one.target.user);
            return Part { targets, next };
        }
        let next = match self.upto {
            Some((within, last)) if (within, last) < (conversation, upto) => {
                Some(if within == conversation { last.max(after) } else { after })
            }
            _ => None,
        };
        Part { targets, next }
    }
}

/// Takes the last user's devices away, of whom there may be more; unless there is nobody else.
fn drop_last_user<T, P: PartialEq>(devices: &mut Vec<T>, place: impl Fn(&T) -> P) {
    let (Some(first), Some(last)) = (devices.first().map(&place), devices.last().map(&place)) else { return };
    if first != last {
        devices.retain(|one| place(one) != last);
    }
}

fn users_of(parts: &[Part<'_>]) -> Vec<UserId> {
    let targets = parts.iter().flat_map(|part| &part.targets);
    let users: HashSet<UserId> = targets.map(|one| one.target.user).collect();
    users.into_iter().collect()
}

fn nothing() -> PushBatch {
    let (message, sender, title) = (MessageId(0), "".into(), None);
    PushBatch { message, sender, title, text: String::new(), targets: Vec::new(), next: None }
}
