//! The arguments of `events`, from the document and its variables.

use std::collections::BTreeSet;

use async_graphql::{
    Value, Variables,
    parser::types::{Field, OperationDefinition, Selection},
};
use domain::{ConversationId, ErrorCode, FilterHash, ServiceError, ServiceResult};
use xxhash_rust::xxh3::xxh3_64;

use crate::schema::error::bad_request;

/// What a subscription asks for.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub after: Option<String>,
    /// Sorted and without repeats; `None` for all of the viewer's.
    pub conversations: Option<Vec<ConversationId>>,
    /// Variables that the root field's arguments use.
    pub variables: Vec<String>,
}

impl Arguments {
    /// Of a subscription, whose root is one plain field.
    pub fn read(
        operation: &OperationDefinition,
        variables: &Variables,
        ids_max: usize,
    ) -> ServiceResult<Self> {
        let field = root_field(operation).ok_or_else(|| bad_request("a subscription has one root field"))?;
        let mut arguments = Self::default();
        for (name, value) in &field.arguments {
            let mut used = Vec::new();
            let value = value.node.clone().into_const_with(|variable| {
                let value = variables.get(&variable).cloned().unwrap_or_default();
                used.push(variable.to_string());
                Ok::<_, std::convert::Infallible>(value)
            });
            arguments.variables.append(&mut used);
            let Ok(value) = value;
            match (name.node.as_str(), value) {
                ("after", Value::String(cursor)) => arguments.after = Some(cursor),
                ("conversationIds", Value::List(ids)) => {
                    arguments.conversations = Some(conversations(ids, ids_max)?);
                }
                // A single value stands for a list of one.
                ("conversationIds", id @ (Value::String(_) | Value::Number(_))) => {
                    arguments.conversations = Some(conversations(vec![id], ids_max)?);
                }
                _ => {}
            }
        }
        Ok(arguments)
    }

    pub fn filter(&self) -> FilterHash {
        let Some(conversations) = &self.conversations else { return FilterHash::default() };
        let mut bytes = vec![1];
        for id in conversations {
            bytes.extend_from_slice(id.as_bytes());
        }
        FilterHash(xxh3_64(&bytes).to_be_bytes())
    }
}

fn root_field(operation: &OperationDefinition) -> Option<&Field> {
    match &operation.selection_set.node.items.first()?.node {
        Selection::Field(field) => Some(&field.node),
        _ => None,
    }
}

fn conversations(ids: Vec<Value>, ids_max: usize) -> ServiceResult<Vec<ConversationId>> {
    if ids.len() > ids_max {
        return Err(ServiceError::new(
            ErrorCode::BadRequest,
            format!("at most {ids_max} conversations in one filter"),
        ));
    }
    let parse = |value: Value| match value {
        Value::String(id) => id.parse().map_err(|_| bad_request("`conversationIds` has a malformed id")),
        _ => Err(bad_request("`conversationIds` is a list of ids")),
    };
    let ids: BTreeSet<ConversationId> = ids.into_iter().map(parse).collect::<ServiceResult<_>>()?;
    Ok(ids.into_iter().collect())
}
