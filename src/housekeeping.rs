//! What a running node does now and then: read the signing keys again, remove what its retention has passed.

use std::time::Duration;

use domain::{Chat, keys};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often expired rows are looked for.
const CLEANING_INTERVAL: Duration = Duration::from_mins(1);

/// `cleans` where the domain runs: once is enough.
pub async fn run(chat: Chat, cleans: bool, stop: CancellationToken) {
    let mut reload = interval(keys::RELOAD_PERIOD);
    let mut clean = interval(CLEANING_INTERVAL);
    for ticks in [&mut reload, &mut clean] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = reload.tick() => {
                // Reading files blocks.
                let keys = chat.keys().clone();
                let read = tokio::task::spawn_blocking(move || keys.reload()).await;
                if let Ok(Err(error)) = read {
                    tracing::error!(error.chain = %error, "the signing keys cannot be read again; the known ones stay");
                }
            }
            _ = clean.tick(), if cleans => {
                if let Err(error) = chat.remove_expired().await {
                    tracing::warn!(error.chain = %error, "expired rows cannot be removed now");
                }
            }
        }
    }
}
