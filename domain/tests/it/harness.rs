//! A private, migrated database a test, and a domain on it.

#![expect(
    clippy::disallowed_methods,
    reason = "tests find their servers in the environment and take random names"
)]

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use domain::{
    Caller, Chat, ClientKey, ConversationId, Limits, Mentions, MessageText, Positions, SessionId, Timestamp,
    Title, User, UserId,
    adapter::{
        ambient::{SystemClock, SystemRandom},
        sql::{PoolSettings, SqlStore},
    },
    keys::KeyRing,
    lifeline::{Held, Lifeline},
    port::{Accounts, Clock, accounts::NewSession},
    service::{create_group::CreateGroup, send_message::SendMessage},
    wiring::Wiring,
};
use migration::{Migrator, MigratorTrait, SCHEMA_VERSION};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The kinds of database a contract is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    MariaDb,
    Postgres,
}

pub struct TestDatabase {
    pub kind: Kind,
    pub url: String,
    pub store: SqlStore,
    pub keys: KeyRing,
    _folder: tempfile::TempDir,
}

fn server(kind: Kind) -> Option<String> {
    let name = match kind {
        Kind::Sqlite => return None,
        Kind::MariaDb => "CONFAB_TEST_MARIADB_URL",
        Kind::Postgres => "CONFAB_TEST_POSTGRES_URL",
    };
    let url = env::var(name).ok().map(|url| url.trim_end_matches('/').to_owned());
    if url.is_none() {
        eprintln!("SKIPPED on {kind:?}: {name} is not set (scripts/test sets it)");
    }
    url
}

/// A fresh database of this kind; `None`, loudly, when its server is not there.
pub async fn database(kind: Kind) -> Option<TestDatabase> {
    let folder = tempfile::tempdir().expect("a folder for the database and the keys");
    let url = if kind == Kind::Sqlite {
        format!("sqlite://{}/confab.sqlite?mode=rwc", folder.path().display())
    } else {
        let server = server(kind)?;
        let name = format!("confab_test_{:016x}", random_number());
        let admin = if kind == Kind::Postgres { format!("{server}/postgres") } else { server.clone() };
        let admin = Database::connect(admin).await.expect("the test server answers");
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a fresh database");
        admin.close().await.expect("closes");
        format!("{server}/{name}")
    };
    let raw = SqlStore::connect_raw(&url, PoolSettings::default()).await.expect("connects");
    Migrator::up(&raw, None).await.expect("migrates");
    raw.close().await.expect("closes");
    let store = SqlStore::open(&url, PoolSettings::default(), SCHEMA_VERSION).await.expect("opens");
    let key_folder = folder.path().join("keys");
    KeyRing::create(&key_folder, &SystemClock, &SystemRandom).expect("a key");
    let keys = KeyRing::open(&key_folder).expect("opens");
    Some(TestDatabase { kind, url, store, keys, _folder: folder })
}

/// Where adapters of a test run until it stops them.
pub fn held(stop: &CancellationToken) -> Held {
    Held { tasks: TaskTracker::new(), stop: stop.clone(), lifeline: Lifeline::default() }
}

pub fn random_number() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("random bytes");
    u64::from_le_bytes(bytes)
}

/// A clock that starts at the present and moves when told.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn start() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(SystemClock.now().0)))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).expect("a short time"), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// Runs a contract on every database there is.
#[macro_export]
macro_rules! on_every_database {
    ($($(#[$meta:meta])* async fn $name:ident($db:ident: TestDatabase) $body:block)*) => {
        $(
            mod $name {
                #[allow(unused_imports, reason = "each contract uses its own part")]
                use super::*;

                async fn contract($db: $crate::harness::TestDatabase) $body

                async fn run(kind: $crate::harness::Kind) {
                    if let Some(database) = $crate::harness::database(kind).await {
                        contract(database).await;
                    }
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn sqlite() {
                    run($crate::harness::Kind::Sqlite).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn mariadb() {
                    run($crate::harness::Kind::MariaDb).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn postgres() {
                    run($crate::harness::Kind::Postgres).await;
                }
            }
        )*
    };
}

impl TestDatabase {
    pub fn chat(&self) -> Chat {
        self.chat_with(Limits::default())
    }

    pub fn chat_with(&self, limits: Limits) -> Chat {
        self.wiring(limits).build()
    }

    /// A domain whose time moves when told.
    pub fn chat_at(&self, clock: Arc<dyn Clock>) -> Chat {
        Wiring { clock, ..self.wiring(Limits::default()) }.build()
    }

    pub fn wiring(&self, limits: Limits) -> Wiring {
        Wiring::new(self.store.clone(), self.keys.clone(), limits)
    }

    /// A domain with pools of its own, as another process would have.
    pub async fn reopen(&self) -> Chat {
        Wiring::new(self.another_store().await, self.keys.clone(), Limits::default()).build()
    }

    /// The same database over pools of its own.
    pub async fn another_store(&self) -> SqlStore {
        self.store_of(PoolSettings::default().connections_max).await
    }

    /// The same database over pools of this size together.
    pub async fn store_of(&self, connections_max: u32) -> SqlStore {
        let settings = PoolSettings { connections_max, ..PoolSettings::default() };
        SqlStore::open(&self.url, settings, SCHEMA_VERSION).await.expect("opens")
    }

    /// The same database as the root of a `MariaDB` that `scripts/services` has started; `None`, loudly, where that is somebody else.
    pub async fn root(&self) -> Option<DatabaseConnection> {
        let (_, place) = self.url.split_once('@').expect("a user");
        let root = Database::connect(format!("mysql://root@{place}")).await;
        root.inspect_err(|error| eprintln!("SKIPPED: root needs a password here ({error})")).ok()
    }

    /// A user straight in the database: no password hash is computed.
    pub async fn user(&self, name: &str) -> Caller {
        let id = i64::try_from(random_number() >> 2).expect("62 bits") + 1;
        let user = User {
            id: UserId(id),
            username: format!("{name}{id}").into(),
            display_name: name.into(),
            created_at: Timestamp(1),
        };
        let now = SystemClock.now();
        let session = domain::Session {
            id: SessionId(id),
            user: user.id,
            device_name: None,
            created_at: now,
            last_used_at: now,
        };
        let mut token_hash = [0; 32];
        token_hash[..8].copy_from_slice(&id.to_be_bytes());
        let new = NewSession { session, token_hash };
        self.store.insert_user(&user, &user.username, "none", &new).await.expect("a user");
        Caller { user: user.id, session: SessionId(id), expires_at: Timestamp(i64::MAX) }
    }

    pub async fn users(&self, count: usize) -> Vec<Caller> {
        let mut users = Vec::new();
        for index in 0..count {
            users.push(self.user(&format!("user{index}")).await);
        }
        users
    }
}

pub fn text(text: &str) -> MessageText {
    MessageText::new(&["text"], text.to_owned()).expect("a text")
}

pub fn key(key: impl Into<String>) -> ClientKey {
    ClientKey::new(&["clientMessageId"], key.into()).expect("a key")
}

pub fn title(title: &str) -> Title {
    Title::new(title.to_owned()).expect("a title")
}

pub async fn group(chat: &Chat, owner: &Caller, others: &[Caller]) -> ConversationId {
    let members = others.iter().map(|other| other.user).collect();
    let command = CreateGroup { title: title("group"), members, client_key: None };
    chat.create_group(owner, command).await.expect("a group").conversation.id
}

/// From where on a subscription of this user can resume.
pub async fn floor(chat: &Chat, user: &Caller) -> Positions {
    chat.missed(user, None, None).await.expect("reads").resumable_from
}

pub async fn send(
    chat: &Chat,
    sender: &Caller,
    conversation: ConversationId,
    body: &str,
) -> Arc<domain::Message> {
    let command = SendMessage {
        conversation,
        client_key: key(format!("{:x}", random_number())),
        text: text(body),
        mentions: Mentions::default(),
    };
    chat.send_message(sender, command).await.expect("a message")
}
