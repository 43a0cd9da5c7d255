//! The arguments of `activity`, from the document and its variables.

use std::{collections::BTreeSet, str::FromStr};

use async_graphql::{
    Value, Variables,
    parser::types::{OperationDefinition, Selection},
};
use domain::{ConversationId, ErrorCode, ServiceError, ServiceResult, UserId};

use crate::schema::error::bad_request;

/// What a subscription asks for, sorted and without repeats.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub users: Vec<UserId>,
    pub conversations: Vec<ConversationId>,
}

impl Arguments {
    /// Of a subscription, whose root is one plain field.
    pub fn read(
        operation: &OperationDefinition,
        variables: &Variables,
        ids_max: usize,
    ) -> ServiceResult<Self> {
        let Some(Selection::Field(field)) = operation.selection_set.node.items.first().map(|item| &item.node)
        else {
            return Err(bad_request("a subscription has one root field"));
        };
        let mut arguments = Self::default();
        for (name, value) in &field.node.arguments {
            let value = value.node.clone().into_const_with(|variable| {
                Ok::<_, std::convert::Infallible>(variables.get(&variable).cloned().unwrap_or_default())
            });
            let Ok(value) = value;
            match name.node.as_str() {
                "userIds" => arguments.users = ids(value, ids_max)?,
                "conversationIds" => arguments.conversations = ids(value, ids_max)?,
                _ => {}
            }
        }
        if arguments.users.is_empty() && arguments.conversations.is_empty() {
            return Err(bad_request("name the users or conversations to hear of"));
        }
        Ok(arguments)
    }
}

fn ids<T: FromStr + Ord>(value: Value, ids_max: usize) -> ServiceResult<Vec<T>> {
    let ids = match value {
        Value::Null => Vec::new(),
        Value::List(ids) => ids,
        // A single value stands for a list of one.
        id => vec![id],
    };
    if ids.len() > ids_max {
        return Err(ServiceError::new(ErrorCode::BadRequest, format!("at most {ids_max} ids in one list")));
    }
    let parse = |value: Value| match value {
        Value::String(id) => id.parse().map_err(|_| bad_request("malformed id, or one of another type")),
        _ => Err(bad_request("ids are texts")),
    };
    let ids: BTreeSet<T> = ids.into_iter().map(parse).collect::<ServiceResult<_>>()?;
    Ok(ids.into_iter().collect())
}
