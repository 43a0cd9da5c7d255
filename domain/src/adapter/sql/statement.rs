//! A statement under construction: text with placeholders, and the values bound to them.

use sea_orm::{ConnectionTrait, ExecResult, QueryResult, Statement, Value};

use super::dialect::{Dialect, store_error};
use crate::port::StoreError;

pub(super) struct Sql {
    dialect: Dialect,
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub fn new(dialect: Dialect, text: &str) -> Self {
        Self { dialect, text: text.to_owned(), values: Vec::new() }
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
        self.values.push(value);
        self.dialect.placeholder(&mut self.text, self.values.len());
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
        let bound = rows.size_hint().0 * N;
        self.values.reserve(bound);
        self.text.reserve(bound * 3);
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

    fn finish(self) -> Statement {
        Statement::from_sql_and_values(self.dialect.backend(), self.text, self.values)
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

/// The digits of a literal of bytes.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    text.reserve(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0xf));
    }
}
