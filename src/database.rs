//! The database of the settings: its folder, its lock, its schema.

use std::{
    collections::BTreeSet,
    error::Error,
    fs::{self, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    time::Duration,
};

use domain::{
    adapter::{
        ambient::SystemClock,
        kafka::{self, TopicSettings},
        sql::{ConnectError, PoolSettings, SqlStore},
    },
    error::chain,
    port::{Clock as _, Log as _},
};
use migration::{Migration, Migrator, MigratorTrait as _, SCHEMA_VERSION};
use tokio::time::{Instant, sleep};

use crate::{readiness::Readiness, settings::Settings};

/// Between two attempts to reach the database.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Between two words about it.
const WAITING_NOTE: Duration = Duration::from_secs(5);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Holds the data folder of the embedded default until dropped.
pub struct DataFolder {
    _lock: File,
}

/// Makes the data folder and takes it for this process alone.
pub fn take_data_folder(settings: &Settings) -> Outcome<DataFolder> {
    let folder = &settings.data_dir;
    let named = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(named)?;
    let path = folder.join("lock");
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(named)?;
    match lock.try_lock() {
        Ok(()) => Ok(DataFolder { _lock: lock }),
        Err(TryLockError::WouldBlock) => {
            let text =
                "another confab runs on this data folder; stop it, or choose another by CONFAB_DATA_DIR";
            Err(format!("{}: {text}", folder.display()).into())
        }
        Err(TryLockError::Error(error)) => Err(named(error).into()),
    }
}

/// Opens the database; the embedded one is brought up to date first.
pub async fn open(settings: &Settings) -> Outcome<SqlStore> {
    if settings.is_embedded() {
        bring_up_to_date(settings).await?;
    }
    open_now(settings).await.map_err(|error| named(&error))
}

async fn open_now(settings: &Settings) -> Result<SqlStore, ConnectError> {
    SqlStore::open(&settings.database_url(), pool(settings), SCHEMA_VERSION).await
}

/// With the setting that it comes from.
fn named(error: &ConnectError) -> Box<dyn Error + Send + Sync> {
    format!("CONFAB_DATABASE_URL: {}", chain(error)).into()
}

/// As [`open`], but waits for a database that is away: a process that ends and is started again all the time helps nobody.
pub async fn open_patiently(settings: &Settings, readiness: &Readiness) -> Outcome<SqlStore> {
    if settings.is_embedded() {
        return open(settings).await;
    }
    readiness.waiting_for("database");
    let mut noted: Option<Instant> = None;
    loop {
        match open_now(settings).await {
            Ok(store) => return Ok(store),
            Err(
                error @ (ConnectError::Connect(_) | ConnectError::Unreachable(_) | ConnectError::Store(_)),
            ) => {
                if noted.is_none_or(|noted| noted.elapsed() >= WAITING_NOTE) {
                    noted = Some(Instant::now());
                    tracing::warn!(
                        error.chain = chain(&error),
                        "waiting for the database (CONFAB_DATABASE_URL)"
                    );
                }
            }
            Err(error) => return Err(named(&error)),
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// `confab migrate`.
pub async fn migrate(settings: &Settings, restored: bool) -> Outcome<()> {
    let _folder = if settings.is_embedded() { Some(take_data_folder(settings)?) } else { None };
    let schema = bring_up_to_date(settings).await?;
    let store = open_now(settings).await.map_err(|error| named(&error))?;
    if restored {
        let epoch = store.heads().await?.epoch;
        store.raise_epoch(epoch, SystemClock.now()).await?;
        println!("event cursors from before the restore are void");
    }
    if let Some(kafka) = settings.kafka() {
        let topics =
            TopicSettings { partitions: settings.kafka_partitions, replication: settings.kafka_replication };
        let names = kafka::create(&kafka, topics)
            .await
            .map_err(|error| format!("CONFAB_KAFKA_BROKERS: {}", chain(&error)))?;
        println!("the topics are there ({})", names.join(", "));
    }
    store.close().await;
    match schema {
        Schema::Ours => println!("the schema is up to date (version {SCHEMA_VERSION})"),
        Schema::Newer => println!(
            "the schema is of a later release and still fits this binary (version {SCHEMA_VERSION}); nothing was changed"
        ),
    }
    Ok(())
}

/// Who made the schema what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schema {
    Ours,
    /// A later release, which did all that this one would. Whether it left what this one uses, `SqlStore::open` finds out.
    Newer,
}

async fn bring_up_to_date(settings: &Settings) -> Outcome<Schema> {
    let connection = SqlStore::connect_raw(&settings.database_url(), pool(settings)).await;
    let connection = connection.map_err(|error| named(&error))?;
    let failed = |error: &(dyn Error + 'static)| {
        format!("CONFAB_DATABASE_URL: the schema cannot be changed: {}", chain(error))
    };
    let done = Migrator::get_migration_models(&connection).await.map_err(|error| failed(&error))?;
    let done: BTreeSet<&str> = done.iter().map(|migration| migration.version.as_str()).collect();
    let known = Migrator::get_migration_files();
    let known: BTreeSet<&str> = known.iter().map(Migration::name).collect();
    let unknown: Vec<&str> = done.difference(&known).copied().collect();
    let schema = if unknown.is_empty() {
        Migrator::up(&connection, None).await.map_err(|error| failed(&error))?;
        Schema::Ours
    } else if known.is_subset(&done) {
        Schema::Newer
    } else {
        let unknown = unknown.join(", ");
        let text = "this binary is too old for the schema, or of another line of releases: it does not know";
        return Err(format!("CONFAB_DATABASE_URL: {text} {unknown}").into());
    };
    connection.close().await?;
    Ok(schema)
}

pub fn pool(settings: &Settings) -> PoolSettings {
    PoolSettings {
        connections_max: settings.database_connections_max,
        acquire_timeout: Duration::from_millis(settings.database_acquire_timeout_ms),
        statement_timeout: Duration::from_millis(settings.database_statement_timeout_ms),
    }
}
