//! Ids as arguments. The same malformed id means another thing in each place: nothing in `node`, a bad request in
//! another argument, a user error in a mutation.

use std::str::FromStr;

use async_graphql::ID;
use domain::{
    ConversationId, ErrorCode, IdError, MemberId, MessageId, ServiceError, ServiceResult, SessionId, UserId,
};

use super::error::bad_request;

/// An id of anything that is a `Node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeId {
    User(UserId),
    Session(SessionId),
    Conversation(ConversationId),
    Member(MemberId),
    Message(MessageId),
}

impl NodeId {
    /// `None` for what is no id.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, _) = text.split_once('_')?;
        match prefix {
            UserId::PREFIX => text.parse().map(Self::User).ok(),
            SessionId::PREFIX => text.parse().map(Self::Session).ok(),
            ConversationId::PREFIX => text.parse().map(Self::Conversation).ok(),
            MemberId::PREFIX => text.parse().map(Self::Member).ok(),
            MessageId::PREFIX => text.parse().map(Self::Message).ok(),
            _ => None,
        }
    }
}

/// An id in an argument of a query or subscription.
pub fn argument<T: FromStr<Err = IdError>>(id: &ID) -> ServiceResult<T> {
    id.parse().map_err(|error| match error {
        IdError::Malformed => bad_request("malformed id"),
        IdError::WrongType => bad_request("id of another type"),
    })
}

/// An id in a mutation's input.
pub fn input<T: FromStr<Err = IdError>>(field: &'static [&'static str], id: &ID) -> ServiceResult<T> {
    id.parse().map_err(|error: IdError| ServiceError::invalid(field, error.to_string()))
}

/// Ids in a mutation's input, at most `max`.
pub fn inputs<T: FromStr<Err = IdError>>(
    field: &'static [&'static str],
    ids: &[ID],
    max: usize,
) -> ServiceResult<Vec<T>> {
    if ids.len() > max {
        return Err(ServiceError::invalid(field, format!("at most {max} ids in one call")));
    }
    ids.iter().map(|id| input(field, id)).collect()
}

/// Refuses a list of ids that is too long for one query.
pub fn check_count(ids: &[ID], max: usize) -> ServiceResult<()> {
    if ids.len() > max {
        return Err(ServiceError::new(ErrorCode::LimitExceeded, format!("at most {max} ids in one list")));
    }
    Ok(())
}
