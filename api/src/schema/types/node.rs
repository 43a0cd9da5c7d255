//! What can be fetched again by its id alone.

use async_graphql::{ID, Interface};

use super::{conversation::Conversation, member::Member, message::Message, session::Session, user::User};

/// Anything that can be fetched again by its id alone, with `node` or `nodes`.
#[derive(Interface)]
#[graphql(field(
    name = "id",
    ty = "ID",
    desc = "Identifies this object among all objects of all types; opaque, and the same for ever."
))]
pub enum Node {
    User(User),
    Session(Session),
    Conversation(Conversation),
    Member(Member),
    Message(Message),
}
