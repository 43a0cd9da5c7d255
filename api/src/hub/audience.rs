//! Who sees an event as what.

use std::collections::HashMap;

use domain::{Conversation, ConversationId, ConversationKind, Event, Fact, Limits, MemberRole, UserId};

use crate::schema::types::event::AsSeen;

/// The one who made a group is named first and owns it; direct conversations have no owner.
pub(super) fn first_role(head: &Conversation, index: usize) -> MemberRole {
    if index == 0 && head.kind == ConversationKind::Group { MemberRole::Owner } else { MemberRole::Member }
}

/// As what a member sees an event; `None` when it does not concern them.
pub(super) fn shown(
    fact: &Fact,
    head: &Conversation,
    viewer: UserId,
    role: MemberRole,
    limits: &Limits,
) -> Option<AsSeen> {
    // In large groups who comes and goes is told to owners and admins only; the others hear of a change.
    let in_detail = head.member_count <= limits.fanout_inline_members_max || role >= MemberRole::Admin;
    Some(match fact {
        Fact::ConversationCreated { .. } => AsSeen::ConversationAdded,
        Fact::MessageSent { .. } => AsSeen::MessageSent,
        Fact::ReadMarked { user, .. } => {
            return (*user == viewer || head.member_count <= limits.receipts_members_max)
                .then_some(AsSeen::ReadMarked);
        }
        Fact::MemberJoined { user, .. } if *user == viewer => AsSeen::ConversationAdded,
        Fact::MemberJoined { .. } if in_detail => AsSeen::MemberAdded,
        Fact::MemberLeft { user, .. } if *user == viewer => AsSeen::MemberRemovedSelf,
        Fact::MemberLeft { .. } if in_detail => AsSeen::MemberRemoved,
        Fact::RoleChanged { .. } => AsSeen::MemberChanged,
        Fact::MemberJoined { .. } | Fact::MemberLeft { .. } | Fact::TitleChanged { .. } => {
            AsSeen::ConversationChanged
        }
        Fact::SessionEnded { .. } => return None,
    })
}

/// As what one user sees an event; keeps the memberships given as they are after it.
pub(super) fn concerns(
    event: &Event,
    viewer: UserId,
    memberships: &mut HashMap<ConversationId, MemberRole>,
    limits: &Limits,
) -> Option<AsSeen> {
    let (conversation, head) = (event.fact.conversation()?, event.conversation.as_ref()?);
    match &event.fact {
        Fact::ConversationCreated { members, .. } => {
            if let Some(index) = members.iter().position(|user| *user == viewer) {
                memberships.insert(conversation, first_role(head, index));
            }
        }
        Fact::MemberJoined { user, .. } if *user == viewer => {
            memberships.insert(conversation, MemberRole::Member);
        }
        Fact::RoleChanged { user, role, .. } if *user == viewer => {
            memberships.insert(conversation, *role);
        }
        _ => {}
    }
    let role = *memberships.get(&conversation)?;
    let as_seen = shown(&event.fact, head, viewer, role, limits)?;
    if as_seen == AsSeen::MemberRemovedSelf {
        memberships.remove(&conversation);
    }
    Some(as_seen)
}
