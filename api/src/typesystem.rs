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
}

impl TypeSystem {
    pub fn parse(sdl: &str) -> Result<Self, TypeSystemError> {
        let document = parse_schema(sdl)?;
        let mut types = HashMap::new();
        let mut roots = None;
        for definition in document.definitions {
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
            query: query.map_or_else(|| Name::new("Query"), |name| name.node),
            mutation: mutation.map(|name| name.node).or_else(|| known("Mutation")),
            subscription: subscription.map(|name| name.node).or_else(|| known("Subscription")),
            types,
        })
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

    /// A named type; `None` for the built-in scalars and for what does not exist.
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
