//! What a batch writes, as text for MySQL or `MariaDB`: several statements in one exchange, each with a `;` at its end.
//!
//! Prepared statements would be two exchanges or three, and one to prepare each size of batch that comes up.

use std::{fmt::Write as _, sync::Arc};

use sea_orm::Value;

use super::{
    dialect::{RowUpdate, lane_number},
    exchange::expect_rows,
    rows::{HEAD, head_values, id_value, message_columns, message_values},
    statement::push_hex,
};
use crate::{Conversation, LaneId, MemberId, Message, Timestamp, port::StoreError};

/// The other columns of a conversation that have no default, and any values for them: MySQL asks for them though the row exists.
const UNUSED: (&str, &str) =
    ("kind, created_at, lane, title_pos, title_rev, creator_id, request_hash", "0, 0, 0, 0, 0, 0, ''");

pub(super) fn insert_messages(text: &mut String, messages: &[Arc<Message>]) -> Result<(), StoreError> {
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
pub(super) fn overwrite_heads(text: &mut String, heads: &[Conversation]) -> Result<(), StoreError> {
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
    let _ = write!(text, " ON DUPLICATE KEY UPDATE {};", values.collect::<Vec<_>>().join(", "));
    // A row that was there and changed counts 2, one that was inserted 1: a head that was missing is noticed, as every head changes.
    expect_rows(text, 2 * heads.len());
    Ok(())
}

/// By a join, because a row may be as it was and yet has to be there: the server counts those that it has found.
pub(super) fn update_rows<const N: usize>(
    what: &RowUpdate<N>,
    rows: &[[Value; N]],
) -> Result<String, StoreError> {
    let RowUpdate { table, columns, keys } = *what;
    let mut text = format!("UPDATE {table} t JOIN (");
    for (index, row) in rows.iter().enumerate() {
        text.push_str(if index > 0 { " UNION ALL SELECT " } else { "SELECT " });
        for (place, (value, (name, _))) in row.iter().zip(columns).enumerate() {
            text.push_str(if place > 0 { "," } else { "" });
            push_value(&mut text, value)?;
            // The first row names the columns of all.
            if index == 0 {
                let _ = write!(text, " AS {name}");
            }
        }
    }
    let equal = |(name, _): &(&str, &str)| format!("t.{name} = v.{name}");
    let [on, set] =
        [&columns[..keys], &columns[keys..]].map(|part| part.iter().map(equal).collect::<Vec<_>>());
    let _ = write!(text, ") v ON {} SET {};", on.join(" AND "), set.join(", "));
    expect_rows(&mut text, rows.len());
    Ok(text)
}

pub(super) fn put_mentions(mentioned: &[(MemberId, i32)], otherwise: &str) -> Result<String, StoreError> {
    let mut text = "INSERT INTO mention (conversation_id, user_id, seq) VALUES ".to_owned();
    for (index, (id, seq)) in mentioned.iter().enumerate() {
        text.push_str(if index > 0 { ",(" } else { "(" });
        push_values(&mut text, &[id_value(id.conversation), id.user.0.into(), (*seq).into()])?;
        text.push(')');
    }
    text.push_str(otherwise);
    text.push(';');
    Ok(text)
}

/// The rows of the log, and the end of the transaction.
pub(super) fn commit(entries: &[(LaneId, i64, Vec<u8>)], now: Timestamp) -> String {
    let mut text = "INSERT INTO outbox (lane, pos, created_at, payload) VALUES ".to_owned();
    for (index, (lane, pos, payload)) in entries.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}({},{pos},{},", lane_number(*lane), now.0);
        push_digits(&mut text, "x'", payload);
        text.push(')');
    }
    text.push_str(";COMMIT;");
    text
}

fn push_values(text: &mut String, values: &[Value]) -> Result<(), StoreError> {
    for (index, value) in values.iter().enumerate() {
        text.push_str(if index > 0 { "," } else { "" });
        push_value(text, value)?;
    }
    Ok(())
}

/// Text and bytes go by their digits, so that nothing in them can end the literal.
fn push_value(text: &mut String, value: &Value) -> Result<(), StoreError> {
    let integer = match value {
        Value::SmallInt(value) => value.map(i64::from),
        Value::Int(value) => value.map(i64::from),
        Value::BigInt(value) => *value,
        Value::Bytes(None) | Value::String(None) => None,
        Value::Bytes(Some(bytes)) => {
            push_digits(text, "x'", bytes);
            return Ok(());
        }
        Value::String(Some(value)) => {
            push_digits(text, "_utf8mb4 x'", value.as_bytes());
            return Ok(());
        }
        _ => return Err(StoreError::Fault("a batch has a value without a literal".into())),
    };
    match integer {
        Some(integer) => drop(write!(text, "{integer}")),
        None => text.push_str("NULL"),
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
