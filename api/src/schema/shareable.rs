//! Fields that look the same to every viewer who may see their object at all.
//!
//! The hub executes an event once for all subscriptions with the same document when every field of the document is listed
//! here, and once a viewer otherwise. So a field that is not listed costs time; one that is listed by mistake shows one
//! person what another may see. A new field is left out until somebody has thought about it.

/// `Type.field`, sorted. Fields of interfaces stand beside those of the objects that implement them.
pub const SHAREABLE: &[&str] = &[
    "Conversation.createdAt",
    "Conversation.id",
    "Conversation.kind",
    "Conversation.lastSeq",
    "Conversation.title",
    "ConversationAdded.conversation",
    "ConversationAdded.cursor",
    "ConversationAdded.rev",
    "ConversationChanged.conversation",
    "ConversationChanged.cursor",
    "ConversationChanged.rev",
    "ConversationEvent.conversation",
    "ConversationEvent.cursor",
    "ConversationEvent.rev",
    "Event.cursor",
    "Member.id",
    "Member.joinedAt",
    "Member.readSeq",
    "Member.role",
    "Member.user",
    "MemberAdded.conversation",
    "MemberAdded.cursor",
    "MemberAdded.member",
    "MemberAdded.rev",
    "MemberChanged.conversation",
    "MemberChanged.cursor",
    "MemberChanged.member",
    "MemberChanged.rev",
    "MemberRemoved.conversation",
    "MemberRemoved.cursor",
    "MemberRemoved.rev",
    "MemberRemoved.user",
    "Message.clientMessageId",
    "Message.content",
    "Message.conversation",
    "Message.createdAt",
    "Message.id",
    "Message.rev",
    "Message.sender",
    "Message.seq",
    "MessageSent.conversation",
    "MessageSent.cursor",
    "MessageSent.message",
    "MessageSent.rev",
    "Node.id",
    "ReadMarked.conversation",
    "ReadMarked.cursor",
    "ReadMarked.readSeq",
    "ReadMarked.rev",
    "ReadMarked.user",
    "ResyncRequired.cursor",
    "ResyncRequired.reason",
    "StreamLive.cursor",
    "StreamOpened.cursor",
    "Subscription.events",
    "SystemContent.text",
    "TextContent.mentions",
    "TextContent.text",
    "User.displayName",
    "User.id",
    "User.username",
];

/// Whether a field looks the same to every viewer. `__typename` always does.
pub fn is_shareable(type_name: &str, field: &str) -> bool {
    if field == "__typename" {
        return true;
    }
    let key = (type_name, field);
    SHAREABLE.binary_search_by_key(&key, |listed| listed.split_once('.').unwrap_or((listed, ""))).is_ok()
}
