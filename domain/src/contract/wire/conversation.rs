//! Conversations with their members and messages.

use std::sync::Arc;

use super::{super::proto, Wire, WireError, required};
use crate::{
    ClientKey, Content, Conversation, ConversationKind, ConversationView, Member, Message, MessageId,
    SenderPosition, Timestamp, UserId,
};

impl Wire for Conversation {
    type Proto = proto::Conversation;

    fn to_proto(&self) -> proto::Conversation {
        let senders = self.senders.iter().map(|sender| proto::Sender {
            user: sender.user.0,
            seq: sender.seq,
            countable: sender.countable,
        });
        proto::Conversation {
            id: self.id.to_proto(),
            group: self.kind == ConversationKind::Group,
            title: self.title.as_deref().map(str::to_owned),
            created_at: self.created_at.0,
            last_seq: self.last_seq,
            rev: self.rev,
            countable: self.countable,
            member_count: self.member_count,
            active_at: self.active_at.0,
            pos: self.pos,
            title_pos: self.title_pos,
            title_rev: self.title_rev,
            senders: senders.collect(),
        }
    }

    fn from_proto(head: proto::Conversation) -> Result<Self, WireError> {
        let senders = head.senders.into_iter().map(|sender| SenderPosition {
            user: UserId(sender.user),
            seq: sender.seq,
            countable: sender.countable,
        });
        Ok(Self {
            id: Wire::from_proto(head.id)?,
            kind: if head.group { ConversationKind::Group } else { ConversationKind::Direct },
            title: head.title.map(Arc::from),
            created_at: Timestamp(head.created_at),
            last_seq: head.last_seq,
            rev: head.rev,
            countable: head.countable,
            member_count: head.member_count,
            active_at: Timestamp(head.active_at),
            pos: head.pos,
            title_pos: head.title_pos,
            title_rev: head.title_rev,
            senders: senders.collect(),
        })
    }
}

impl Wire for Message {
    type Proto = proto::Message;

    fn to_proto(&self) -> proto::Message {
        let (text, system) = match &self.content {
            Content::Text(text) => (Some(text.to_string()), None),
            // A tree of plain values: serialising it cannot fail.
            Content::System(system) => (None, serde_json::to_string(system).ok()),
        };
        proto::Message {
            id: self.id.0,
            conversation: self.conversation.to_proto(),
            seq: self.seq,
            rev: self.rev,
            created_rev: self.created_rev,
            pos: self.pos,
            sender: self.sender.map(|user| user.0),
            client_key: self.client_key.as_ref().map(|key| key.as_str().as_bytes().to_vec()),
            content_hash: self.content_hash.to_vec(),
            text,
            system,
            created_at: self.created_at.0,
            countable: self.countable,
            mentions: self.mentions.iter().map(|user| user.0).collect(),
        }
    }

    fn from_proto(message: proto::Message) -> Result<Self, WireError> {
        let content = match (message.text, message.system) {
            (Some(text), _) => Content::Text(text.into()),
            (None, Some(system)) => {
                let system = serde_json::from_str(&system);
                Content::System(system.map_err(|_| WireError::Unsound("system message"))?)
            }
            (None, None) => return Err(WireError::Unsound("content")),
        };
        let content_hash = message.content_hash.try_into();
        Ok(Self {
            id: MessageId(message.id),
            conversation: Wire::from_proto(message.conversation)?,
            seq: message.seq,
            rev: message.rev,
            created_rev: message.created_rev,
            pos: message.pos,
            sender: message.sender.map(UserId),
            client_key: message.client_key.and_then(ClientKey::from_stored),
            content_hash: content_hash.map_err(|_| WireError::Unsound("hash of the content"))?,
            content,
            mentions: message.mentions.into_iter().map(UserId).collect(),
            created_at: Timestamp(message.created_at),
            countable: message.countable,
        })
    }
}

impl Wire for Member {
    type Proto = proto::Member;

    fn to_proto(&self) -> proto::Member {
        proto::Member {
            conversation: self.conversation.to_proto(),
            user: self.user.0,
            role: self.role.to_proto(),
            read_seq: self.read_seq,
            read_countable: self.read_countable,
            joined_at: self.joined_at.0,
            joined_rev: self.joined_rev,
            joined_pos: self.joined_pos,
            removed_rev: self.removed_rev,
            removed_pos: self.removed_pos,
            role_rev: self.role_rev,
            role_pos: self.role_pos,
            read_rev: self.read_rev,
            read_pos: self.read_pos,
        }
    }

    fn from_proto(member: proto::Member) -> Result<Self, WireError> {
        Ok(Self {
            conversation: Wire::from_proto(member.conversation)?,
            user: UserId(member.user),
            role: Wire::from_proto(member.role)?,
            read_seq: member.read_seq,
            read_countable: member.read_countable,
            joined_at: Timestamp(member.joined_at),
            joined_rev: member.joined_rev,
            joined_pos: member.joined_pos,
            removed_rev: member.removed_rev,
            removed_pos: member.removed_pos,
            role_rev: member.role_rev,
            role_pos: member.role_pos,
            read_rev: member.read_rev,
            read_pos: member.read_pos,
        })
    }
}

impl Wire for ConversationView {
    type Proto = proto::View;

    fn to_proto(&self) -> proto::View {
        proto::View { conversation: Some(self.conversation.to_proto()), viewer: Some(self.viewer.to_proto()) }
    }

    fn from_proto(view: proto::View) -> Result<Self, WireError> {
        let conversation = required(view.conversation, "conversation")?;
        Ok(Self { conversation, viewer: required(view.viewer, "viewer")? })
    }
}
