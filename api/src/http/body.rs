//! A request's body: not too large, not too slow.

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::answer::Answer;
use crate::settings::Settings;

/// How much of a body that is too large is read for the sake of its client, in bodies of the largest size.
const DISCARDED_BODIES_MAX: usize = 4;

pub(super) async fn read(headers: &HeaderMap, body: Body, settings: &Settings) -> Result<Bytes, Answer> {
    let bytes_max = settings.body_bytes_max;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let too_large = announced
        .and_then(|length| length.parse::<u64>().ok())
        .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > bytes_max));
    // Who asks first (`Expect: 100-continue`) sends nothing after a refusal.
    if too_large && headers.contains_key(header::EXPECT) {
        return Err(Answer::TooLarge);
    }
    let mut chunks = body.into_data_stream();
    let read = async {
        let whole = if too_large { Err(Answer::TooLarge) } else { collect(&mut chunks, bytes_max).await };
        if matches!(whole, Err(Answer::TooLarge)) {
            discard(&mut chunks, DISCARDED_BODIES_MAX.saturating_mul(bytes_max)).await;
        }
        whole
    };
    match timeout(settings.body_timeout, read).await {
        Ok(read) => read,
        Err(_) if too_large => Err(Answer::TooLarge),
        Err(_) => Err(Answer::TooSlow),
    }
}

async fn collect(chunks: &mut BodyDataStream, bytes_max: usize) -> Result<Bytes, Answer> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        // The client is gone; nobody reads the answer.
        let chunk = chunk.map_err(|_| Answer::TooSlow)?;
        if whole.len().saturating_add(chunk.len()) > bytes_max {
            return Err(Answer::TooLarge);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Reads on without keeping anything: a connection closed with bytes unread is reset, and a client that is still
/// sending would see the reset instead of the refusal.
async fn discard(chunks: &mut BodyDataStream, bytes_max: usize) {
    let mut left = bytes_max;
    while let Some(Ok(chunk)) = chunks.next().await {
        let Some(rest) = left.checked_sub(chunk.len()) else { return };
        left = rest;
    }
}
