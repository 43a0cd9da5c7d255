//! One root field for a subscription, without fragments around it.
//!
//! The executor looks at plain fields only and opens a stream for each; the specification allows fragments and exactly
//! one field. So fragments at the root are written out, the same field asked for twice becomes one, and a document with
//! two different ones is refused.

use std::collections::HashSet;

use async_graphql::{
    Name, Positioned,
    parser::types::{DocumentOperations, ExecutableDocument, Field, OperationType, Selection, SelectionSet},
};

use super::operations_mut;
use crate::refusal::Refusal;

/// Rewrites the subscriptions of a measured document.
pub(super) fn flatten(document: &mut ExecutableDocument, root: &Name) -> Result<(), Refusal> {
    if !has_subscription(&document.operations) {
        return Ok(());
    }
    let mut spread = HashSet::new();
    for operation in operations_mut(&mut document.operations) {
        if operation.node.ty != OperationType::Subscription {
            continue;
        }
        let mut fields = Fields { fragments: &document.fragments, root, spread: &mut spread, found: None };
        fields.collect(&operation.node.selection_set.node)?;
        if let Some(field) = fields.found {
            let position = field.pos;
            operation.node.selection_set.node.items =
                vec![Positioned::new(Selection::Field(field), position)];
        }
    }
    // Nothing but a subscription's root can spread them, and there they are written out now.
    document.fragments.retain(|name, _| !spread.contains(name));
    Ok(())
}

fn has_subscription(operations: &DocumentOperations) -> bool {
    operations.iter().any(|(_, operation)| operation.node.ty == OperationType::Subscription)
}

struct Fields<'a> {
    fragments:
        &'a std::collections::HashMap<Name, Positioned<async_graphql::parser::types::FragmentDefinition>>,
    root: &'a Name,
    spread: &'a mut HashSet<Name>,
    found: Option<Positioned<Field>>,
}

impl Fields<'_> {
    fn collect(&mut self, set: &SelectionSet) -> Result<(), Refusal> {
        for selection in &set.items {
            let directives = selection.node.directives();
            if directives.iter().any(|directive| matches!(&*directive.node.name.node, "skip" | "include")) {
                let message = "the root of a subscription takes neither @skip nor @include";
                return Err(Refusal::bad_request(message).at(selection.pos));
            }
            match &selection.node {
                Selection::Field(field) => self.add(field)?,
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref().map(|condition| &condition.node.on.node);
                    self.fragment(on, &fragment.node.selection_set.node, selection)?;
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    let Some(fragment) = self.fragments.get(name) else {
                        let message = format!("Unknown fragment: \"{name}\"");
                        return Err(Refusal::bad_request(message).at(selection.pos));
                    };
                    let on = &fragment.node.type_condition.node.on.node;
                    self.fragment(Some(on), &fragment.node.selection_set.node, selection)?;
                    self.spread.insert(name.clone());
                }
            }
        }
        Ok(())
    }

    fn fragment(
        &mut self,
        on: Option<&Name>,
        set: &SelectionSet,
        selection: &Positioned<Selection>,
    ) -> Result<(), Refusal> {
        match on {
            Some(on) if on != self.root => {
                let message = format!("a fragment on \"{on}\" cannot be spread on \"{}\"", self.root);
                Err(Refusal::bad_request(message).at(selection.pos))
            }
            _ => self.collect(set),
        }
    }

    fn add(&mut self, field: &Positioned<Field>) -> Result<(), Refusal> {
        if field.node.name.node.starts_with("__") {
            let message = "a subscription's root field must not be one of introspection";
            return Err(Refusal::bad_request(message).at(field.pos));
        }
        match &mut self.found {
            None => self.found = Some(field.clone()),
            Some(found) if is_same(&found.node, &field.node) => {
                let more = field.node.selection_set.node.items.iter().cloned();
                found.node.selection_set.node.items.extend(more);
            }
            Some(_) => {
                let message = "a subscription must have exactly one root field";
                return Err(Refusal::bad_request(message).at(field.pos));
            }
        }
        Ok(())
    }
}

fn is_same(one: &Field, other: &Field) -> bool {
    one.response_key().node == other.response_key().node
        && one.name.node == other.name.node
        && one.arguments.len() == other.arguments.len()
        && one
            .arguments
            .iter()
            .all(|(name, value)| other.get_argument(&name.node).is_some_and(|other| other.node == value.node))
}
