//! What an operation may cost by its meaning: how many objects its answer can hold. Checked before any of it runs.
//!
//! An object counts one, a plain value nothing unless rows are read for it alone, and a write as much as the rows it takes. What is in a list counts as often as the list can
//! be long: the page size that the field above it was asked for (`first` or `last`, literal or from a variable), the length of
//! the list of ids that was given, or else a page's default. Fragments count where they are spread. An introspection reads no rows, and
//! so many of its values count one as take the time of an object; its lists are as long as the schema has types and fields. `@skip` and `@include` are not looked at.
//!
//! The same figure is there for budgets and for telling clients; who spends what is not decided here.

use std::{cell::Cell, collections::HashMap};

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

/// Plain values for which rows are read, and how many: all conversations in which the viewer has something unread, which for most are
/// as many as a page has.
const READS: &[(&str, &str, u64)] = &[("User", "totalUnreadCount", 20)];

/// Values of an introspection that take as long as an object from a database: some 0.5 µs against 5 to 12 µs.
const INTROSPECTED_FOR_ONE: u64 = 20;

/// Wrappers that a type of this schema has at most: `[Item!]!`.
const WRAPPERS_MAX: u32 = 3;

/// Those of the specification.
const DIRECTIVES: u64 = 5;

/// Of an operation whose variables are coerced. The guard has bounded how deep this goes and how much there is of it.
pub fn cost(
    types: &TypeSystem,
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    variables: &Variables,
) -> Counted {
    let Some(root) = types.root(operation.ty) else { return Counted { cost: 0, is_fixed: true } };
    let mut count = Count { types, document, variables, known: HashMap::new(), is_fixed: Cell::new(true) };
    let cost = count.selection_set(&operation.selection_set.node, root).in_lists_of(unstated());
    Counted { cost, is_fixed: count.is_fixed.get() }
}

/// What an operation costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub cost: u64,
    /// Whether it costs the same with any other variables: no page size and no list of ids comes from one.
    pub is_fixed: bool,
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
    is_fixed: Cell<bool>,
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
            let values = self.introspected(set, self.types.extent().largest, WRAPPERS_MAX);
            return Cost { once: 1 + values / INTROSPECTED_FOR_ONE, an_item: 0 };
        }
        // The validator says which field is unknown.
        let Some(definition) = self.types.field(parent, &field.name.node) else { return Cost::default() };
        if set.items.is_empty() {
            return Cost { once: rows_read(parent, &field.name.node), an_item: 0 };
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

    /// Values that an introspection answers with. `fields` is how many a type has here: the largest one's, where one type was asked
    /// for, and else the average.
    fn introspected(&self, set: &SelectionSet, fields: u64, wrappers: u32) -> u64 {
        let extent = self.types.extent();
        set.items.iter().fold(0, |total: u64, selection| {
            let values = match &selection.node {
                Selection::Field(field) => {
                    let set = &field.node.selection_set.node;
                    let (length, fields, wrappers) = match &*field.node.name.node {
                        "ofType" if wrappers == 0 => (0, fields, 0),
                        "ofType" => (1, fields, wrappers - 1),
                        "types" => (extent.types, extent.fields, WRAPPERS_MAX),
                        "fields" | "inputFields" | "enumValues" | "possibleTypes" | "interfaces" => {
                            (fields, extent.fields, WRAPPERS_MAX)
                        }
                        "directives" => (DIRECTIVES, fields, WRAPPERS_MAX),
                        _ => (1, fields, WRAPPERS_MAX),
                    };
                    length.saturating_mul(1 + self.introspected(set, fields, wrappers))
                }
                Selection::InlineFragment(fragment) => {
                    self.introspected(&fragment.node.selection_set.node, fields, wrappers)
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.node.fragment_name.node);
                    fragment.map_or(0, |fragment| {
                        self.introspected(&fragment.node.selection_set.node, fields, wrappers)
                    })
                }
            };
            total.saturating_add(values)
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
                self.is_fixed.set(false);
                Ok::<_, std::convert::Infallible>(self.variables.get(&variable).cloned().unwrap_or_default())
            })
            .ok()
    }
}

fn unstated() -> u64 {
    u64::from(PAGE_SIZE_DEFAULT.unsigned_abs())
}

fn rows_read(parent: &str, field: &str) -> u64 {
    READS.iter().find(|(ty, name, _)| *ty == parent && *name == field).map_or(0, |(_, _, rows)| *rows)
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
        let counted = cost(&types, &parsed, &operation.node, &variables.expect("good variables"));
        assert_eq!(
            counted.is_fixed,
            !document.contains("(first: $") && !document.contains("(ids: $"),
            "{document}"
        );
        counted.cost
    }

    #[test]
    fn objects_count_as_often_as_their_lists_are_long() {
        for (document, expected) in [
            ("{ __typename }", 0),
            ("{ viewer { id username } }", 1),
            ("{ viewer { id totalUnreadCount } }", 1 + 20),
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
        let document = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }";
        assert_eq!(of(document, json!({ "ids": ["a", "b"] })), 2);
        // A variable that is no size changes nothing.
        assert_eq!(of("query($id: ID!) { conversation(id: $id) { id } }", json!({ "id": "a" })), 1);
    }

    #[test]
    fn sizes_out_of_range_count_as_the_nearest_that_is_not() {
        let document = "query($n: Int = 30, $m: Int) { conversations(first: $n) { nodes { members(first: $m) { nodes { id } } } } }";
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

    /// As `getIntrospectionQuery` of graphql-js writes it, with all that it can ask for; other tools ask for less.
    const STANDARD: &str = "query IntrospectionQuery { __schema { description queryType { name } mutationType { name }
        subscriptionType { name } types { ...FullType }
        directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } } } }
        fragment FullType on __Type { kind name description specifiedByURL isOneOf
            fields(includeDeprecated: true) { name description args(includeDeprecated: true) { ...InputValue }
                type { ...TypeRef } isDeprecated deprecationReason }
            inputFields(includeDeprecated: true) { ...InputValue } interfaces { ...TypeRef }
            enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
            possibleTypes { ...TypeRef } }
        fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated deprecationReason }
        fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
            ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } } }";

    #[test]
    fn an_introspection_costs_what_it_takes() {
        let max = crate::guard::Limits::default().cost_max;
        let standard = of(STANDARD, json!({}));
        assert!((100..max / 5).contains(&standard), "{standard}");
        let aliased = |count: usize, inner: &str| {
            let fields: String = (0..count)
                .flat_map(|index| ["a", &"b".repeat(index), ": ", inner, " "].map(str::to_owned))
                .collect();
            of(&format!("{{ {fields} }}"), json!({}))
        };
        // 36 ms, as measured; an object from a database takes 5 to 12 µs.
        let typed = aliased(50, "__schema { types { fields { type { name ofType { name } } } } }");
        assert!((3_000..8_000).contains(&typed), "{typed}");
        assert!(aliased(50, "__schema { types { name } }") > 500);
        assert!(
            aliased(50, "__type(name: \"Limits\") { fields { name args { name } type { name } } }") > 150
        );
        // Values asked for again are answered again.
        let again = format!("{{ __schema {{ types {{ {} }} }} }}", "name ".repeat(1_900));
        assert!(of(&again, json!({})) > 5_000);
        assert!(
            aliased(
                50,
                "__schema { types { name fields { name args { name type { kind name } } type { kind name ofType { kind name } } } } }"
            ) > max
        );
        assert_eq!(aliased(1, "__type(name: \"User\") { name }"), 1);
    }

    #[test]
    fn no_number_is_too_large_to_count() {
        let down = "messages(last: 100) { nodes { conversation { ".repeat(12);
        let document = format!("{{ conversation(id: \"c\") {{ {down} id {} }} }}", "} } }".repeat(12));
        assert_eq!(of(&document, json!({})), u64::MAX);
    }
}
