//! A group under the lock of its lane: what the rules need to see, what a change does to it, and how it is written.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Content, Conversation, ConversationId, ConversationKind, ConversationView, Domain, Event, Fact, Member,
    MemberId, MemberRole, Mentions, Message, MessageId, ServiceError, ServiceResult, Timestamp, UserId,
    commit::{ChangeError, Changed},
    model::message::{SystemAction, SystemContent, content_hash},
    port::LaneTransaction,
};

/// People named in full in a system message; the rest are counted.
const NAMED_MAX: usize = 3;

pub(super) struct Group {
    pub head: Conversation,
    pub members: HashMap<UserId, Member>,
    caller: UserId,
    now: Timestamp,
    pos: i64,
    changed: Vec<UserId>,
    message: Option<Arc<Message>>,
    events: Vec<Event>,
}

impl Group {
    /// Locks a conversation in which the caller is a member, and reads the memberships of `others`, ended ones included.
    pub async fn lock(
        tx: &mut dyn LaneTransaction,
        caller: UserId,
        id: ConversationId,
        others: &[UserId],
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        let group = Self::lock_as_stranger(tx, caller, id, others, now).await?;
        match group {
            Some(group) if group.members.get(&caller).is_some_and(Member::is_active) => Ok(group),
            _ => Err(no_such_conversation().into()),
        }
    }

    /// As [`Group::lock`], for callers that may have left; `None` when there is no such conversation.
    pub async fn lock_as_stranger(
        tx: &mut dyn LaneTransaction,
        caller: UserId,
        id: ConversationId,
        others: &[UserId],
        now: Timestamp,
    ) -> Result<Option<Self>, ChangeError> {
        let Some(head) = tx.lock_conversations(&[id]).await?.pop() else { return Ok(None) };
        let mut users: Vec<UserId> = others.iter().copied().chain([caller]).collect();
        users.sort_unstable();
        users.dedup();
        let ids: Vec<MemberId> = users.into_iter().map(|user| MemberId { conversation: id, user }).collect();
        let members = tx.members(&ids).await?.into_iter().map(|member| (member.user, member)).collect();
        let pos = tx.pos_of(id);
        Ok(Some(Self {
            head,
            members,
            caller,
            now,
            pos,
            changed: Vec::new(),
            message: None,
            events: Vec::new(),
        }))
    }

    pub fn role_of(&self, user: UserId) -> Option<MemberRole> {
        self.members.get(&user).filter(|member| member.is_active()).map(|member| member.role)
    }

    /// The caller's role, at least `wanted`; direct conversations have neither admins nor owners.
    pub fn require(&self, wanted: MemberRole, refusal: &'static str) -> ServiceResult<MemberRole> {
        let role = self
            .role_of(self.caller)
            .filter(|role| *role >= wanted && self.head.kind == ConversationKind::Group);
        role.ok_or_else(|| ServiceError::forbidden(refusal))
    }

    pub fn join(&mut self, user: UserId) -> ServiceResult<()> {
        let rev = self.next_rev()?;
        self.head.member_count += 1;
        let member = Member {
            conversation: self.head.id,
            user,
            role: MemberRole::Member,
            read_seq: self.head.last_seq,
            read_countable: self.head.countable,
            joined_at: self.now,
            joined_rev: rev,
            joined_pos: self.pos,
            removed_rev: None,
            removed_pos: 0,
            role_rev: rev,
            role_pos: self.pos,
            read_rev: rev,
            read_pos: self.pos,
        };
        self.put(member, Fact::MemberJoined { conversation: self.head.id, rev, user });
        Ok(())
    }

    pub fn remove(&mut self, user: UserId) -> ServiceResult<()> {
        let rev = self.next_rev()?;
        self.head.member_count -= 1;
        if let Some(mut member) = self.members.get(&user).cloned() {
            member.removed_rev = Some(rev);
            member.removed_pos = self.pos;
            self.put(member, Fact::MemberLeft { conversation: self.head.id, rev, user });
        }
        Ok(())
    }

    pub fn set_role(&mut self, user: UserId, role: MemberRole) -> ServiceResult<()> {
        let rev = self.next_rev()?;
        if let Some(mut member) = self.members.get(&user).cloned() {
            (member.role, member.role_rev, member.role_pos) = (role, rev, self.pos);
            self.put(member, Fact::RoleChanged { conversation: self.head.id, rev, user, role });
        }
        Ok(())
    }

    pub fn retitle(&mut self, title: &str) -> ServiceResult<()> {
        let rev = self.next_rev()?;
        self.head.title = Some(title.into());
        (self.head.title_rev, self.head.title_pos) = (rev, self.pos);
        self.tell(Fact::TitleChanged { conversation: self.head.id, rev }, None, None);
        Ok(())
    }

    /// Writes a system message into the history; the last thing a change does.
    pub fn say(
        &mut self,
        id: i64,
        action: SystemAction,
        subjects: &[UserId],
        text: String,
    ) -> ServiceResult<()> {
        self.head.advance_seq()?;
        (self.head.pos, self.head.active_at) = (self.pos, self.now);
        let content = SystemContent {
            text,
            action,
            actor: self.caller.0,
            subjects: subjects.iter().map(|user| user.0).collect(),
        };
        let message = Arc::new(Message {
            id: MessageId(id),
            conversation: self.head.id,
            seq: self.head.last_seq,
            rev: self.head.rev,
            created_rev: self.head.rev,
            pos: self.pos,
            sender: None,
            client_key: None,
            content_hash: content_hash("system", content.text.as_bytes()),
            content: Content::System(content),
            mentions: Mentions::default(),
            created_at: self.now,
            countable: self.head.countable,
        });
        let fact =
            Fact::MessageSent { conversation: self.head.id, rev: self.head.rev, seq: self.head.last_seq };
        self.tell(fact, Some(message.clone()), None);
        self.message = Some(message);
        Ok(())
    }

    pub async fn write(&self, tx: &mut dyn LaneTransaction) -> Result<(), ChangeError> {
        let members: Vec<Member> =
            self.changed.iter().filter_map(|user| self.members.get(user).cloned()).collect();
        tx.put_members(&members).await?;
        tx.write_messages(self.message.as_slice(), std::slice::from_ref(&self.head)).await?;
        Ok(())
    }

    /// How the caller sees the group now; nothing once they have left.
    pub fn view(&self) -> Option<ConversationView> {
        let viewer = self.members.get(&self.caller).filter(|member| member.is_active())?.clone();
        Some(ConversationView { conversation: Arc::new(self.head.clone()), viewer })
    }

    pub fn done(self) -> Result<Changed<ConversationView>, ChangeError> {
        let view = self.view().ok_or_else(no_such_conversation)?;
        Ok(Changed::new(self.events, view))
    }

    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    fn next_rev(&mut self) -> ServiceResult<i32> {
        self.head.pos = self.pos;
        self.head.advance_rev()
    }

    fn put(&mut self, member: Member, fact: Fact) {
        self.tell(fact, None, Some(Arc::new(member.clone())));
        self.changed.push(member.user);
        self.members.insert(member.user, member);
    }

    fn tell(&mut self, fact: Fact, message: Option<Arc<Message>>, member: Option<Arc<Member>>) {
        let conversation = Some(Arc::new(self.head.clone()));
        self.events.push(Event { fact, conversation, message, member, trace: None });
    }
}

pub(crate) fn no_such_conversation() -> ServiceError {
    ServiceError::not_found("conversation").at(&["conversationId"])
}

/// Names for the plain English of system messages.
pub(super) struct Names(HashMap<UserId, Arc<str>>);

impl Names {
    pub fn of(&self, user: UserId) -> &str {
        self.0.get(&user).map_or("Somebody", AsRef::as_ref)
    }

    /// "A", "A and B", "A, B, C and 4 others".
    pub fn list(&self, users: &[UserId]) -> String {
        let named: Vec<&str> = users.iter().take(NAMED_MAX).map(|user| self.of(*user)).collect();
        let rest = users.len().saturating_sub(NAMED_MAX);
        match (named.as_slice(), rest) {
            ([one], 0) => (*one).to_owned(),
            ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
            (named, 1) => format!("{} and 1 other", named.join(", ")),
            (named, rest) => format!("{} and {rest} others", named.join(", ")),
        }
    }
}

impl Domain {
    pub(super) async fn names(&self, users: impl IntoIterator<Item = UserId>) -> ServiceResult<Names> {
        let ids: Vec<UserId> = users.into_iter().collect();
        let users = self.services.conversations.users(&ids).await?;
        Ok(Names(users.into_iter().map(|user| (user.id, user.display_name)).collect()))
    }

    /// A bounded list of ids without repeats, in ascending order.
    pub(super) fn distinct(
        &self,
        field: &'static [&'static str],
        ids: &[UserId],
    ) -> ServiceResult<Vec<UserId>> {
        let max = self.services.limits.ids_max;
        if ids.len() > max {
            return Err(ServiceError::invalid(field, format!("at most {max} ids in one call")));
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}
