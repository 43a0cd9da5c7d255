//! A request's body: not too large, not too slow.

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::answer::Answer;
use crate::settings::Settings;

pub(super) async fn read(headers: &HeaderMap, body: Body, settings: &Settings) -> Result<Bytes, Answer> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced
        .and_then(|length| length.parse::<u64>().ok())
        .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > settings.body_bytes_max))
    {
        return Err(Answer::TooLarge);
    }
    match timeout(settings.body_timeout, collect(body, settings.body_bytes_max)).await {
        Ok(read) => read,
        Err(_) => Err(Answer::TooSlow),
    }
}

async fn collect(body: Body, bytes_max: usize) -> Result<Bytes, Answer> {
    let mut chunks = body.into_data_stream();
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
