//! One walk over a parsed document, each definition once: what it grows to when fragments are written out.
//!
//! A fragment's cost is kept and added where it is spread, so that doubling fragments cost nothing to refuse.

use std::collections::HashMap;

use async_graphql::{
    Name, Positioned,
    parser::types::{Directive, ExecutableDocument, Field, Selection, SelectionSet},
};

use super::Limits;
use crate::refusal::Refusal;

/// Refuses what the validator must not see.
pub fn measure(document: &ExecutableDocument, limits: &Limits) -> Result<(), Refusal> {
    let operations = document.operations.iter().len();
    within(operations, limits.operations_max, "operations")?;
    within(document.fragments.len(), limits.fragments_max, "fragments")?;
    let mut walk = Walk { document, limits, known: HashMap::new(), aliases: 0, directives: 0 };
    for (name, fragment) in &document.fragments {
        walk.directives(&fragment.node.directives)?;
        walk.fragment(name, 1)?;
    }
    let mut selections = 0_usize;
    for (_, operation) in document.operations.iter() {
        walk.directives(&operation.node.directives)?;
        for variable in &operation.node.variable_definitions {
            walk.directives(&variable.node.directives)?;
        }
        let cost = walk.selection_set(&operation.node.selection_set, 1)?;
        if cost.depth > limits.depth_max {
            let message = format!("fields nest deeper than {}", limits.depth_max);
            return Err(Refusal::limit_exceeded(message).at(operation.pos));
        }
        selections = selections.saturating_add(cost.selections);
    }
    within(selections, limits.selections_max, "selections, with fragments written out")?;
    within(walk.aliases, limits.aliases_max, "aliases")?;
    within(walk.directives, limits.directives_max, "directives")
}

fn within(count: usize, max: usize, what: &str) -> Result<(), Refusal> {
    if count <= max {
        return Ok(());
    }
    Err(Refusal::limit_exceeded(format!("the document has more than {max} {what}")))
}

/// What something is with its fragments written out.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    selections: usize,
    /// Fields below each other.
    depth: usize,
    /// Selection sets and fragments inside each other.
    nesting: usize,
    /// Lists of fields or of types inside each other, should this be below `__schema` or `__type`.
    introspection_lists: usize,
}

struct Walk<'a> {
    document: &'a ExecutableDocument,
    limits: &'a Limits,
    /// `None` while the fragment is being walked.
    known: HashMap<&'a str, Option<Cost>>,
    aliases: usize,
    directives: usize,
}

impl<'a> Walk<'a> {
    /// `nesting` bounds this walk's own recursion too.
    fn selection_set(&mut self, set: &'a Positioned<SelectionSet>, nesting: usize) -> Result<Cost, Refusal> {
        self.check_nesting(nesting, set)?;
        let mut total = Cost::default();
        for selection in &set.node.items {
            self.directives(selection.node.directives())?;
            let cost = match &selection.node {
                Selection::Field(field) => {
                    self.aliases += usize::from(field.node.alias.is_some());
                    let below = match field.node.selection_set.node.items.is_empty() {
                        true => Cost::default(),
                        false => self.selection_set(&field.node.selection_set, nesting + 1)?,
                    };
                    self.field(field, below)?
                }
                Selection::InlineFragment(fragment) => {
                    self.selection_set(&fragment.node.selection_set, nesting + 1)?
                }
                Selection::FragmentSpread(spread) => {
                    let cost = self.fragment(&spread.node.fragment_name.node, nesting + 1)?;
                    self.check_nesting(nesting + cost.nesting, set)?;
                    cost
                }
            };
            total.selections = total.selections.saturating_add(cost.selections).saturating_add(1);
            total.depth = total.depth.max(cost.depth);
            total.nesting = total.nesting.max(cost.nesting);
            total.introspection_lists = total.introspection_lists.max(cost.introspection_lists);
        }
        total.nesting += 1;
        Ok(total)
    }

    fn field(&self, field: &Positioned<Field>, below: Cost) -> Result<Cost, Refusal> {
        match field.node.name.node.as_str() {
            "__schema" | "__type" => {
                let max = self.limits.introspection_lists_max;
                if below.introspection_lists > max {
                    let message = format!("lists of introspection nest deeper than {max}");
                    return Err(Refusal::limit_exceeded(message).at(field.pos));
                }
                Ok(Cost { depth: 1, introspection_lists: 0, ..below })
            }
            "fields" | "inputFields" | "interfaces" | "possibleTypes" => {
                let introspection_lists = below.introspection_lists + 1;
                Ok(Cost { depth: below.depth + 1, introspection_lists, ..below })
            }
            _ => Ok(Cost { depth: below.depth + 1, ..below }),
        }
    }

    fn fragment(&mut self, name: &'a Name, nesting: usize) -> Result<Cost, Refusal> {
        // The validator says which fragment is unknown.
        let Some(fragment) = self.document.fragments.get(name) else { return Ok(Cost::default()) };
        match self.known.insert(name, None) {
            None => {}
            Some(None) => {
                let message = format!("the fragment \"{name}\" contains itself");
                return Err(Refusal::bad_request(message).at(fragment.pos));
            }
            Some(Some(cost)) => {
                self.known.insert(name, Some(cost));
                return Ok(cost);
            }
        }
        let cost = self.selection_set(&fragment.node.selection_set, nesting)?;
        self.known.insert(name, Some(cost));
        Ok(cost)
    }

    fn check_nesting(&self, nesting: usize, set: &Positioned<SelectionSet>) -> Result<(), Refusal> {
        if nesting <= self.limits.selection_nesting_max {
            return Ok(());
        }
        let message = format!("selections nest deeper than {}", self.limits.selection_nesting_max);
        Err(Refusal::limit_exceeded(message).at(set.pos))
    }

    fn directives(&mut self, directives: &[Positioned<Directive>]) -> Result<(), Refusal> {
        self.directives += directives.len();
        within(directives.len(), self.limits.directives_per_place_max, "directives in one place")
    }
}
