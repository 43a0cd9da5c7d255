//! Copies of rows: `user_info:{user}`, `group_members:{conversation}:{user}` and `conv_seq:{conversation}`, each a hash of its
//! `rev` and its fields. One with a `rev` alone is a tombstone: nothing older is kept while it lives.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue as _, RedisResult};

use super::{RedisCommands, millis};
use crate::{
    Timestamp, User, UserId, measure,
    port::{
        Cache,
        cache::{CacheAway, CacheKey, Cached, Kept, VOID_LIFE},
    },
};

/// Compares and replaces in one step. A lower `rev` never replaces a higher one, whoever comes late.
const REPLACE: &str = "local known = redis.call('HGET', KEYS[1], 'rev') \
    if known and tonumber(known) > tonumber(ARGV[1]) then return 0 end \
    redis.call('DEL', KEYS[1]) \
    redis.call('HSET', KEYS[1], 'rev', unpack(ARGV, 1, #ARGV - 1)) \
    redis.call('PEXPIRE', KEYS[1], ARGV[#ARGV]) \
    return 1";
/// Tombstones that Redis was not told of. More are left to the life of what they should have voided.
const OWED_MAX: usize = 10_000;
/// Commands in one round trip, far from the deadline.
const PIPELINE_MAX: usize = 500;

pub struct RedisCache {
    commands: RedisCommands,
    prefix: String,
    /// Tombstones that could not be placed, with their `rev`: the first thing that is said when Redis is back.
    owed: Mutex<HashMap<CacheKey, i32>>,
}

impl RedisCache {
    /// `prefix` tells the keys of installations apart that share a Redis.
    pub fn new(commands: RedisCommands, prefix: String) -> Self {
        Self { commands, prefix, owed: Mutex::default() }
    }

    fn owed(&self) -> MutexGuard<'_, HashMap<CacheKey, i32>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owe(&self, key: CacheKey, rev: i32) {
        let mut owed = self.owed();
        let full = owed.len() >= OWED_MAX;
        match owed.entry(key) {
            Entry::Occupied(mut known) => *known.get_mut() = rev.max(*known.get()),
            Entry::Vacant(_) if full => measure::count(measure::CACHE_VOIDS_LOST, &[], 1),
            Entry::Vacant(place) => drop(place.insert(rev)),
        }
    }

    /// Pays what is owed, so that nobody reads what should be void.
    async fn settle(&self) -> RedisResult<()> {
        loop {
            let owed: Vec<(CacheKey, i32)> =
                self.owed().iter().take(PIPELINE_MAX).map(|(key, rev)| (*key, *rev)).collect();
            if owed.is_empty() {
                return Ok(());
            }
            let commands = owed.iter().map(|(key, rev)| self.tombstone(*key, *rev)).collect();
            self.commands.query_all(commands).await?;
            let mut still = self.owed();
            for (key, rev) in owed {
                if still.get(&key) == Some(&rev) {
                    still.remove(&key);
                }
            }
        }
    }

    fn name(&self, key: CacheKey) -> String {
        let prefix = &self.prefix;
        match key {
            CacheKey::User(user) => format!("{prefix}:user_info:{}", user.0),
            CacheKey::Membership(member) => {
                format!("{prefix}:group_members:{}:{}", member.conversation, member.user.0)
            }
            CacheKey::Head(conversation) => format!("{prefix}:conv_seq:{conversation}"),
        }
    }

    fn replace(&self, key: CacheKey, rev: i32) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(REPLACE).arg(1).arg(self.name(key)).arg(rev);
        command
    }

    fn tombstone(&self, key: CacheKey, rev: i32) -> Cmd {
        let mut command = self.replace(key, rev);
        command.arg(millis(VOID_LIFE));
        command
    }

    fn copy(&self, kept: &Kept) -> Cmd {
        let mut command = self.replace(kept.key, kept.rev);
        match &kept.value {
            Cached::User(user) => {
                command.arg("username").arg(&*user.username);
                command.arg("display_name").arg(&*user.display_name);
                command.arg("created_at").arg(user.created_at.0)
            }
            Cached::Membership { read_seq } => command.arg("read_seq").arg(*read_seq),
            Cached::Head { last_seq } => command.arg("last_seq").arg(*last_seq),
        };
        command.arg(millis(kept.life));
        command
    }

    async fn read(&self, keys: &[CacheKey]) -> RedisResult<Vec<Option<Cached>>> {
        self.settle().await?;
        let commands = keys.iter().map(|key| Cmd::hgetall(self.name(*key))).collect();
        let answers = self.commands.query_all(commands).await?;
        let read = |(key, answer): (&CacheKey, _)| {
            let fields = HashMap::<String, String>::from_redis_value(answer)?;
            Ok(decode(*key, &fields))
        };
        keys.iter().zip(answers).map(read).collect()
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, keys: &[CacheKey]) -> Result<Vec<Option<Cached>>, CacheAway> {
        self.read(keys).await.map_err(|error| {
            tracing::debug!(error = %error, "copies are passed by");
            CacheAway
        })
    }

    async fn put(&self, copies: Vec<Kept>) {
        if copies.is_empty() {
            return;
        }
        if let Err(error) = self.commands.query_all(copies.iter().map(|kept| self.copy(kept)).collect()).await
        {
            tracing::debug!(error = %error, "copies are not kept");
        }
    }

    async fn void(&self, keys: &[(CacheKey, i32)]) {
        if keys.is_empty() {
            return;
        }
        // Owed until it is known to be there.
        for (key, rev) in keys {
            self.owe(*key, *rev);
        }
        if let Err(error) = self.settle().await {
            tracing::debug!(error = %error, "copies will be voided when Redis is back");
        }
    }
}

/// `None` for a tombstone, for nothing, and for what another version has kept.
fn decode(key: CacheKey, fields: &HashMap<String, String>) -> Option<Cached> {
    let number = |name: &str| fields.get(name)?.parse::<i64>().ok();
    let small = |name: &str| i32::try_from(number(name)?).ok();
    Some(match key {
        CacheKey::User(id) => Cached::User(user(id, fields, number("created_at")?)?),
        CacheKey::Membership(_) => Cached::Membership { read_seq: small("read_seq")? },
        CacheKey::Head(_) => Cached::Head { last_seq: small("last_seq")? },
    })
}

fn user(id: UserId, fields: &HashMap<String, String>, created_at: i64) -> Option<User> {
    Some(User {
        id,
        username: fields.get("username")?.as_str().into(),
        display_name: fields.get("display_name")?.as_str().into(),
        created_at: Timestamp(created_at),
    })
}
