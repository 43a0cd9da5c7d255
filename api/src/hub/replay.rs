//! What was missed, as events: of the rows that a snapshot found, in the order of `rev`.

use std::sync::Arc;

use domain::{Event, Fact, port::conversations::MissedInConversation};

use crate::schema::types::event::AsSeen;

/// A change as a replay tells it.
pub(super) struct MissedEvent {
    pub event: Event,
    pub pos: i64,
    pub as_seen: AsSeen,
}

impl MissedEvent {
    fn new(one: &MissedInConversation, fact: Fact, pos: i64, as_seen: AsSeen) -> Self {
        let conversation = Some(one.conversation.clone());
        let event = Event { fact, conversation, message: None, member: None, trace: None };
        Self { event, pos, as_seen }
    }
}

/// What a viewer missed of one conversation after a position of its lane, in the order of `rev`.
pub(super) fn events_of(
    one: &MissedInConversation,
    since: i64,
    receipts_members_max: i32,
) -> Vec<MissedEvent> {
    let viewer = &one.viewer;
    let told = |fact, pos, as_seen| MissedEvent::new(one, fact, pos, as_seen);
    let id = one.conversation.id;
    if let Some(rev) = viewer.removed_rev {
        let fact = Fact::MemberLeft { conversation: id, rev, user: viewer.user };
        return vec![told(fact, viewer.removed_pos, AsSeen::MemberRemovedSelf)];
    }
    let mut events = Vec::new();
    let mut after_rev = 0;
    if viewer.joined_pos > since {
        after_rev = viewer.joined_rev;
        let fact = Fact::MemberJoined { conversation: id, rev: viewer.joined_rev, user: viewer.user };
        events.push(told(fact, viewer.joined_pos, AsSeen::ConversationAdded));
    }
    for message in one.messages.iter().filter(|message| message.created_rev > after_rev) {
        let fact = Fact::MessageSent { conversation: id, rev: message.created_rev, seq: message.seq };
        let mut event = told(fact, message.pos, AsSeen::MessageSent);
        event.event.message = Some(message.clone());
        events.push(event);
    }
    let receipts = one.conversation.member_count <= receipts_members_max;
    for member in one.members.iter().chain([viewer]) {
        let own = member.user == viewer.user;
        let user = member.user;
        let mut member_event = |fact, pos, as_seen| {
            let mut event = told(fact, pos, as_seen);
            event.event.member = Some(Arc::new(member.clone()));
            events.push(event);
        };
        if let Some(rev) = member.removed_rev {
            if member.removed_pos > since && rev > after_rev {
                member_event(
                    Fact::MemberLeft { conversation: id, rev, user },
                    member.removed_pos,
                    AsSeen::MemberRemoved,
                );
            }
            continue;
        }
        if member.joined_pos > since && member.joined_rev > after_rev && !own {
            let fact = Fact::MemberJoined { conversation: id, rev: member.joined_rev, user };
            member_event(fact, member.joined_pos, AsSeen::MemberAdded);
        }
        if member.role_pos > since && member.role_rev > after_rev && member.role_rev != member.joined_rev {
            let fact = Fact::RoleChanged { conversation: id, rev: member.role_rev, user, role: member.role };
            member_event(fact, member.role_pos, AsSeen::MemberChanged);
        }
        let read =
            member.read_pos > since && member.read_rev > after_rev && member.read_rev != member.joined_rev;
        if read && (own || receipts) {
            let fact =
                Fact::ReadMarked { conversation: id, rev: member.read_rev, user, read_seq: member.read_seq };
            member_event(fact, member.read_pos, AsSeen::ReadMarked);
        }
    }
    let head = &one.conversation;
    if head.title_pos > since && head.title_rev > after_rev.max(1) {
        let fact = Fact::TitleChanged { conversation: id, rev: head.title_rev };
        events.push(told(fact, head.title_pos, AsSeen::ConversationChanged));
    }
    events.sort_by_key(|event| event.event.fact.rev());
    events
}
