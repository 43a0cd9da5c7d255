//! One value against one type.

use std::fmt;

use async_graphql::{
    Name, Number, Value,
    parser::types::{BaseType, Type, TypeKind},
};

use crate::typesystem::TypeSystem;

/// What is wrong with a value, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    message: String,
    /// Innermost first.
    path: Vec<String>,
}

impl Mismatch {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), path: Vec::new() }
    }

    fn inside(mut self, step: impl Into<String>) -> Self {
        self.path.push(step.into());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
            write!(f, "at \"{}\": ", path.join("."))?;
        }
        f.write_str(&self.message)
    }
}

/// The value in the form the executor reads, or what is wrong with it. Bounded by the nesting of the value.
pub(super) fn coerce(types: &TypeSystem, ty: &Type, value: Value) -> Result<Value, Mismatch> {
    if value == Value::Null {
        return match ty.nullable {
            true => Ok(Value::Null),
            false => Err(Mismatch::new(format!("\"{ty}\" must not be null"))),
        };
    }
    match &ty.base {
        BaseType::List(item) => match value {
            Value::List(items) => {
                let items = items.into_iter().enumerate().map(|(index, value)| {
                    coerce(types, item, value).map_err(|mismatch| mismatch.inside(index.to_string()))
                });
                Ok(Value::List(items.collect::<Result<_, _>>()?))
            }
            single => Ok(Value::List(vec![coerce(types, item, single)?])),
        },
        BaseType::Named(name) => named(types, name, value),
    }
}

fn named(types: &TypeSystem, name: &Name, value: Value) -> Result<Value, Mismatch> {
    match (name.as_str(), types.get(name)) {
        ("Int", _) => integer(&value),
        ("Float", _) => matching(value, "Float", |value| matches!(value, Value::Number(_))),
        ("String", _) => matching(value, "String", |value| matches!(value, Value::String(_))),
        ("Boolean", _) => matching(value, "Boolean", |value| matches!(value, Value::Boolean(_))),
        ("ID", _) => id(value),
        (_, Some(TypeKind::Enum(definition))) => {
            let given = match &value {
                Value::String(text) => text.as_str(),
                Value::Enum(name) => name.as_str(),
                _ => return Err(Mismatch::new(format!("\"{name}\" expects one of its names"))),
            };
            if definition.values.iter().any(|item| item.node.value.node == *given) {
                return Ok(value);
            }
            Err(Mismatch::new(format!("\"{name}\" has no value \"{}\"", brief(given))))
        }
        (_, Some(TypeKind::InputObject(_))) => object(types, name, value),
        // Custom scalars read their own values; what does not exist is for the validator to say.
        _ => Ok(value),
    }
}

fn matching(value: Value, name: &str, fits: fn(&Value) -> bool) -> Result<Value, Mismatch> {
    if fits(&value) { Ok(value) } else { Err(expected(name)) }
}

fn expected(name: &str) -> Mismatch {
    Mismatch::new(format!("\"{name}\" expected"))
}

/// Integral numbers of 32 bits, however they are written.
fn integer(value: &Value) -> Result<Value, Mismatch> {
    let Value::Number(number) = value else { return Err(expected("Int")) };
    #[expect(clippy::cast_possible_truncation, reason = "only integral values in range are used")]
    let integral = number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        let fits = float.fract() == 0.0 && float.abs() <= 2_147_483_648.0;
        fits.then_some(float as i64)
    });
    match integral.and_then(|integral| i32::try_from(integral).ok()) {
        Some(integral) => Ok(Value::Number(Number::from(integral))),
        None => Err(Mismatch::new("\"Int\" expected: a whole number of 32 bits")),
    }
}

fn id(value: Value) -> Result<Value, Mismatch> {
    match value {
        Value::String(_) => Ok(value),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(Value::String(number.to_string())),
        _ => Err(expected("ID")),
    }
}

fn object(types: &TypeSystem, name: &Name, value: Value) -> Result<Value, Mismatch> {
    let Value::Object(mut given) = value else { return Err(expected(name)) };
    let Some((fields, one_of)) = types.input_fields(name) else { return Ok(Value::Object(given)) };
    for key in given.keys() {
        if !fields.clone().any(|field| field.name.node == *key) {
            return Err(Mismatch::new(format!("\"{name}\" has no field \"{}\"", brief(key))));
        }
    }
    if one_of && (given.len() != 1 || given.values().any(|value| *value == Value::Null)) {
        return Err(Mismatch::new(format!("\"{name}\" takes exactly one of its fields, not null")));
    }
    for field in fields {
        let key = &field.name.node;
        match given.get_mut(key) {
            Some(slot) => {
                let value = std::mem::take(slot);
                *slot =
                    coerce(types, &field.ty.node, value).map_err(|mismatch| mismatch.inside(key.as_str()))?;
            }
            None if !field.ty.node.nullable && field.default_value.is_none() => {
                return Err(Mismatch::new(format!("\"{name}\" requires \"{key}\"")));
            }
            None => {}
        }
    }
    Ok(Value::Object(given))
}

/// Enough of what a client sent to recognise it.
fn brief(text: &str) -> String {
    text.chars().take(32).collect()
}
