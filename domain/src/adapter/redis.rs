//! Redis: hints between nodes. Nothing in it is the only copy of anything (P5).

mod bus;
mod presence;

pub use bus::{RedisBus, RedisBusSetup};
pub use presence::{RedisPresence, RedisPresenceSetup};

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, RedisResult};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CALL_TIMEOUT))
        .set_response_timeout(Some(CALL_TIMEOUT))
}

/// Whether a Redis answers, with this user and password.
pub async fn check(url: &str) -> RedisResult<()> {
    let client = Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&connection_config()).await?;
    redis::cmd("PING").exec_async(&mut connection).await
}
