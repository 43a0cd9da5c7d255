//! Variables against the types an operation declares for them, before any of it runs.
//!
//! The executor looks at a variable only where it is used, so that a mutation whose second field lacks one has run its
//! first. [`coerce_variables`] is `CoerceVariableValues` of the specification; [`check_arguments`] goes on to where
//! variables are used inside literals. What custom scalars accept is for their resolvers to say.

mod arguments;
mod value;

use async_graphql::{
    Name, Value, Variables,
    parser::types::{OperationDefinition, Type},
};

pub use self::arguments::check_arguments;
use self::value::coerce;
use crate::{refusal::Refusal, typesystem::TypeSystem};

/// The declared variables with their defaults, in the form the executor reads. Undeclared ones are left out.
pub fn coerce_variables(
    types: &TypeSystem,
    operation: &OperationDefinition,
    mut given: Variables,
) -> Result<Variables, Vec<Refusal>> {
    let mut coerced = Variables::default();
    let mut refusals = Vec::new();
    for definition in &operation.variable_definitions {
        let name = &definition.node.name.node;
        let ty = &definition.node.var_type.node;
        let default = definition.node.default_value.as_ref().map(|value| &value.node);
        match variable(types, name, ty, given.remove(name), default) {
            Ok(Some(value)) => drop(coerced.insert(name.clone(), value)),
            Ok(None) => {}
            Err(message) => refusals.push(Refusal::bad_request(message).at(definition.pos)),
        }
    }
    if refusals.is_empty() { Ok(coerced) } else { Err(refusals) }
}

fn variable(
    types: &TypeSystem,
    name: &Name,
    ty: &Type,
    given: Option<Value>,
    default: Option<&Value>,
) -> Result<Option<Value>, String> {
    match (given, default) {
        (None, Some(default)) => Ok(Some(default.clone())),
        (None, None) if ty.nullable => Ok(None),
        (None, None) => Err(format!("the variable \"${name}\" of type \"{ty}\" is required")),
        (Some(value), _) => coerce(types, ty, value)
            .map(Some)
            .map_err(|mismatch| format!("the variable \"${name}\" got an invalid value: {mismatch}")),
    }
}
