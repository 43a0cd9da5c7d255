//! `confab serve`: the whole of Confab in one process, composed in dependency order.

use std::{
    error::Error,
    io::{self, Write as _},
    sync::Arc,
};

use api::app::{ApiSetup, StartError};
use domain::{
    adapter::{
        ambient::{SystemClock, SystemRandom},
        redis::{RedisBus, RedisBusSetup},
    },
    keys::{KeyError, KeyRing},
    port::{Log as _, Random as _},
    wiring::Wiring,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{admin, database, housekeeping, settings::Settings};

pub async fn run(settings: Arc<Settings>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let _folder = if settings.is_embedded() { Some(database::take_data_folder(&settings)?) } else { None };
    let store = database::open(&settings).await?;
    let keys = open_keys(&settings)?;
    // Two steps at the end: first no new work, then what serves the work that is left.
    let (stop_serving, stop_rest) = (CancellationToken::new(), CancellationToken::new());
    let background = TaskTracker::new();
    let mut wiring = Wiring::new(store.clone(), keys, settings.domain_limits());
    if let Some(url) = &settings.redis_url {
        let setup = RedisBusSetup {
            url: url.0.clone(),
            installation: store.installation().to_owned(),
            layout: store.layout(),
            node: random_node(),
            tasks: background.clone(),
            stop: stop_rest.clone(),
        };
        let bus = RedisBus::start(setup).map_err(|error| format!("CONFAB_REDIS_URL: {error}"))?;
        wiring.bus = Arc::new(bus);
    }
    let tasks = wiring.tasks.clone();
    let chat = wiring.build();
    let setup = ApiSetup {
        chat: chat.clone(),
        settings: settings.api(),
        hub: settings.hub_limits(),
        tasks: background.clone(),
        stop: stop_rest.clone(),
    };
    let (server, _hub) = api::app::start(setup).await.map_err(|error| match error {
        StartError::Listen(error) => format!("cannot listen on {}: {error}", settings.listen).into(),
        other => Box::<dyn Error + Send + Sync>::from(other),
    })?;
    if let Some(address) = settings.admin_listen {
        let bound = admin::start(address, chat.clone(), &background, stop_rest.clone()).await;
        let bound = bound.map_err(|error| format!("cannot listen on {address} (admin): {error}"))?;
        tracing::info!(admin.address = %bound, "admin endpoints");
    }
    background.spawn(housekeeping::run(chat, stop_rest.clone()));

    println!("listening on http://{}", server.address()?);
    io::stdout().flush()?;
    let stop = stop_serving.clone();
    let mut serving = std::pin::pin!(server.serve(stop_serving));
    tokio::select! {
        () = &mut serving => return Err("the listener ended by itself".into()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: finishing what runs");
    stop.cancel();
    serving.await;
    stop_rest.cancel();
    for tracker in [&background, &tasks] {
        tracker.close();
    }
    // The hub and the committers end with their last handle; nothing they do is worth waiting for longer.
    let _ = tokio::time::timeout(settings.stop_timeout(), background.wait()).await;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// The embedded default makes its first key by itself; elsewhere every node needs the same folder.
fn open_keys(settings: &Settings) -> Result<KeyRing, KeyError> {
    let folder = settings.keys_folder();
    let none = std::fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none());
    if settings.is_embedded() && none {
        KeyRing::create(&folder, &SystemClock, &SystemRandom)?;
    }
    KeyRing::open(&folder)
}

/// What tells this process apart on the bus.
fn random_node() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
