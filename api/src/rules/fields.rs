//! Fields, arguments and fragments are there, and what has fields is selected from (GraphQL, 5.3.1, 5.3.3, 5.4.1, 5.5.1.4, 5.5.2.1).
//!
//! Each definition is looked at once, whatever spreads it. Whether the values of arguments fit, and fragments where they stand, is left
//! for the executor's validator.

use std::collections::HashSet;

use async_graphql::{
    Name, Positioned,
    parser::types::{ExecutableDocument, Field, FieldDefinition, Selection, SelectionSet},
};

use super::{Faults, brief, operations, suggestion::suggestion};
use crate::{
    refusal::Refusal,
    typesystem::{TypeSystem, base_name},
};

pub(super) fn check(document: &ExecutableDocument, types: &TypeSystem, faults: &mut Faults) {
    let mut walk = Walk { document, types, faults, reached: HashSet::new(), waiting: Vec::new() };
    for operation in operations(document) {
        // The validator says which kind of operation there is not.
        if let Some(root) = types.root(operation.ty) {
            walk.selection_set(&operation.selection_set.node, root);
        }
    }
    while let Some(name) = walk.waiting.pop() {
        let Some(fragment) = document.fragments.get(name) else { continue };
        walk.inside(&fragment.node.type_condition.node.on, &fragment.node.selection_set.node);
    }
    let reached = walk.reached;
    let mut unused: Vec<_> = document.fragments.iter().filter(|(name, _)| !reached.contains(*name)).collect();
    unused.sort_unstable_by_key(|(_, fragment)| fragment.pos);
    for (name, fragment) in unused {
        let message = format!("Fragment \"{}\" is never used", brief(name));
        faults.add(Refusal::bad_request(message).at(fragment.pos));
    }
}

struct Walk<'a, 'f> {
    document: &'a ExecutableDocument,
    types: &'a TypeSystem,
    faults: &'f mut Faults,
    /// Fragments that something spreads which is part of an operation.
    reached: HashSet<&'a Name>,
    /// Those of them that are still to be looked at.
    waiting: Vec<&'a Name>,
}

impl<'a> Walk<'a, '_> {
    /// The guard has bounded how deep this goes.
    fn selection_set(&mut self, set: &'a SelectionSet, parent: &'a Name) {
        for selection in &set.items {
            if self.faults.is_full() {
                return;
            }
            match &selection.node {
                Selection::Field(field) => self.field(field, parent),
                Selection::InlineFragment(fragment) => {
                    let set = &fragment.node.selection_set.node;
                    match &fragment.node.type_condition {
                        Some(condition) => self.inside(&condition.node.on, set),
                        None => self.selection_set(set, parent),
                    }
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if !self.document.fragments.contains_key(name) {
                        let message = format!("Unknown fragment: \"{}\"", brief(name));
                        self.faults.add(Refusal::bad_request(message).at(selection.pos));
                    } else if self.reached.insert(name) {
                        self.waiting.push(name);
                    }
                }
            }
        }
    }

    /// What a fragment selects. One on a scalar is for the validator to refuse.
    fn inside(&mut self, on: &'a Positioned<Name>, set: &'a SelectionSet) {
        if self.types.get(&on.node).is_none() && !is_built_in(&on.node) {
            let message = format!("Unknown type \"{}\"", brief(&on.node));
            self.faults.add(Refusal::bad_request(message).at(on.pos));
        } else if self.types.is_composite(&on.node) {
            self.selection_set(set, &on.node);
        }
    }

    fn field(&mut self, field: &'a Positioned<Field>, parent: &'a Name) {
        let name = &field.node.name.node;
        let Some(definition) = self.types.selectable(parent, name) else {
            let meant = suggestion(name, self.types.field_names(parent));
            let message = format!("Unknown field \"{}\" on type \"{parent}\".{meant}", brief(name));
            self.faults.add(Refusal::bad_request(message).at(field.pos));
            return;
        };
        self.arguments(&field.node, definition, parent);
        let inner = base_name(&definition.ty.node.base);
        let set = &field.node.selection_set.node;
        match (self.types.is_composite(inner), set.items.is_empty()) {
            (true, false) => self.selection_set(set, inner),
            (false, true) => {}
            (true, true) => {
                let message =
                    format!("Field \"{name}\" of type \"{inner}\" must have a selection of subfields");
                self.faults.add(Refusal::bad_request(message).at(field.pos));
            }
            (false, false) => {
                let message = format!(
                    "Field \"{name}\" must not have a selection since type \"{inner}\" has no subfields"
                );
                self.faults.add(Refusal::bad_request(message).at(field.pos));
            }
        }
    }

    fn arguments(&mut self, field: &Field, definition: &FieldDefinition, parent: &Name) {
        let known = || definition.arguments.iter().map(|argument| argument.node.name.node.as_str());
        let mut given = HashSet::new();
        for (name, _) in &field.arguments {
            if self.faults.is_full() {
                return;
            }
            let message = if !known().any(|known| known == name.node.as_str()) {
                let meant = suggestion(&name.node, known());
                let (name, field) = (brief(&name.node), &field.name.node);
                format!("Unknown argument \"{name}\" on field \"{field}\" of type \"{parent}\".{meant}")
            } else if given.insert(&name.node) {
                continue;
            } else {
                format!("There can only be one argument named \"{}\"", name.node)
            };
            self.faults.add(Refusal::bad_request(message).at(name.pos));
        }
    }
}

/// Scalars that no schema defines.
fn is_built_in(name: &str) -> bool {
    matches!(name, "Int" | "Float" | "String" | "Boolean" | "ID")
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::super::{FAULTS_MAX, check};
    use crate::typesystem::TypeSystem;

    const SDL: &str = "interface Named { name: String }
        type Query { ada: Person bob(at: Int, in: Int): Named all: Any }
        type Person implements Named { name: String age: Int friend: Person }
        type Robot implements Named { name: String model: ID }
        union Any = Person | Robot";

    fn faults(document: &str) -> Vec<String> {
        let types = TypeSystem::parse(SDL).expect("a schema");
        let faults = check(&parse_query(document).expect("GraphQL"), &types);
        faults.into_iter().map(|fault| fault.message.into_owned()).collect()
    }

    #[test]
    fn what_is_there_passes() {
        for document in [
            "{ ada { name ...P } } fragment P on Person { friend { age ...Q } } fragment Q on Named { name }",
            "{ all { __typename ... on Robot { model } ... { ... on Named { name } } } }",
            "{ bob(at: 1, in: 2) { name __typename } __typename t: __typename }",
            "{ __schema { types { name fields(includeDeprecated: true) { args { type { kind ofType { name } } } } } } }",
            "{ __type(name: \"Person\") { enumValues { name } isOneOf specifiedByURL __typename } }",
            "query A { ada { ...P } } query B { ada { ...P } } fragment P on Person { name }",
            // For the validator to refuse.
            "{ ada { ... on String { nothing } } }",
            "mutation { nothing }",
        ] {
            assert_eq!(faults(document), Vec::<String>::new(), "{document}");
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        for (document, expected) in [
            ("{ eda { name } }", "Unknown field \"eda\" on type \"Query\"."),
            ("{ ada { names } }", "Unknown field \"names\" on type \"Person\". Did you mean \"name\"?"),
            ("{ all { name } }", "Unknown field \"name\" on type \"Any\"."),
            ("{ bob { age } }", "Unknown field \"age\" on type \"Named\"."),
            (
                "{ ada { ...P } } fragment P on Person { model }",
                "Unknown field \"model\" on type \"Person\".",
            ),
            ("{ ada { ... on Droid { name } } }", "Unknown type \"Droid\""),
            ("{ ada { ...P } }", "Unknown fragment: \"P\""),
            ("{ __typename } fragment P on Person { name }", "Fragment \"P\" is never used"),
            ("{ ada }", "Field \"ada\" of type \"Person\" must have a selection of subfields"),
            (
                "{ ada { age { name } } }",
                "Field \"age\" must not have a selection since type \"Int\" has no subfields",
            ),
            ("{ bob(on: 1) { name } }", "Unknown argument \"on\" on field \"bob\" of type \"Query\"."),
            ("{ bob(at: 1, at: 1) { name } }", "There can only be one argument named \"at\""),
            ("{ ada { __schema { description } } }", "Unknown field \"__schema\" on type \"Person\"."),
            (
                "{ __schema { directive } }",
                "Unknown field \"directive\" on type \"__Schema\". Did you mean \"directives\"?",
            ),
            ("{ __schema }", "Field \"__schema\" of type \"__Schema\" must have a selection of subfields"),
            (
                "{ __schema(a: 1) { description } }",
                "Unknown argument \"a\" on field \"__schema\" of type \"Query\".",
            ),
            (
                "{ __type(names: 1) { name } }",
                "Unknown argument \"names\" on field \"__type\" of type \"Query\". Did you mean \"name\"?",
            ),
            (
                "{ __typename { name } }",
                "Field \"__typename\" must not have a selection since type \"String\" has no subfields",
            ),
            (
                "{ ada { __typename(a: 1) } }",
                "Unknown argument \"a\" on field \"__typename\" of type \"Person\".",
            ),
        ] {
            assert_eq!(faults(document).first().map(String::as_str), Some(expected), "{document}");
        }
    }

    #[test]
    fn no_more_faults_are_told_than_anybody_reads() {
        let told = |count: usize| faults(&format!("{{ {} }}", "x ".repeat(count)));
        assert_eq!(told(FAULTS_MAX).len(), FAULTS_MAX);
        for told in [told(FAULTS_MAX + 1), told(1_990)] {
            assert_eq!(told.len(), FAULTS_MAX + 1);
            assert_eq!(told.last().map(String::as_str), Some("there are more errors: these are the first"));
        }
        let long = faults(&format!("{{ {} }}", "x".repeat(60_000)));
        assert!(long[0].len() < 200, "{long:?}");
    }
}
