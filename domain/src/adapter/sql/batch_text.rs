//! The messages of a batch and the heads of their conversations, in one exchange with MySQL or `MariaDB`.
//!
//! Both go as text. Prepared statements would be two exchanges or three, and one to prepare each size of batch that comes up.

use std::sync::Arc;

use sea_orm::ConnectionTrait;

use super::{
    dialect::store_error,
    rows::{HEAD, MESSAGE, head_values, message_values},
    statement::Sql,
};
use crate::{Conversation, Message, port::StoreError};

/// The other columns of a conversation that have no default, and any values for them: MySQL asks for them though the row exists.
const UNUSED: (&str, &str) =
    ("kind, created_at, lane, title_pos, title_rev, creator_id, request_hash", "0, 0, 0, 0, 0, 0, ''");

/// Fails when a head is missing.
pub(super) async fn write(
    on: &impl ConnectionTrait,
    messages: &[Arc<Message>],
    heads: &[Conversation],
) -> Result<(), StoreError> {
    let statements = [insert(messages)?, overwrite(heads)?];
    let text = statements.into_iter().flatten().collect::<Vec<_>>().join("; ");
    if text.is_empty() {
        return Ok(());
    }
    let done = on.execute_unprepared(&text).await.map_err(store_error)?;
    // A row that was there and changed counts 2, one that was inserted 1: so a head that was missing is told, as every head changes.
    let expected = messages.len() + 2 * heads.len();
    if usize::try_from(done.rows_affected()) == Ok(expected) {
        return Ok(());
    }
    let (messages, heads, found) = (messages.len(), heads.len(), done.rows_affected());
    Err(StoreError::Fault(format!("of {messages} messages and {heads} heads {found} were written").into()))
}

fn insert(messages: &[Arc<Message>]) -> Result<Option<String>, StoreError> {
    if messages.is_empty() {
        return Ok(None);
    }
    let rows = messages.iter().map(|message| message_values(message)).collect::<Result<Vec<_>, _>>()?;
    let columns = MESSAGE.replace("g.", "");
    Sql::of_literals(&format!("INSERT INTO message ({columns}) VALUES ")).rows(rows).into_text().map(Some)
}

/// Half the work of an UPDATE with a join, which writes a temporary table first. The caller holds the rows' lane and has seen them.
fn overwrite(heads: &[Conversation]) -> Result<Option<String>, StoreError> {
    if heads.is_empty() {
        return Ok(None);
    }
    let (unused, fillers) = UNUSED;
    let names = HEAD.map(|(name, _)| name).join(", ");
    let mut sql = Sql::of_literals(&format!("INSERT INTO conversation ({names}, {unused}) VALUES "));
    for (index, head) in heads.iter().enumerate() {
        sql = sql.push(if index > 0 { ",(" } else { "(" });
        sql.values_of(head_values(head));
        sql = sql.push(", ").push(fillers).push(")");
    }
    let values = HEAD[1..].iter().map(|(name, _)| format!("{name} = VALUES({name})"));
    let values = values.collect::<Vec<_>>().join(", ");
    sql.push(" ON DUPLICATE KEY UPDATE ").push(&values).into_text().map(Some)
}
