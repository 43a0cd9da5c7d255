//! The types of the schema as data, read once from its definition language.
//!
//! The executor keeps its own registry to itself; coercion of variables and the hub's grouping need one they can read.

use std::collections::HashMap;

use async_graphql::{
    Name,
    parser::{
        parse_schema,
        types::{
            BaseType, FieldDefinition, InputValueDefinition, OperationType, Type, TypeDefinition, TypeKind,
            TypeSystemDefinition,
        },
    },
};

/// What every schema has besides its own types (GraphQL, 4.2).
const INTROSPECTION: &str = include_str!("typesystem/introspection.graphql");
/// Holds the meta-fields in there; no type of the specification's.
const META: &str = "__Meta";

/// The schema's own text cannot be read: a fault of the build.
#[derive(Debug, thiserror::Error)]
#[error("the schema definition cannot be read: {0}")]
pub struct TypeSystemError(#[from] async_graphql::parser::Error);

/// Every named type, by name.
#[derive(Debug)]
pub struct TypeSystem {
    types: HashMap<Name, TypeDefinition>,
    query: Name,
    mutation: Option<Name>,
    subscription: Option<Name>,
    extent: Extent,
}

/// How much an introspection has to tell: lengths of its lists, rounded up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    /// All types.
    pub types: u64,
    /// Fields of a type, on the average of all.
    pub fields: u64,
    /// Fields, input fields or values of the largest type.
    pub largest: u64,
}

impl Extent {
    fn of(types: &HashMap<Name, TypeDefinition>) -> Self {
        let (mut fields, mut largest) = (0, 0);
        for definition in types.values() {
            let (selected, listed) = match &definition.kind {
                TypeKind::Object(object) => (object.fields.len(), object.fields.len()),
                TypeKind::Interface(interface) => (interface.fields.len(), interface.fields.len()),
                TypeKind::InputObject(input) => (0, input.fields.len()),
                TypeKind::Enum(definition) => (0, definition.values.len()),
                TypeKind::Union(union) => (0, union.members.len()),
                TypeKind::Scalar => (0, 0),
            };
            fields += selected;
            largest = largest.max(listed);
        }
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let known = types.len().max(1);
        Self { types: count(known), fields: count(fields.div_ceil(known)), largest: count(largest) }
    }
}

impl TypeSystem {
    pub fn parse(sdl: &str) -> Result<Self, TypeSystemError> {
        let own = parse_schema(sdl)?.definitions;
        let mut types = HashMap::new();
        let mut roots = None;
        for definition in parse_schema(INTROSPECTION)?.definitions.into_iter().chain(own) {
            match definition {
                TypeSystemDefinition::Type(definition) => {
                    types.insert(definition.node.name.node.clone(), definition.node);
                }
                TypeSystemDefinition::Schema(schema) => roots = Some(schema.node),
                TypeSystemDefinition::Directive(_) => {}
            }
        }
        let (query, mutation, subscription) = match roots {
            Some(roots) => (roots.query, roots.mutation, roots.subscription),
            None => (None, None, None),
        };
        let known = |name: &str| types.contains_key(name).then(|| Name::new(name));
        Ok(Self {
            extent: Extent::of(&types),
            query: query.map_or_else(|| Name::new("Query"), |name| name.node),
            mutation: mutation.map(|name| name.node).or_else(|| known("Mutation")),
            subscription: subscription.map(|name| name.node).or_else(|| known("Subscription")),
            types,
        })
    }

    pub const fn extent(&self) -> Extent {
        self.extent
    }

    pub fn query(&self) -> &Name {
        &self.query
    }

    pub fn mutation(&self) -> Option<&Name> {
        self.mutation.as_ref()
    }

    pub fn subscription(&self) -> Option<&Name> {
        self.subscription.as_ref()
    }

    /// The root type of a kind of operation, if the schema has one.
    pub fn root(&self, kind: OperationType) -> Option<&Name> {
        match kind {
            OperationType::Query => Some(self.query()),
            OperationType::Mutation => self.mutation(),
            OperationType::Subscription => self.subscription(),
        }
    }

    /// A named type, those of introspection too; `None` for the built-in scalars and for what does not exist.
    pub fn get(&self, name: &str) -> Option<&TypeKind> {
        self.types.get(name).map(|definition| &definition.kind)
    }

    /// A field of an object or interface.
    pub fn field(&self, parent: &str, field: &str) -> Option<&FieldDefinition> {
        let fields = match self.get(parent)? {
            TypeKind::Object(object) => &object.fields,
            TypeKind::Interface(interface) => &interface.fields,
            _ => return None,
        };
        fields.iter().map(|definition| &definition.node).find(|definition| definition.name.node == *field)
    }

    /// A field of a type that has fields, or one of those that begin with `__`.
    pub fn selectable(&self, parent: &str, field: &str) -> Option<&FieldDefinition> {
        let is_meta = match field {
            "__typename" => self.is_composite(parent),
            "__schema" | "__type" => *parent == *self.query,
            _ => false,
        };
        self.field(if is_meta { META } else { parent }, field)
    }

    /// The names of an object's or interface's fields.
    pub fn field_names(&self, parent: &str) -> impl Iterator<Item = &str> {
        let fields = match self.get(parent) {
            Some(TypeKind::Object(object)) => object.fields.as_slice(),
            Some(TypeKind::Interface(interface)) => &interface.fields,
            _ => &[],
        };
        fields.iter().map(|field| field.node.name.node.as_str())
    }

    pub fn is_object(&self, name: &str) -> bool {
        matches!(self.get(name), Some(TypeKind::Object(_)))
    }

    /// Whether a type is selected from: an object, interface or union.
    pub fn is_composite(&self, name: &str) -> bool {
        use TypeKind::{Interface, Object, Union};
        matches!(self.get(name), Some(Object(_) | Interface(_) | Union(_)))
    }

    /// What a field answers with.
    pub fn field_type(&self, parent: &str, field: &str) -> Option<&Type> {
        self.field(parent, field).map(|definition| &definition.ty.node)
    }

    /// Fields of an input object, and whether exactly one of them must be given.
    pub fn input_fields(
        &self,
        name: &str,
    ) -> Option<(impl Iterator<Item = &InputValueDefinition> + Clone, bool)> {
        let definition = self.types.get(name)?;
        let TypeKind::InputObject(input) = &definition.kind else { return None };
        let one_of = definition.directives.iter().any(|directive| directive.node.name.node == *"oneOf");
        Some((input.fields.iter().map(|field| &field.node), one_of))
    }
}

/// The name of a type without its lists.
pub fn base_name(base: &BaseType) -> &Name {
    match base {
        BaseType::Named(name) => name,
        BaseType::List(item) => base_name(&item.base),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn introspection_is_what_the_executor_knows() {
        let types = TypeSystem::parse(&crate::schema::sdl()).expect("the schema");
        let of_type = "type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
        let document = format!(
            "{{ __schema {{ types {{ name fields {{ name {of_type} args {{ name {of_type} }} }} enumValues {{ name }} }} }} }}"
        );
        // Nothing but validation needs the domain.
        let answer = crate::schema::builder().finish().execute(document).await;
        let answer = serde_json::to_value(answer.data).expect("JSON");
        let listed = answer["__schema"]["types"].as_array().expect("types").iter();
        let of_introspection =
            listed.filter(|ty| ty["name"].as_str().is_some_and(|name| name.starts_with("__")));
        let mut seen = 0;
        for ty in of_introspection {
            let name = ty["name"].as_str().expect("a name");
            let known = types.get(name).unwrap_or_else(|| panic!("{name} is missing"));
            let ours = match known {
                TypeKind::Object(object) => object
                    .fields
                    .iter()
                    .map(|field| {
                        let arguments = field.node.arguments.iter().map(|argument| {
                            json!([argument.node.name.node.as_str(), argument.node.ty.node.to_string()])
                        });
                        json!([
                            field.node.name.node.as_str(),
                            field.node.ty.node.to_string(),
                            arguments.collect::<Value>()
                        ])
                    })
                    .collect::<Value>(),
                TypeKind::Enum(definition) => {
                    definition.values.iter().map(|value| value.node.value.node.as_str()).collect::<Value>()
                }
                _ => panic!("{name}"),
            };
            let theirs = match ty["fields"].as_array() {
                Some(fields) => fields
                    .iter()
                    .map(|field| {
                        let arguments = field["args"].as_array().expect("a list").iter();
                        let arguments =
                            arguments.map(|argument| json!([argument["name"], written(&argument["type"])]));
                        json!([field["name"], written(&field["type"]), arguments.collect::<Value>()])
                    })
                    .collect::<Value>(),
                None => {
                    let values = ty["enumValues"].as_array().expect("a list").iter();
                    values.map(|value| value["name"].clone()).collect()
                }
            };
            assert_eq!(ours, theirs, "{name}");
            seen += 1;
        }
        assert_eq!(seen, 8);
    }

    fn written(ty: &Value) -> String {
        match ty["kind"].as_str() {
            Some("NON_NULL") => format!("{}!", written(&ty["ofType"])),
            Some("LIST") => format!("[{}]", written(&ty["ofType"])),
            _ => ty["name"].as_str().unwrap_or_default().to_owned(),
        }
    }
}
