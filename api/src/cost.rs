//! What an operation may cost by its meaning: how many objects its answer can hold. Checked before any of it runs.
//!
//! An object counts one, a plain value nothing, and a write as much as the rows it takes. What is in a list counts as often as the list can
//! be long: the page size that the field above it was asked for (`first` or `last`, literal or from a variable), the length of
//! the list of ids that was given, or else a page's default. Fragments count where they are spread. An introspection reads no rows and has
//! bounds of its own ([`crate::guard`]), so each of its selections counts one. `@skip` and `@include` are not looked at.
//!
//! The same figure is there for budgets and for telling clients; who spends what is not decided here.

use std::collections::HashMap;

use async_graphql::{
    Name, Value, Variables,
    parser::types::{
        BaseType, ExecutableDocument, Field, FieldDefinition, OperationDefinition, Selection, SelectionSet,
    },
};
use domain::model::page::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};

use crate::typesystem::{TypeSystem, base_name};

/// A write locks a lane and some rows, and commits.
const MUTATION: u64 = 10;

/// Of an operation whose variables are coerced. The guard has bounded how deep this goes and how much there is of it.
pub fn cost(
    types: &TypeSystem,
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    variables: &Variables,
) -> u64 {
    let Some(root) = types.root(operation.ty) else { return 0 };
    let mut count = Count { types, document, variables, known: HashMap::new() };
    count.selection_set(&operation.selection_set.node, root).in_lists_of(unstated())
}

/// What a selection set costs: once, and again for each item of a page that the field above it was asked for.
#[derive(Clone, Copy, Default)]
struct Cost {
    once: u64,
    an_item: u64,
}

impl Cost {
    const fn in_lists_of(self, size: u64) -> u64 {
        self.once.saturating_add(self.an_item.saturating_mul(size))
    }

    const fn and(self, other: Self) -> Self {
        Self {
            once: self.once.saturating_add(other.once),
            an_item: self.an_item.saturating_add(other.an_item),
        }
    }
}

struct Count<'a> {
    types: &'a TypeSystem,
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    known: HashMap<&'a Name, Cost>,
}

impl<'a> Count<'a> {
    fn selection_set(&mut self, set: &'a SelectionSet, parent: &Name) -> Cost {
        let mut total = Cost::default();
        for selection in &set.items {
            let cost = match &selection.node {
                Selection::Field(field) => self.field(&field.node, parent),
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref().map(|condition| &condition.node.on.node);
                    self.selection_set(&fragment.node.selection_set.node, on.unwrap_or(parent))
                }
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node),
            };
            total = total.and(cost);
        }
        total
    }

    fn fragment(&mut self, name: &'a Name) -> Cost {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        // The validator says which fragment is unknown; the guard has refused those that contain themselves.
        let Some(fragment) = self.document.fragments.get(name) else { return Cost::default() };
        let on = &fragment.node.type_condition.node.on.node;
        let cost = self.selection_set(&fragment.node.selection_set.node, on);
        self.known.insert(name, cost);
        cost
    }

    fn field(&mut self, field: &'a Field, parent: &Name) -> Cost {
        let set = &field.selection_set.node;
        if matches!(&*field.name.node, "__schema" | "__type") {
            return Cost { once: 1 + self.selections(set), an_item: 0 };
        }
        // The validator says which field is unknown.
        let Some(definition) = self.types.field(parent, &field.name.node) else { return Cost::default() };
        if set.items.is_empty() {
            return Cost::default();
        }
        let ty = &definition.ty.node.base;
        let weight = if Some(parent) == self.types.mutation() { MUTATION } else { 1 };
        let below = self.selection_set(set, base_name(ty)).in_lists_of(self.page_size(field, definition));
        let cost = below.saturating_add(weight);
        match (ty, self.ids_given(field, definition)) {
            (BaseType::Named(_), _) => Cost { once: cost, an_item: 0 },
            (BaseType::List(_), Some(count)) => Cost { once: cost.saturating_mul(count), an_item: 0 },
            (BaseType::List(_), None) => Cost { once: 0, an_item: cost },
        }
    }

    fn selections(&self, set: &SelectionSet) -> u64 {
        set.items.iter().fold(0, |total, selection| {
            let below = match &selection.node {
                Selection::Field(field) => 1 + self.selections(&field.node.selection_set.node),
                Selection::InlineFragment(fragment) => self.selections(&fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => self
                    .document
                    .fragments
                    .get(&spread.node.fragment_name.node)
                    .map_or(0, |fragment| self.selections(&fragment.node.selection_set.node)),
            };
            below.saturating_add(total)
        })
    }

    /// How long a page is that a field was asked for. One that is out of range is refused by the field itself.
    fn page_size(&self, field: &Field, definition: &FieldDefinition) -> u64 {
        let stated = ["first", "last"].into_iter().filter(|name| has_argument(definition, name));
        let stated = stated.filter_map(|name| match self.argument(field, name)? {
            Value::Number(number) => number.as_i64(),
            _ => None,
        });
        let size = stated.max().map(|size| size.clamp(0, i64::from(PAGE_SIZE_MAX)));
        size.and_then(|size| u64::try_from(size).ok()).unwrap_or_else(unstated)
    }

    /// How many ids a field was given that answers with something for each.
    fn ids_given(&self, field: &Field, definition: &FieldDefinition) -> Option<u64> {
        let ids = definition
            .arguments
            .iter()
            .find(|argument| matches!(argument.node.ty.node.base, BaseType::List(_)))?;
        match self.argument(field, &ids.node.name.node)? {
            Value::List(ids) => u64::try_from(ids.len()).ok(),
            // A single value stands for a list of one.
            _ => Some(1),
        }
    }

    fn argument(&self, field: &Field, name: &str) -> Option<Value> {
        let value = field.get_argument(name)?.node.clone();
        value
            .into_const_with(|variable| {
                Ok::<_, std::convert::Infallible>(self.variables.get(&variable).cloned().unwrap_or_default())
            })
            .ok()
    }
}

fn unstated() -> u64 {
    u64::from(PAGE_SIZE_DEFAULT.unsigned_abs())
}

fn has_argument(definition: &FieldDefinition, name: &str) -> bool {
    definition.arguments.iter().any(|argument| argument.node.name.node == *name)
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;
    use crate::coercion::coerce_variables;

    fn of(document: &str, variables: serde_json::Value) -> u64 {
        let types = TypeSystem::parse(&crate::schema::sdl()).expect("the schema");
        let parsed = parse_query(document).expect("GraphQL");
        let (_, operation) = parsed.operations.iter().next().expect("an operation");
        let variables = coerce_variables(&types, &operation.node, Variables::from_json(variables));
        cost(&types, &parsed, &operation.node, &variables.expect("good variables"))
    }

    #[test]
    fn objects_count_as_often_as_their_lists_are_long() {
        for (document, expected) in [
            ("{ __typename }", 0),
            ("{ viewer { id username } }", 1),
            ("{ conversations { nodes { id } } }", 1 + 20),
            ("{ conversations(first: 50) { nodes { id title } pageInfo { endCursor } } }", 1 + 50 + 1),
            ("{ conversations(last: 7) { edges { node { id } } } }", 1 + 7 * 2),
            ("{ conversations(first: 50) { nodes { id } edges { node { id } } } }", 1 + 50 + 50 * 2),
            (
                "{ conversations(first: 10) { nodes { messages(last: 100) { nodes { id } } } } }",
                1 + 10 * (1 + 1 + 100),
            ),
            ("{ nodes(ids: [\"a\", \"b\", \"c\"]) { id } }", 3),
            ("{ sessions { id } }", 20),
            ("mutation { signOut(input: {}) { userErrors { code } } }", 10 + 20),
            ("subscription { events { ... on MessageSent { message { sender { id } } } } }", 1 + 1 + 1),
        ] {
            assert_eq!(of(document, json!({})), expected, "{document}");
        }
    }

    #[test]
    fn sizes_are_read_from_variables_and_their_defaults() {
        let document = "query($n: Int = 30, $m: Int) { conversations(first: $n) { nodes { members(first: $m) { nodes { id } } } } }";
        assert_eq!(of(document, json!({})), 1 + 30 * (1 + 1 + 20));
        assert_eq!(of(document, json!({ "n": 2, "m": 3 })), 1 + 2 * (1 + 1 + 3));
        // Refused by the field, with a code of its own.
        assert_eq!(of(document, json!({ "n": 2_000_000_000, "m": -1 })), 1 + 100 * (1 + 1));
    }

    #[test]
    fn a_fragment_counts_wherever_it_is_spread_and_knows_the_page_around_it() {
        let document = "{ a: conversations(first: 5) { ...Page } b: conversations(first: 50) { ...Page } }
            fragment Page on ConversationConnection { nodes { ...Node } pageInfo { endCursor } }
            fragment Node on Conversation { lastMessage { id } }";
        assert_eq!(of(document, json!({})), (1 + 5 * 2 + 1) + (1 + 50 * 2 + 1));
    }

    #[test]
    fn what_clients_usually_ask_is_far_below_the_bound() {
        let max = crate::guard::Limits::default().cost_max;
        let person = json!({ "username": "a", "password": "b", "displayName": "c" });
        let variables = json!({
            "ada": person, "bob": person, "username": "a", "password": "b", "userId": "u", "memberIds": ["u"], "title": "t",
            "conversationId": "c", "clientMessageId": "k", "text": "t", "seq": 1,
        });
        let examples = [
            include_str!("../explorer/src/examples/Register.graphql"),
            include_str!("../explorer/src/examples/SignIn.graphql"),
            include_str!("../explorer/src/examples/Conversation.graphql"),
            include_str!("../explorer/src/examples/Send.graphql"),
            include_str!("../explorer/src/examples/Read.graphql"),
            include_str!("../explorer/src/examples/MarkRead.graphql"),
            include_str!("../explorer/src/examples/Live.graphql"),
        ];
        for example in examples {
            let document = parse_query(example).expect("GraphQL");
            let declared = document.operations.iter().flat_map(|(_, one)| &one.node.variable_definitions);
            let wanted: serde_json::Map<_, _> = declared
                .filter_map(|one| {
                    variables
                        .get(&*one.node.name.node)
                        .map(|value| (one.node.name.node.to_string(), value.clone()))
                })
                .collect();
            assert!(of(example, wanted.into()) <= max / 50, "{example}");
        }
        // The two pages of the benchmark B11, and what a client with much on its screen asks for.
        let message = "seq content { ... on TextContent { text } } sender { id displayName }";
        let list = |first: u32, more: &str| {
            format!(
                "{{ conversations(first: {first}) {{ nodes {{ id unreadCount lastMessage {{ {message} }}
                members(first: 10) {{ nodes {{ user {{ id }} }} }} {more} }} }} }}"
            )
        };
        let history = format!(
            "{{ conversation(id: \"c\") {{ messages(last: 100) {{ nodes {{ {message} }} edges {{ cursor }} }} }} }}"
        );
        let with_messages = format!("messages(last: 20) {{ nodes {{ {message} }} }}");
        for document in [list(50, ""), history, list(100, ""), list(50, &with_messages)] {
            assert!(of(&document, json!({})) <= max / 2, "{document}");
        }
    }

    #[test]
    fn no_number_is_too_large_to_count() {
        let down = "messages(last: 100) { nodes { conversation { ".repeat(12);
        let document = format!("{{ conversation(id: \"c\") {{ {down} id {} }} }}", "} } }".repeat(12));
        assert_eq!(of(&document, json!({})), u64::MAX);
    }
}
