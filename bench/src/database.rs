//! A fresh database with users and conversations.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{
    Caller, Chat, ConversationId, Limits, Session, SessionId, Timestamp, Title, User, UserId,
    adapter::{
        ambient::{SystemClock, SystemRandom},
        sql::{PoolSettings, SqlStore},
    },
    keys::KeyRing,
    port::{Accounts as _, Clock as _, accounts::NewSession},
    service::{add_members::AddMembers, create_group::CreateGroup},
    wiring::Wiring,
};
use futures_util::{StreamExt as _, stream};
use migration::{Migrator, MigratorTrait as _, SCHEMA_VERSION};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use sha2::{Digest as _, Sha256};

pub struct Bench {
    pub chat: Chat,
    pub store: SqlStore,
    /// For the raw calibrations; its pool is as large as their concurrency.
    pub raw: DatabaseConnection,
    /// The process of the database server, when it is one.
    pub server_process: Option<&'static str>,
    pub url: String,
    _folder: Option<tempfile::TempDir>,
    keys: tempfile::TempDir,
}

/// Somebody signed in, with their access token.
pub struct SignedIn {
    pub caller: Caller,
    pub token: String,
}

/// Users made, or groups changed, at the same time.
const AT_ONCE: usize = 32;

pub fn server_of_environment() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the variable by which tests know their server")]
    std::env::var("CONFAB_TEST_MARIADB_URL").ok()
}

pub async fn server(server: Option<&str>) -> Bench {
    let server = server.expect("name a server: --server or CONFAB_TEST_MARIADB_URL").trim_end_matches('/');
    let name = format!("confab_bench_{:08x}", random());
    let admin = Database::connect(server).await.expect("the server answers");
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a fresh database");
    open(format!("{server}/{name}"), Some("mariadbd"), None).await
}

pub async fn embedded() -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}/confab.sqlite?mode=rwc", folder.path().display());
    open(url, None, Some(folder)).await
}

async fn open(url: String, server_process: Option<&'static str>, folder: Option<tempfile::TempDir>) -> Bench {
    let migrations = SqlStore::connect_raw(&url, PoolSettings::default()).await.expect("connects");
    Migrator::up(&migrations, None).await.expect("migrates");
    migrations.close().await.expect("closes");
    let store = SqlStore::open(&url, PoolSettings::default(), SCHEMA_VERSION).await.expect("opens");
    let mut options = ConnectOptions::new(&url);
    options.max_connections(if folder.is_some() { 1 } else { 64 }).sqlx_logging(false);
    let raw = Database::connect(options).await.expect("connects");
    let keys = tempfile::tempdir().expect("a folder for keys");
    KeyRing::create(keys.path(), &SystemClock, &SystemRandom).expect("a key");
    let ring = KeyRing::open(keys.path()).expect("opens");
    let limits = Limits { rate_limits: false, ..Limits::default() };
    let chat = Wiring::new(store.clone(), ring, limits).build();
    Bench { chat, store, raw, server_process, url, _folder: folder, keys }
}

impl Bench {
    /// What a benchmark writes is gigabytes, and the next one has a database of its own.
    pub async fn drop_database(&self) {
        if self.server_process.is_some() {
            let name = self.url.rsplit('/').next().expect("it was made with a name");
            self.raw
                .execute_unprepared(&format!("DROP DATABASE {name}"))
                .await
                .expect("nobody uses it any more");
        }
    }

    /// The two sizes that decide how long a database can be written to before it has to stop for its pages, in MiB.
    pub async fn sizes_of_server(&self) -> String {
        let sql = "SELECT CONCAT('a redo log of ', @@innodb_log_file_size DIV 1048576, ' MiB and a buffer pool of ', @@innodb_buffer_pool_size DIV 1048576, ' MiB')";
        let row = self.raw.query_one_raw(Statement::from_string(DbBackend::MySql, sql)).await;
        let row = row.expect("the server answers").expect("a row");
        row.try_get_by_index(0).expect("a text")
    }
}

pub fn random() -> u32 {
    let mut bytes = [0; 4];
    #[expect(clippy::disallowed_methods, reason = "names of throw-away databases")]
    getrandom::fill(&mut bytes).expect("random bytes");
    u32::from_le_bytes(bytes)
}

impl Bench {
    pub async fn users(&self, count: i64) -> Vec<Caller> {
        let mut users = Vec::new();
        let first = i64::from(random()) << 20;
        for id in (1..=count).map(|number| first + number) {
            let name = format!("user{id}");
            let at = Timestamp(1);
            let user = User {
                id: UserId(id),
                username: name.as_str().into(),
                display_name: name.as_str().into(),
                created_at: at,
            };
            let session = Session {
                id: SessionId(id),
                user: user.id,
                device_name: None,
                created_at: at,
                last_used_at: at,
            };
            let mut token_hash = [0; 32];
            token_hash[..8].copy_from_slice(&id.to_be_bytes());
            self.store
                .insert_user(&user, &name, "none", &NewSession { session, token_hash })
                .await
                .expect("a user");
            users.push(Caller { user: user.id, session: SessionId(id), expires_at: Timestamp(i64::MAX) });
        }
        users
    }

    /// Users with sessions, made without the cost of their passwords.
    pub async fn signed_in(&self, count: i64) -> Vec<SignedIn> {
        let first = i64::from(random()) << 20;
        let users = (1..=count).map(|number| self.sign_in(first + number));
        stream::iter(users).buffered(AT_ONCE).collect().await
    }

    async fn sign_in(&self, id: i64) -> SignedIn {
        let (name, now) = (format!("user{id}"), SystemClock.now());
        let user = User {
            id: UserId(id),
            username: name.as_str().into(),
            display_name: name.as_str().into(),
            created_at: now,
        };
        let session = Session {
            id: SessionId(id),
            user: user.id,
            device_name: None,
            created_at: now,
            last_used_at: now,
        };
        // A refresh token that only this run knows: an access token is given for it.
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&id.to_be_bytes());
        let session = NewSession { session, token_hash: Sha256::digest(secret).into() };
        self.store.insert_user(&user, &name, "none", &session).await.expect("a user");
        let refresh = format!("cfr_{}", URL_SAFE_NO_PAD.encode(secret));
        let credentials = self.chat.refresh_session(&refresh).await.expect("an access token");
        let caller = self.chat.authenticate(&credentials.access_token).expect("a caller");
        SignedIn { caller, token: credentials.access_token }
    }

    /// Groups of so many, one after the other of the users.
    pub async fn groups_of(&self, size: usize, users: &[SignedIn]) -> Vec<ConversationId> {
        let groups = users.chunks(size).map(|members| async move {
            let members: Vec<Caller> = members.iter().map(|member| member.caller).collect();
            self.group(&members).await
        });
        stream::iter(groups).buffered(AT_ONCE).collect().await
    }

    /// A group of any size: members join a hundred at a time.
    pub async fn large_group(&self, users: &[SignedIn]) -> ConversationId {
        let members: Vec<Caller> = users.iter().map(|user| user.caller).collect();
        let mut parts = members.chunks(100);
        let conversation = self.group(parts.next().expect("members")).await;
        for part in parts {
            let command = AddMembers { conversation, users: part.iter().map(|one| one.user).collect() };
            self.chat.add_members(&members[0], command).await.expect("they join");
        }
        conversation
    }

    pub fn keys(&self) -> &Path {
        self.keys.path()
    }

    pub async fn group(&self, members: &[Caller]) -> ConversationId {
        let (owner, others) = members.split_first().expect("an owner");
        let title = Title::new("bench".to_owned()).expect("a title");
        let members = others.iter().map(|other| other.user).collect();
        let command = CreateGroup { title, members, client_key: None };
        self.chat.create_group(owner, command).await.expect("a group").conversation.id
    }
}
