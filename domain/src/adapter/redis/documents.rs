//! Documents that nodes share: a hash of texts, a sorted set that says when each was last asked for, and a count of bytes. All
//! three are of one slot, so that a script can keep them within their bounds.

use std::sync::Arc;

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue as _, RedisResult};

use super::RedisCommands;
use crate::{DocumentBounds, DocumentHash, port::Documents};

/// Answers with the text, and notes that it was asked for.
const GET: &str = "local text = redis.call('HGET', KEYS[1], ARGV[1]) \
    local time = redis.call('TIME') \
    if text then redis.call('ZADD', KEYS[2], time[1] * 1000000 + time[2], ARGV[1]) end \
    return text";
/// Keeps a text; the oldest go until all is within bounds.
const PUT: &str = "local time = redis.call('TIME') \
    redis.call('ZADD', KEYS[2], time[1] * 1000000 + time[2], ARGV[1]) \
    if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then redis.call('INCRBY', KEYS[3], #ARGV[2]) end \
    while redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[3]) \
        or tonumber(redis.call('GET', KEYS[3]) or 0) > tonumber(ARGV[4]) do \
        local oldest = redis.call('ZPOPMIN', KEYS[2])[1] \
        if not oldest then break end \
        redis.call('DECRBY', KEYS[3], redis.call('HSTRLEN', KEYS[1], oldest)) \
        redis.call('HDEL', KEYS[1], oldest) \
    end \
    for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[5]) end \
    return 1";
/// Seconds after the last registration that all of them are forgotten: what nobody registers any more is of an installation that
/// nobody uses any more.
const LIFE_SECONDS: u32 = 30 * 24 * 60 * 60;

pub struct RedisDocuments {
    commands: RedisCommands,
    keys: [String; 3],
    bounds: DocumentBounds,
}

impl RedisDocuments {
    /// `prefix` tells the keys of installations apart that share a Redis.
    pub fn new(commands: RedisCommands, prefix: &str, bounds: DocumentBounds) -> Self {
        let keys = ["texts", "asked", "bytes"].map(|part| format!("{{{prefix}:documents}}:{part}"));
        Self { commands, keys, bounds }
    }

    fn script(&self, script: &str, hash: DocumentHash) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(hash.hex());
        command
    }

    async fn read(&self, hash: DocumentHash) -> RedisResult<Option<String>> {
        let answers = self.commands.query_all(vec![self.script(GET, hash)]).await?;
        let text = answers.into_iter().next().map(Option::from_redis_value).transpose()?;
        Ok(text.flatten())
    }
}

#[async_trait]
impl Documents for RedisDocuments {
    async fn get(&self, hash: DocumentHash) -> Option<Arc<str>> {
        let read = self.read(hash).await.inspect_err(|error| {
            tracing::debug!(error = %error, "shared documents are passed by");
        });
        // Whoever else can write there must not choose what a hash means.
        read.ok().flatten().filter(|text| DocumentHash::of(text) == hash).map(Arc::from)
    }

    async fn put(&self, hash: DocumentHash, text: &str) {
        if text.len() > self.bounds.bytes_max {
            return;
        }
        let mut command = self.script(PUT, hash);
        command.arg(text).arg(self.bounds.documents_max).arg(self.bounds.bytes_max).arg(LIFE_SECONDS);
        if let Err(error) = self.commands.query_all(vec![command]).await {
            tracing::debug!(error = %error, "a document is not shared");
        }
    }
}
