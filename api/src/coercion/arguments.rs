//! The arguments of an operation's fields with the variables in them put in place.

use std::{collections::HashSet, convert::Infallible};

use async_graphql::{
    Name, Variables,
    parser::types::{
        ExecutableDocument, Field, InputValueDefinition, OperationDefinition, Selection, SelectionSet,
    },
};

use super::value::coerce;
use crate::{
    refusal::Refusal,
    typesystem::{TypeSystem, base_name},
};

/// Refuses an operation of which some argument cannot be read, before its other fields run. What is unknown to the
/// schema is left for the validator.
pub fn check_arguments(
    types: &TypeSystem,
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    root: &Name,
    variables: &Variables,
) -> Result<(), Refusal> {
    let mut check = Check { types, document, variables, seen: HashSet::new() };
    check.selection_set(&operation.selection_set.node, root)
}

struct Check<'a> {
    types: &'a TypeSystem,
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    seen: HashSet<&'a Name>,
}

impl<'a> Check<'a> {
    /// The guard has bounded how deep this goes.
    fn selection_set(&mut self, set: &'a SelectionSet, parent: &Name) -> Result<(), Refusal> {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let Some(definition) = self.types.field(parent, &field.name.node) else { continue };
                    for argument in &definition.arguments {
                        self.argument(field, &argument.node).map_err(|refusal| refusal.at(selection.pos))?;
                    }
                    self.selection_set(&field.selection_set.node, base_name(&definition.ty.node.base))?;
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref().map(|condition| &condition.node.on.node);
                    self.selection_set(&fragment.node.selection_set.node, on.unwrap_or(parent))?;
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = self.document.fragments.get(name)
                        && self.seen.insert(name)
                    {
                        let on = &fragment.node.type_condition.node.on.node;
                        self.selection_set(&fragment.node.selection_set.node, on)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A variable that was not given counts as null, unless the argument has a default.
    fn argument(&self, field: &Field, definition: &InputValueDefinition) -> Result<(), Refusal> {
        let name = &definition.name.node;
        let Some(given) = field.get_argument(name) else { return Ok(()) };
        let mut missing = false;
        let constant = given.node.clone().into_const_with(|variable| {
            let value = self.variables.get(&variable);
            missing |= value.is_none();
            Ok::<_, Infallible>(value.cloned().unwrap_or_default())
        });
        if missing && definition.default_value.is_some() {
            return Ok(());
        }
        let Ok(value) = constant;
        match coerce(self.types, &definition.ty.node, value) {
            Ok(_) => Ok(()),
            Err(mismatch) => {
                let message = format!("the argument \"{name}\" has an invalid value: {mismatch}");
                Err(Refusal::bad_request(message))
            }
        }
    }
}
