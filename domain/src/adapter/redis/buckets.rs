//! Budgets that nodes share: for each owner the moment at which its bucket will be full, by Redis' own clock.

use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue as _, RedisResult};

use super::RedisCommands;
use crate::{
    Network, Taken, Timestamp,
    port::{
        Buckets,
        buckets::{Ask, NotTaken, Owner},
    },
};

/// As [`crate::Bucket::take`]. Answers with the tokens taken and those left, or with nothing and the microseconds to wait.
const TAKE: &str = "local time = redis.call('TIME') \
    local now = time[1] * 1000000 + time[2] \
    local token, whole = tonumber(ARGV[1]), tonumber(ARGV[2]) \
    local needed, wanted = tonumber(ARGV[3]), tonumber(ARGV[4]) \
    local full = tonumber(redis.call('GET', KEYS[1]) or now) \
    if full < now or full > now + whole then full = now end \
    local room = math.floor((now + whole - full) / token) \
    if room < needed then return {0, math.ceil(full + token * needed - now - whole)} end \
    local taken = math.min(room, wanted) \
    full = full + token * taken \
    redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.max(1, math.ceil((full - now) / 1000))) \
    return {taken, room - taken}";

pub struct RedisBuckets {
    commands: RedisCommands,
    prefix: String,
}

impl RedisBuckets {
    /// `prefix` tells the keys of installations apart that share a Redis.
    pub fn new(commands: RedisCommands, prefix: String) -> Self {
        Self { commands, prefix }
    }

    fn command(&self, ask: &Ask) -> Cmd {
        let prefix = &self.prefix;
        let key = match ask.owner {
            Owner::User(user) => format!("{prefix}:budget:user:{}", user.0),
            Owner::Network(Network::V4(address)) => format!("{prefix}:budget:v4:{address}"),
            Owner::Network(Network::V6(network)) => {
                format!("{prefix}:budget:v6:{:x}", u64::from_be_bytes(network))
            }
            Owner::Network(Network::Unknown) => format!("{prefix}:budget:unknown"),
        };
        let needed = ask.needed.min(ask.refill.burst);
        let mut command = redis::cmd("EVAL");
        command.arg(TAKE).arg(1).arg(key).arg(ask.refill.token_micros()).arg(ask.refill.whole_micros());
        command.arg(needed).arg(ask.wanted.max(needed));
        command
    }

    async fn ask(&self, ask: &Ask) -> RedisResult<[i64; 2]> {
        let answers = self.commands.query_all(vec![self.command(ask)]).await?;
        let answer = answers.into_iter().next().unwrap_or(redis::Value::Nil);
        Ok(<[i64; 2]>::from_redis_value(answer)?)
    }
}

#[async_trait]
impl Buckets for RedisBuckets {
    async fn take(&self, ask: Ask, _: Timestamp) -> Result<Taken, NotTaken> {
        let [taken, rest] = self.ask(&ask).await.map_err(|error| {
            tracing::debug!(error = %error, "shared budgets are passed by");
            NotTaken::Away
        })?;
        let rest = rest.unsigned_abs();
        match u32::try_from(taken) {
            Ok(0) if ask.needed > 0 => Err(NotTaken::Wait(Duration::from_micros(rest))),
            Ok(tokens) => Ok(Taken { tokens, left: u32::try_from(rest).unwrap_or(u32::MAX) }),
            Err(_) => Err(NotTaken::Away),
        }
    }
}
