//! A statement under construction: text with placeholders, and the values bound to them; or, for several statements in one exchange,
//! text alone.

use std::fmt::Write as _;

use sea_orm::{ConnectionTrait, ExecResult, QueryResult, Statement, Value};

use super::dialect::{Dialect, store_error};
use crate::port::StoreError;

pub(super) struct Sql {
    dialect: Dialect,
    text: String,
    values: Values,
}

enum Values {
    Bound(Vec<Value>),
    /// Written into the text. `Err` names one that has no literal here.
    Literal(Result<(), String>),
}

impl Sql {
    pub fn new(dialect: Dialect, text: &str) -> Self {
        Self { dialect, text: text.to_owned(), values: Values::Bound(Vec::new()) }
    }

    /// Text alone, as MySQL and `MariaDB` read it.
    pub fn of_literals(text: &str) -> Self {
        Self { dialect: Dialect::MySql, text: text.to_owned(), values: Values::Literal(Ok(())) }
    }

    #[must_use]
    pub fn push(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.bind_value(value.into());
        self
    }

    fn bind_value(&mut self, value: Value) {
        match &mut self.values {
            Values::Bound(values) => {
                values.push(value);
                self.dialect.placeholder(&mut self.text, values.len());
            }
            Values::Literal(written) => {
                if let Err(none) = push_literal(&mut self.text, &value) {
                    *written = Err(none);
                }
            }
        }
    }

    /// `(?, ?, …)`. Lists are padded to a power of two with their last value, so that few distinct texts fill the
    /// connections' statement caches.
    #[must_use]
    pub fn list<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Self {
        self.tuples(values.into_iter().map(|value| [value.into()]))
    }

    /// `((?, ?), (?, ?), …)`, padded like [`Sql::list`].
    #[must_use]
    pub fn tuples<const N: usize>(mut self, tuples: impl IntoIterator<Item = [Value; N]>) -> Self {
        let mut tuples: Vec<[Value; N]> = tuples.into_iter().collect();
        let padded = tuples.len().next_power_of_two();
        if let Some(last) = tuples.last().cloned() {
            tuples.resize(padded, last);
        }
        self.text.push('(');
        for (index, tuple) in tuples.into_iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            self.tuple(tuple);
        }
        self.text.push(')');
        self
    }

    /// `(?, ?), (?, ?), …` for `VALUES`, not padded.
    #[must_use]
    pub fn rows<const N: usize>(mut self, rows: impl IntoIterator<Item = [Value; N]>) -> Self {
        let rows = rows.into_iter();
        let count = rows.size_hint().0 * N;
        if let Values::Bound(values) = &mut self.values {
            values.reserve(count);
        }
        self.text.reserve(count * 3);
        for (index, row) in rows.enumerate() {
            self.text.push_str(if index > 0 { ",(" } else { "(" });
            self.values_of(row);
            self.text.push(')');
        }
        self
    }

    fn tuple<const N: usize>(&mut self, tuple: [Value; N]) {
        if N == 1 {
            self.values_of(tuple);
        } else {
            self.text.push('(');
            self.values_of(tuple);
            self.text.push(')');
        }
    }

    pub(super) fn values_of<const N: usize>(&mut self, values: [Value; N]) {
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            self.bind_value(value);
        }
    }

    /// The text of one whose values are literals.
    pub fn into_text(self) -> Result<String, StoreError> {
        match self.values {
            Values::Literal(Ok(())) => Ok(self.text),
            Values::Literal(Err(none)) => {
                Err(StoreError::Fault(format!("{none} has no literal here").into()))
            }
            Values::Bound(_) => Err(StoreError::Fault("its values are bound".into())),
        }
    }

    fn finish(self) -> Statement {
        let values = match self.values {
            Values::Bound(values) => values,
            Values::Literal(_) => Vec::new(),
        };
        Statement::from_sql_and_values(self.dialect.backend(), self.text, values)
    }

    pub async fn all(self, on: &impl ConnectionTrait) -> Result<Vec<QueryResult>, StoreError> {
        on.query_all_raw(self.finish()).await.map_err(store_error)
    }

    /// As [`Sql::all`], but no statement and no rows when there is nothing to ask for.
    pub async fn all_or_none(
        self,
        on: &impl ConnectionTrait,
        nothing: bool,
    ) -> Result<Vec<QueryResult>, StoreError> {
        if nothing { Ok(Vec::new()) } else { self.all(on).await }
    }

    pub async fn one(self, on: &impl ConnectionTrait) -> Result<Option<QueryResult>, StoreError> {
        on.query_one_raw(self.finish()).await.map_err(store_error)
    }

    pub async fn run(self, on: &impl ConnectionTrait) -> Result<ExecResult, StoreError> {
        on.execute_raw(self.finish()).await.map_err(store_error)
    }
}

/// Text and bytes go by their digits, so that nothing in them can end the literal.
fn push_literal(text: &mut String, value: &Value) -> Result<(), String> {
    let mut integer = |value: Option<i64>| match value {
        Some(value) => drop(write!(text, "{value}")),
        None => text.push_str("NULL"),
    };
    match value {
        Value::SmallInt(value) => integer(value.map(i64::from)),
        Value::Int(value) => integer(value.map(i64::from)),
        Value::BigInt(value) => integer(*value),
        Value::Bytes(None) | Value::String(None) => text.push_str("NULL"),
        Value::Bytes(Some(bytes)) => push_quoted(text, "x'", bytes),
        Value::String(Some(value)) => push_quoted(text, "_utf8mb4 x'", value.as_bytes()),
        other => return Err(format!("{other:?}")),
    }
    Ok(())
}

fn push_quoted(text: &mut String, opening: &str, bytes: &[u8]) {
    text.push_str(opening);
    push_hex(text, bytes);
    text.push('\'');
}

/// The digits of a literal of bytes.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    text.reserve(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0xf));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_can_end_its_literal() {
        let values: [Value; 7] = [
            "it's \\ \" ; --\0 \u{1f600}".to_owned().into(),
            Value::from(b"'; COMMIT".to_vec()),
            i64::MIN.into(),
            (-7).into(),
            2_i16.into(),
            None::<String>.into(),
            None::<i64>.into(),
        ];
        let text = Sql::of_literals("VALUES ").rows([values]).into_text().expect("each has a literal");
        let expected = "VALUES (_utf8mb4 x'69742773205c2022203b202d2d0020f09f9880',\
            x'273b20434f4d4d4954',-9223372036854775808,-7,2,NULL,NULL)";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_value_without_a_literal_is_told_of() {
        assert!(Sql::of_literals("SELECT ").bind(1.5).into_text().is_err());
        assert!(Sql::new(Dialect::MySql, "SELECT ").bind(1).into_text().is_err());
    }
}
