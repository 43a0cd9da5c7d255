//! The words of the product as types, and the rules that need nothing but their values.

pub mod bucket;
pub mod conversation;
pub mod cursor;
pub mod document;
pub mod event;
pub mod id;
pub mod lane;
pub mod limits;
pub mod member;
pub mod message;
pub mod network;
pub mod page;
pub mod presence;
pub mod push;
pub mod relay;
pub mod session;
pub mod text;
pub mod time;
pub mod user;

pub use bucket::{Bucket, Refill, Taken};
pub use conversation::{Conversation, ConversationKind, ConversationView, RecentSenders, SenderPosition};
pub use cursor::{CursorPosition, FilterHash};
pub use document::DocumentHash;
pub use event::{Event, Fact, LoggedBatch, LoggedFact};
pub use id::{ConversationId, IdError, MemberId, MessageId, SessionId, UserId};
pub use lane::{LaneId, LaneLayout, Positions};
pub use limits::{DocumentBounds, Limits, Rate};
pub use member::{Member, MemberRole};
pub use message::{Content, MENTIONS_MAX, Mentions, Message, MessageDraft};
pub use network::Network;
pub use page::{Direction, Page, PageRequest};
pub use presence::{
    ActivityScope, Contact, Heard, NodeId, PRESENCE_GRACE, PRESENCE_INTERVAL, Presence, PresenceState,
    PresenceVisibility, Standing, Standings, Switches, TYPING_LIFE, Topic, Whisper,
};
pub use push::{
    DeadTask, PushAddress, PushBatch, PushProvider, PushRange, PushTarget, PushTask, Pushed, QuietHours,
    Subscription,
};
pub use relay::{RelayBacklog, RelayLane, WorkerId};
pub use session::{Caller, Credentials, Session};
pub use text::{ClientKey, DisplayName, MessageText, Password, Title, Username};
pub use time::Timestamp;
pub use user::User;
