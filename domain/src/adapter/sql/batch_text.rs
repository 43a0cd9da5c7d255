//! The messages of a batch and the heads of their conversations, in one exchange with MySQL or `MariaDB`: that of the transaction's
//! beginning, where nothing had to be read first.
//!
//! Both go as text. Prepared statements would be two exchanges or three, and one to prepare each size of batch that comes up.

use std::{fmt::Write as _, sync::Arc};

use sea_orm::{ConnectionTrait, Value};

use super::{
    dialect::store_error,
    opening::Opening,
    rows::{HEAD, head_values, message_columns, message_values},
    statement::push_hex,
};
use crate::{Conversation, Message, port::StoreError};

/// The other columns of a conversation that have no default, and any values for them: MySQL asks for them though the row exists.
const UNUSED: (&str, &str) =
    ("kind, created_at, lane, title_pos, title_rev, creator_id, request_hash", "0, 0, 0, 0, 0, 0, ''");

/// Fails when a head is missing.
pub(super) async fn write(
    on: &impl ConnectionTrait,
    opening: Option<Opening>,
    messages: &[Arc<Message>],
    heads: &[Conversation],
) -> Result<(), StoreError> {
    let mut text = String::new();
    insert(&mut text, messages)?;
    overwrite(&mut text, heads)?;
    // A row that was there and changed counts 2, one that was inserted 1: so a head that was missing is told, as every head changes.
    let expected = messages.len() + 2 * heads.len();
    // Also when there is nothing to write: what a batch refuses, or answers without a change, holds only if nobody else has committed.
    if let Some(opening) = opening {
        return opening.send_with(on, &text, expected).await;
    }
    if text.is_empty() {
        return Ok(());
    }
    let done = on.execute_unprepared(&text).await.map_err(store_error)?;
    if usize::try_from(done.rows_affected()) == Ok(expected) {
        return Ok(());
    }
    let (messages, heads, found) = (messages.len(), heads.len(), done.rows_affected());
    Err(StoreError::Fault(format!("of {messages} messages and {heads} heads {found} were written").into()))
}

fn insert(text: &mut String, messages: &[Arc<Message>]) -> Result<(), StoreError> {
    if messages.is_empty() {
        return Ok(());
    }
    let _ = write!(text, "INSERT INTO message ({}) VALUES ", message_columns());
    for (index, message) in messages.iter().enumerate() {
        text.push_str(if index > 0 { ",(" } else { "(" });
        push_values(text, &message_values(message)?)?;
        text.push(')');
    }
    text.push(';');
    Ok(())
}

/// Half the work of an UPDATE with a join, which writes a temporary table first. The caller holds the rows' lane and has seen them.
fn overwrite(text: &mut String, heads: &[Conversation]) -> Result<(), StoreError> {
    if heads.is_empty() {
        return Ok(());
    }
    let (unused, fillers) = UNUSED;
    let names = HEAD.map(|(name, _)| name).join(", ");
    let _ = write!(text, "INSERT INTO conversation ({names}, {unused}) VALUES ");
    for (index, head) in heads.iter().enumerate() {
        text.push_str(if index > 0 { ",(" } else { "(" });
        push_values(text, &head_values(head))?;
        let _ = write!(text, ",{fillers})");
    }
    let values = HEAD[1..].iter().map(|(name, _)| format!("{name} = VALUES({name})"));
    let _ = write!(text, " ON DUPLICATE KEY UPDATE {}", values.collect::<Vec<_>>().join(", "));
    Ok(())
}

/// Text and bytes go by their digits, so that nothing in them can end the literal.
fn push_values(text: &mut String, values: &[Value]) -> Result<(), StoreError> {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let integer = match value {
            Value::SmallInt(value) => value.map(i64::from),
            Value::Int(value) => value.map(i64::from),
            Value::BigInt(value) => *value,
            Value::Bytes(None) | Value::String(None) => None,
            Value::Bytes(Some(bytes)) => {
                push_digits(text, "x'", bytes);
                continue;
            }
            Value::String(Some(value)) => {
                push_digits(text, "_utf8mb4 x'", value.as_bytes());
                continue;
            }
            _ => return Err(StoreError::Fault("a batch has a value without a literal".into())),
        };
        match integer {
            Some(integer) => drop(write!(text, "{integer}")),
            None => text.push_str("NULL"),
        }
    }
    Ok(())
}

fn push_digits(text: &mut String, opening: &str, bytes: &[u8]) {
    text.push_str(opening);
    push_hex(text, bytes);
    text.push('\'');
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
        let mut text = String::new();
        push_values(&mut text, &values).expect("each has a literal");
        let expected = "_utf8mb4 x'69742773205c2022203b202d2d0020f09f9880',\
            x'273b20434f4d4d4954',-9223372036854775808,-7,2,NULL,NULL";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_value_without_a_literal_is_told_of() {
        assert!(push_values(&mut String::new(), &[1.5.into()]).is_err());
    }
}
