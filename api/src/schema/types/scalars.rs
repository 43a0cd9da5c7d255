//! Scalars beyond GraphQL's own.

use std::sync::Arc;

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use domain::Timestamp;

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime(pub Timestamp);

/// A point in time in RFC 3339, always in UTC and with milliseconds: `2026-01-31T12:00:00.000Z`.
#[Scalar(specified_by_url = "https://scalars.graphql.org/andimarek/date-time.html")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = value else { return Err(InputValueError::expected_type(value)) };
        let time: jiff::Timestamp = text.parse().map_err(|_| InputValueError::custom("not in RFC 3339"))?;
        Ok(Self(Timestamp::from_micros(time.as_microsecond())))
    }

    fn to_value(&self) -> Value {
        let time = jiff::Timestamp::from_millisecond(self.0.millis()).unwrap_or_default();
        Value::String(format!("{time:.3}"))
    }
}

impl From<Timestamp> for DateTime {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

/// A position in a subscription, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCursor(pub Arc<str>);

/// A position in the stream of events: opaque, signed, about 100 characters, good on every server. It says how far a
/// subscription has come and gives no access: whoever presents it sees only what they may see. It is no paging cursor.
#[Scalar]
impl ScalarType for EventCursor {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(text.into())),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}
