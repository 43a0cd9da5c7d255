//! `confab doctor`: checks what is configured and says what is wrong, all of it.

use std::error::Error;

use domain::{
    adapter::{kafka, redis::RedisServers, sql::SqlStore},
    error::chain,
    keys::KeyRing,
    port::Log as _,
};
use migration::SCHEMA_VERSION;

use crate::{database, run::makes_keys, settings::Settings};

pub async fn run(settings: &Settings) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut problems = 0;
    let mut report = |what: &str, outcome: Result<String, String>| match outcome {
        Ok(detail) => println!("ok       {what}: {detail}"),
        Err(problem) => {
            problems += 1;
            println!("PROBLEM  {what}: {problem}");
        }
    };
    report("settings", Ok(format!("read; listening on {}", settings.listen)));
    let keys = KeyRing::open(&settings.keys_folder());
    let keys = match keys {
        Ok(keys) => Ok(format!("{} known", keys.ids().len())),
        Err(error) if error.is_none_yet() && makes_keys(settings) => {
            Ok("embedded; one will be made at the first start".to_owned())
        }
        Err(error) => Err(chain(&error)),
    };
    report("signing keys", keys);
    report("database (CONFAB_DATABASE_URL)", database_state(settings).await);
    if let Some(address) = &settings.redis_url {
        let state = match RedisServers::new(address, settings.redis_ca_file.as_ref()) {
            Ok(servers) => servers.check().await.map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        report("redis (CONFAB_REDIS_URL)", state.map(|()| "answers".to_owned()));
    }
    if let Some(kafka) = settings.kafka() {
        report(
            "kafka (CONFAB_KAFKA_BROKERS)",
            kafka::check(&kafka)
                .await
                .map(|()| "answers, with all topics".to_owned())
                .map_err(|error| chain(&error)),
        );
    }
    if problems == 0 { Ok(()) } else { Err(format!("{problems} problem(s)").into()) }
}

/// Reachable, of a fitting schema, keeping what it acknowledges, and with bounds on what a session can hold.
async fn database_state(settings: &Settings) -> Result<String, String> {
    if settings.is_embedded() && !settings.data_dir.join("confab.sqlite").exists() {
        return Ok("embedded; will be made at the first start".to_owned());
    }
    let url = settings.database_url();
    let store = SqlStore::open(&url, database::pool(settings), SCHEMA_VERSION)
        .await
        .map_err(|error| chain(&error))?;
    let heads = store.heads().await.map_err(|error| chain(&error))?;
    let entries: i64 = heads.positions.as_slice().iter().sum();
    let lanes = heads.positions.as_slice().len();
    store.close().await;
    Ok(format!(
        "schema {SCHEMA_VERSION}, durable, sessions bounded, epoch {}, {lanes} lanes, {entries} entries",
        heads.epoch
    ))
}
