//! Pushes in protobuf.

use super::{Wire, WireError, required};
use crate::{
    ConversationId, DeadTask, MessageId, PushAddress, PushBatch, PushProvider, PushRange, PushTarget,
    PushTask, Pushed, QuietHours, SessionId, Subscription, Timestamp, UserId, contract::proto,
};

impl Wire for PushProvider {
    type Proto = i32;

    fn to_proto(&self) -> i32 {
        let provider = match self {
            Self::Apns => proto::PushProvider::Apns,
            Self::Fcm => proto::PushProvider::Fcm,
            Self::WebPush => proto::PushProvider::WebPush,
        };
        provider.into()
    }

    fn from_proto(number: i32) -> Result<Self, WireError> {
        match proto::PushProvider::try_from(number) {
            Ok(proto::PushProvider::Apns) => Ok(Self::Apns),
            Ok(proto::PushProvider::Fcm) => Ok(Self::Fcm),
            Ok(proto::PushProvider::WebPush) => Ok(Self::WebPush),
            _ => Err(WireError::Unsound("push provider")),
        }
    }
}

impl Wire for PushAddress {
    type Proto = proto::PushAddress;

    fn to_proto(&self) -> proto::PushAddress {
        let (p256dh, auth) = match self {
            Self::WebPush(subscription) => (subscription.p256dh.to_vec(), subscription.auth.to_vec()),
            _ => (Vec::new(), Vec::new()),
        };
        proto::PushAddress {
            provider: self.provider().to_proto(),
            text: self.text().to_owned(),
            p256dh,
            auth,
        }
    }

    fn from_proto(address: proto::PushAddress) -> Result<Self, WireError> {
        Ok(match PushProvider::from_proto(address.provider)? {
            PushProvider::Apns => Self::Apns(address.text),
            PushProvider::Fcm => Self::Fcm(address.text),
            PushProvider::WebPush => Self::WebPush(Box::new(Subscription {
                endpoint: address.text,
                p256dh: address.p256dh.try_into().map_err(|_| WireError::Unsound("p256dh"))?,
                auth: address.auth.try_into().map_err(|_| WireError::Unsound("auth"))?,
            })),
        })
    }
}

impl Wire for (SessionId, PushProvider) {
    type Proto = proto::SessionProvider;

    fn to_proto(&self) -> proto::SessionProvider {
        proto::SessionProvider { session: self.0.0, provider: self.1.to_proto() }
    }

    fn from_proto(one: proto::SessionProvider) -> Result<Self, WireError> {
        Ok((SessionId(one.session), Wire::from_proto(one.provider)?))
    }
}

impl Wire for (ConversationId, Timestamp) {
    type Proto = proto::MuteRequest;

    fn to_proto(&self) -> proto::MuteRequest {
        proto::MuteRequest { conversation: self.0.to_proto(), until: self.1.0 }
    }

    fn from_proto(muted: proto::MuteRequest) -> Result<Self, WireError> {
        Ok((Wire::from_proto(muted.conversation)?, Timestamp(muted.until)))
    }
}

impl Wire for (SessionId, String) {
    type Proto = proto::GoneDevice;

    fn to_proto(&self) -> proto::GoneDevice {
        proto::GoneDevice { session: self.0.0, address: self.1.clone() }
    }

    fn from_proto(gone: proto::GoneDevice) -> Result<Self, WireError> {
        Ok((SessionId(gone.session), gone.address))
    }
}

impl Wire for QuietHours {
    type Proto = proto::QuietHours;

    fn to_proto(&self) -> proto::QuietHours {
        let (starts, ends) = (self.starts.into(), self.ends.into());
        proto::QuietHours { starts, ends, time_zone: self.time_zone.clone() }
    }

    fn from_proto(hours: proto::QuietHours) -> Result<Self, WireError> {
        let unsound = |_| WireError::Unsound("quiet hours");
        let minute = |minute: i32| i16::try_from(minute).map_err(|_| WireError::Unsound("quiet hours"));
        Self::new(minute(hours.starts)?, minute(hours.ends)?, hours.time_zone).map_err(unsound)
    }
}

impl Wire for PushRange {
    type Proto = proto::PushRange;

    fn to_proto(&self) -> proto::PushRange {
        let Self { conversation, seq, after, upto } = *self;
        proto::PushRange { conversation: conversation.to_proto(), seq, after: after.0, upto: upto.0 }
    }

    fn from_proto(range: proto::PushRange) -> Result<Self, WireError> {
        Ok(Self {
            conversation: Wire::from_proto(range.conversation)?,
            seq: range.seq,
            after: UserId(range.after),
            upto: UserId(range.upto),
        })
    }
}

impl Wire for PushTask {
    type Proto = proto::ParkedPush;

    fn to_proto(&self) -> proto::ParkedPush {
        proto::ParkedPush { range: Some(self.range.to_proto()), tries: self.tries }
    }

    fn from_proto(push: proto::ParkedPush) -> Result<Self, WireError> {
        Ok(Self { range: required(push.range, "range")?, tries: push.tries })
    }
}

impl Wire for PushBatch {
    type Proto = proto::PushBatch;

    fn to_proto(&self) -> proto::PushBatch {
        proto::PushBatch {
            message: self.message.0,
            sender: self.sender.to_string(),
            title: self.title.as_ref().map(ToString::to_string),
            text: self.text.clone(),
            targets: self.targets.to_proto(),
            next: self.next.map(|user| user.0),
        }
    }

    fn from_proto(batch: proto::PushBatch) -> Result<Self, WireError> {
        Ok(Self {
            message: MessageId(batch.message),
            sender: batch.sender.into(),
            title: batch.title.map(Into::into),
            text: batch.text,
            targets: Wire::from_proto(batch.targets)?,
            next: batch.next.map(UserId),
        })
    }
}

impl Wire for PushTarget {
    type Proto = proto::PushTarget;

    fn to_proto(&self) -> proto::PushTarget {
        proto::PushTarget {
            session: self.session.0,
            user: self.user.0,
            address: Some(self.address.to_proto()),
            badge: self.badge,
        }
    }

    fn from_proto(target: proto::PushTarget) -> Result<Self, WireError> {
        Ok(Self {
            session: SessionId(target.session),
            user: UserId(target.user),
            address: required(target.address, "address")?,
            badge: target.badge,
        })
    }
}

impl Wire for Pushed {
    type Proto = proto::Pushed;

    fn to_proto(&self) -> proto::Pushed {
        let Self { conversation, seq, sent, gone } = self;
        let conversation = conversation.to_proto();
        proto::Pushed { conversation, seq: *seq, sent: sent.to_proto(), gone: gone.to_proto() }
    }

    fn from_proto(pushed: proto::Pushed) -> Result<Self, WireError> {
        Ok(Self {
            conversation: Wire::from_proto(pushed.conversation)?,
            seq: pushed.seq,
            sent: Wire::from_proto(pushed.sent)?,
            gone: Wire::from_proto(pushed.gone)?,
        })
    }
}

impl Wire for DeadTask {
    type Proto = proto::DeadTask;

    fn to_proto(&self) -> proto::DeadTask {
        let Self { id, topic, record, reason, died_at } = self.clone();
        proto::DeadTask { id, topic, record, reason, died_at: died_at.0 }
    }

    fn from_proto(task: proto::DeadTask) -> Result<Self, WireError> {
        let proto::DeadTask { id, topic, record, reason, died_at } = task;
        Ok(Self { id, topic, record, reason, died_at: Timestamp(died_at) })
    }
}
