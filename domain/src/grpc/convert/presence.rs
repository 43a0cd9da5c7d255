//! What the domain says of presence.

use super::Reply;
use crate::{
    ActivityScope, Contact, PresenceVisibility, Timestamp, UserId,
    contract::{WireError, proto, wire::Wire},
};

impl Reply for ActivityScope {
    type Proto = proto::ActivityScopeReply;

    fn to_reply(&self) -> proto::ActivityScopeReply {
        let (conversations, contacts) = (self.conversations.to_proto(), self.contacts.to_proto());
        proto::ActivityScopeReply { conversations, contacts, too_many: self.too_many }
    }

    fn from_reply(proto: proto::ActivityScopeReply) -> Result<Self, WireError> {
        let conversations = Wire::from_proto(proto.conversations)?;
        Ok(Self { conversations, contacts: Wire::from_proto(proto.contacts)?, too_many: proto.too_many })
    }
}

impl Wire for Contact {
    type Proto = proto::Contact;

    fn to_proto(&self) -> proto::Contact {
        let last_used_at = self.last_used_at.map(|at| at.0);
        proto::Contact { user: self.user.0, shows: self.shows, last_used_at }
    }

    fn from_proto(proto: proto::Contact) -> Result<Self, WireError> {
        let last_used_at = proto.last_used_at.map(Timestamp);
        Ok(Self { user: UserId(proto.user), shows: proto.shows, last_used_at })
    }
}

impl Reply for PresenceVisibility {
    type Proto = proto::PresenceVisibilityMessage;

    fn to_reply(&self) -> proto::PresenceVisibilityMessage {
        proto::PresenceVisibilityMessage { hidden: *self == Self::Nobody }
    }

    fn from_reply(proto: proto::PresenceVisibilityMessage) -> Result<Self, WireError> {
        Ok(if proto.hidden { Self::Nobody } else { Self::EveryoneITalkTo })
    }
}
