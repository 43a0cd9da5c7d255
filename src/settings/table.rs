//! The table of settings.

use std::{net::SocketAddr, path::PathBuf};

use domain::{adapter::redis::RedisAddress, grpc::metadata::ServiceSecret};

use super::{
    Given, Problem,
    value::{Brokers, DomainUrls, Files, OtlpEndpoint, Text, TopicPrefix, Value, WorkerName},
};

/// What the sample configuration says of a setting.
pub(super) struct Entry {
    pub key: &'static str,
    pub doc: &'static str,
    pub default: &'static str,
    /// Whether it is read again while the process runs.
    pub is_live: bool,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:literal $(, $low:literal ..= $high:literal)? $(($live:ident))?;)*) => {
        /// Everything that can be set.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $kind,)*
        }

        pub(super) const ENTRIES: &[Entry] = &[
            $(Entry {
                key: stringify!($name),
                doc: concat!($($doc, "\n",)+),
                default: $default,
                is_live: {
                    const MARKS: &[&str] = &[$(stringify!($live))?];
                    !MARKS.is_empty()
                },
            },)*
        ];

        impl Settings {
            /// What differs in another reading, of those that are live or of the others.
            pub fn differences(&self, other: &Self, live: bool) -> Vec<&'static str> {
                let differ = [$(format!("{:?}", self.$name) != format!("{:?}", other.$name),)*];
                let differing = ENTRIES.iter().zip(differ).filter(|(entry, differs)| *differs && entry.is_live == live);
                differing.map(|(entry, _)| entry.key).collect()
            }

            /// Takes what was given, notes what is wrong, and fills in the defaults.
            pub(super) fn parse(mut given: Given, problems: &mut Vec<Problem>) -> Self {
                let settings = Self {
                    $($name: {
                        let (key, text) = given
                            .remove(stringify!($name))
                            .unwrap_or_else(|| (stringify!($name).to_owned(), $default.to_owned()));
                        let parsed = <$kind as Value>::parse(&text)
                            $(.and_then(|value| {
                                if ($low..=$high).contains(&value) {
                                    Ok(value)
                                } else {
                                    Err(format!("expected {} to {}", $low, $high))
                                }
                            }))?;
                        parsed.unwrap_or_else(|text| {
                            problems.push(Problem { key, text });
                            default::<$kind>($default)
                        })
                    },)*
                };
                for (key, _) in given.into_values() {
                    problems.push(Problem { key, text: "there is no such setting".to_owned() });
                }
                settings
            }
        }
    };
}

fn default<T: Value>(text: &str) -> T {
    #[expect(clippy::expect_used, reason = "a test parses every default of the table")]
    T::parse(text).expect("the default is good")
}

settings! {
    /// Address of the API. Port 0 is any free one; the line `listening on …` names it.
    listen: SocketAddr = "127.0.0.1:4000";
    /// Address of `/healthz`, `/readyz` and `/metrics`, or `off`.
    admin_listen: Option<SocketAddr> = "127.0.0.1:4001";
    /// Where traces go: `http://host:port` of a collector that takes OTLP over gRPC. Empty: no spans are made.
    otlp_endpoint: Option<OtlpEndpoint> = "";
    /// Which part of the traces that begin here is exported, 0 to 1. A trace that comes with a client's `traceparent` is exported
    /// when that says so.
    otlp_sampling_ratio: f64 = "1", 0.0 ..= 1.0;
    /// Spans that may wait for the collector, about 1 KiB each; more are dropped.
    otlp_queue_spans_max: usize = "8192", 512 ..= 1_000_000;
    /// Folder of the embedded default: SQLite file, signing keys, lock.
    data_dir: PathBuf = "./data";
    /// `sqlite://…`, `mysql://…` (MySQL and MariaDB) or `postgres://…`. Empty: SQLite in the data folder.
    database_url: Option<String> = "";
    /// Connections to the database at most, half of them for transactions. SQLite has one writer and four readers.
    database_connections_max: u32 = "24", 2 ..= 1000;
    /// Milliseconds that a statement may wait for a connection, and a new connection may take.
    database_acquire_timeout_ms: u64 = "3000", 100 ..= 60_000;
    /// Milliseconds that a statement or a commit may take; past them its connection is given up, so that a MariaDB or PostgreSQL whose
    /// packets vanish keeps none. The servers are told to let us wait 2 s for rows and 4 s for tables at most. Migrations have no limit.
    database_statement_timeout_ms: u64 = "5000", 1000 ..= 600_000;
    /// Redis, over which several nodes tell each other of commits at once, and which keeps copies of names for all of them: `redis://…`;
    /// several servers as `redis+sentinel://user:password@host1:26379,host2:26379/name-of-the-master?db=0` or
    /// `redis+cluster://user:password@host1,host2`; `rediss` in place of `redis` is TLS. A password's characters other than letters and
    /// digits are percent-encoded. Empty: there is one node, or the others look at the log every `CONFAB_HEADS_INTERVAL_MS`.
    redis_url: Option<RedisAddress> = "";
    /// File in PEM of the authorities that certify a Redis with TLS. Empty: those that the system trusts.
    redis_ca_file: Option<PathBuf> = "";
    /// Address of `confab domain`, for gRPC.
    domain_listen: SocketAddr = "127.0.0.1:4100";
    /// Where `confab api` and `confab worker` reach the domain: `http://host:port` of each `confab domain`, separated by commas.
    /// Empty: the domain runs in their own process.
    domain_url: Option<DomainUrls> = "";
    /// What api, domain and worker know of each other: at least 32 visible ASCII characters, the same for all. Needed with
    /// `domain_url` and by `confab domain`.
    service_secret: Option<ServiceSecret> = "";
    /// Kafka brokers as `host:port`, separated by commas, to which `confab worker` (or `confab serve`) relays what happened. Empty: it
    /// stays in the outbox.
    kafka_brokers: Option<Brokers> = "";
    /// What the names of our topics begin with, before a dot.
    kafka_topic_prefix: TopicPrefix = "confab";
    /// A name that this worker keeps over its restarts and that no other has meanwhile, such as that of a pod of a stateful set. After a
    /// crash it then has its lanes and partitions back at once, instead of when its leases run out; when it stops for good, others have its
    /// partitions after 6 s. Empty: a worker is another one each time.
    worker_name: Option<WorkerName> = "";
    /// Partitions of topics that `confab migrate` makes.
    kafka_partitions: i32 = "8", 1 ..= 10_000;
    /// Brokers that keep each record, in topics that `confab migrate` makes.
    kafka_replication: i32 = "1", 1 ..= 100;
    /// Key of APNs, a `.p8` file, for `confab worker` (or `confab serve`). Empty: no pushes to Apple's devices.
    push_apns_key: Option<PathBuf> = "";
    /// Identifier of the key of APNs.
    push_apns_key_id: Text = "";
    /// Identifier of the team that owns the key of APNs.
    push_apns_team_id: Text = "";
    /// Bundle id of the app that APNs pushes to.
    push_apns_topic: Text = "";
    /// Where APNs listens; `https://api.sandbox.push.apple.com` for apps in development.
    push_apns_url: Text = "https://api.push.apple.com";
    /// JSON file of a service account of Firebase. Empty: no pushes through FCM.
    push_fcm_account: Option<PathBuf> = "";
    /// Where FCM listens.
    push_fcm_url: Text = "https://fcm.googleapis.com";
    /// Key that identifies us to push services of browsers (VAPID): P-256, PKCS #8 in PEM, the same for every node. Empty: no Web Push.
    push_vapid_key: Option<PathBuf> = "";
    /// Whom a push service asks about us: `mailto:…` or `https://…`.
    push_vapid_subject: Text = "";
    /// Whether pushes show what was written; otherwise only that there is a new message.
    push_text: bool = "on";
    /// Let endpoints of browsers have private addresses and no TLS, for tests on a loopback address.
    push_private_endpoints: bool = "off";
    /// Folder of the signing keys, the same for every node. Empty: `keys` in the data folder.
    keys_dir: Option<PathBuf> = "";
    /// Exact origins that browsers may call from, separated by commas. Empty: the server's own, and any loopback origin while
    /// listening on loopback.
    allowed_origins: Vec<String> = "";
    /// File in PEM of the certificate for TLS, with its chain. Empty: no TLS. It is read again when it changes, without a restart.
    tls_certificate: Option<PathBuf> = "";
    /// File in PEM of the certificate's private key.
    tls_key: Option<PathBuf> = "";
    /// Listen on an address that is not loopback without TLS, because a proxy in front has it.
    allow_plaintext: bool = "off";
    /// Proxies in front whose `X-Forwarded-For` entry counts.
    trusted_hops: usize = "0", 0 ..= 16;
    /// Limits on rates and on sockets per user and address. Off only for load tests, on a loopback address.
    rate_limits: bool = "on";

    /// Members of a group.
    group_members_max: u32 = "100000", 2 ..= 1_000_000;
    /// Ids in one list argument.
    ids_max: usize = "100", 1 ..= 1000;
    /// Groups above this many members are large: who comes and goes is told to owners and admins in detail, and work for each member
    /// goes through the topic `task.fanout`.
    fanout_inline_members_max: i32 = "500", 1 ..= 100_000;
    /// Conversations up to this many members show each member's reads to the others.
    receipts_members_max: i32 = "50", 0 ..= 10_000;
    /// Sends and reads that may wait in front of one committer; a process has one a core, at most one a lane.
    commit_queue_max: usize = "4096", 1 ..= 1_000_000;
    /// Sends and reads in one transaction of a committer.
    batch_messages_max: usize = "256", 16 ..= 2048;
    /// Bytes of text in one transaction of a committer; with the rest of each message they must stay below the database's largest packet.
    batch_bytes_max: usize = "1048576", 16_384 ..= 8_388_608;
    /// How often a transaction that met another one (a deadlock, a lock wait that was too long) is tried again as a whole.
    retries_max: u32 = "5", 0 ..= 20;
    /// Milliseconds that a send or change may take before it is answered `UNAVAILABLE`.
    send_timeout_ms: u64 = "5000", 100 ..= 60_000;
    /// Missed events, of all conversations together, that a resumed subscription replays; more is `ResyncRequired`. Up to 16 KiB each are
    /// in memory while they are told.
    replay_events_max: u32 = "1000", 1 ..= 100_000;
    /// Hours that the outbox is kept, and so how old an event cursor may be.
    outbox_retention_hours: u64 = "72", 1 ..= 8760;
    /// Password hashes computed at once; each takes 19 MiB.
    password_hashes_max: usize = "2", 1 ..= 64;
    /// Sign-ins and the like that wait for a password hash; one more is answered `UNAVAILABLE` at once.
    password_queue_max: usize = "256", 0 ..= 100_000;
    /// Milliseconds that they wait.
    password_wait_ms: u64 = "2000", 100 ..= 30_000;
    /// Sign-ins to one account from one address that may fail in a row, on one node; also checks of one's own password.
    sign_in_pair_burst: u32 = "5", 1 ..= 10_000;
    /// Milliseconds until one more of them may.
    sign_in_pair_refill_ms: u64 = "30000", 100 ..= 3_600_000;
    /// Sign-ins from one address to any account that may fail in a row.
    sign_in_address_burst: u32 = "60", 1 ..= 100_000;
    /// Milliseconds until one more of them may.
    sign_in_address_refill_ms: u64 = "1000", 1 ..= 3_600_000;
    /// Sign-ins to one account that may fail in a row, from all addresses together that it has not signed in from in the last 30 days.
    sign_in_account_burst: u32 = "30", 1 ..= 10_000;
    /// Milliseconds until one more of them may.
    sign_in_account_refill_ms: u64 = "10000", 100 ..= 3_600_000;
    /// Registrations from one address in a row.
    registration_burst: u32 = "20", 1 ..= 100_000;
    /// Milliseconds until one more may.
    registration_refill_ms: u64 = "10000", 1 ..= 3_600_000;

    /// Milliseconds between two looks at the lanes' heads.
    heads_interval_ms: u64 = "300", 10 ..= 500;
    /// Milliseconds that a hole in a lane may wait for the bus before it is read from SQL.
    gap_timeout_ms: u64 = "20", 1 ..= 1000;
    /// Milliseconds after which a view of SQL is too old to deliver by: who was removed meanwhile must get nothing.
    view_age_max_ms: u64 = "1000", 500 ..= 1000;
    /// Milliseconds without a view of SQL after which a node closes its sockets, which resume elsewhere.
    view_lost_after_ms: u64 = "10000", 1000 ..= 10_000;
    /// Batches that the hub remembers for subscriptions about to go live.
    recent_batches_max: usize = "4096", 16 ..= 1_000_000;
    /// Bytes of these batches; the older of them are read from SQL.
    recent_batches_bytes_max: usize = "67108864", 1_048_576 ..= 1_073_741_824;
    /// Batches of a lane that may wait for an earlier one of it; more are read from SQL in their turn.
    ahead_batches_max: usize = "1024", 1 ..= 1_000_000;
    /// Bytes of these batches, of all lanes together.
    ahead_batches_bytes_max: usize = "16777216", 1_048_576 ..= 1_073_741_824;
    /// Bytes of batches on their way to the hub; behind them, what happens waits in SQL.
    feed_bytes_max: usize = "16777216", 1_048_576 ..= 1_073_741_824;
    /// Bytes of batches that wait to be heard from the bus, and of those that wait to be told to others; more are read from SQL.
    bus_backlog_bytes_max: usize = "67108864", 1_048_576 ..= 1_073_741_824;
    /// Milliseconds that the execution of one event may take.
    event_timeout_ms: u64 = "5000", 100 ..= 60_000;

    /// Connections open at once.
    connections_max: usize = "50000", 1 ..= 10_000_000;
    /// Connections of one address (of one IPv6 network of 64 bits); one more is closed at once. Not counted with `trusted_hops`: they all
    /// come from the proxy.
    connections_per_address_max: usize = "2000", 1 ..= 10_000_000;
    /// Milliseconds that a connection may take no answer, or over HTTP/2 ask nothing, once it has asked something. Over HTTP/1.1 the next
    /// header has `header_timeout_ms` to come.
    idle_timeout_ms: u64 = "60000", 1000 ..= 3_600_000;
    /// Milliseconds that a request's header may take, and all that comes before the first one.
    header_timeout_ms: u64 = "8000", 100 ..= 60_000;
    /// Milliseconds that a request's body may take.
    body_timeout_ms: u64 = "8000", 100 ..= 60_000;
    /// Bytes of a request's body.
    body_bytes_max: usize = "1048576", 1024 ..= 16_777_216;
    /// Milliseconds after which an operation is answered `UNAVAILABLE`; its work goes on.
    operation_timeout_ms: u64 = "10000", 100 ..= 60_000;
    /// Operations running at once, over HTTP and sockets together.
    operations_max: usize = "4096", 1 ..= 1_000_000;
    /// Bytes of documents kept in parsed form.
    cached_documents_bytes_max: u64 = "4194304", 0 ..= 1_073_741_824;
    /// Files of manifests, separated by commas: what a client's build lists with Relay's compiler or Apollo's manifest generator. Where there
    /// are some, the documents that they list are all that runs. Empty: every document runs.
    trusted_documents: Files = "";
    /// Documents that clients may register by their hash (automatic persisted queries), in each process and again in Redis. The one that was
    /// not asked for the longest is forgotten first.
    persisted_documents_max: usize = "10000", 1 ..= 1_000_000;
    /// Bytes of these documents.
    persisted_documents_bytes_max: usize = "16777216", 65_536 ..= 1_073_741_824;
    /// What a user may spend on operations in a row, in the units of `operation_cost_max`. Processes that share a Redis share the budget, too;
    /// without it each has one.
    user_budget_burst: u32 = "60000", 1000 ..= 1_000_000_000;
    /// How much of it comes back every second.
    user_budget_per_second: u32 = "1000", 1 ..= 1_000_000;
    /// What all callers of one address (of one IPv6 network of 64 bits) may spend on operations in a row, signed in or not.
    address_budget_burst: u32 = "600000", 1000 ..= 1_000_000_000;
    /// How much of it comes back every second.
    address_budget_per_second: u32 = "10000", 1 ..= 1_000_000;
    /// Bytes of a GraphQL document.
    document_bytes_max: usize = "65536", 1024 ..= 1_048_576;
    /// Tokens of a GraphQL document.
    document_tokens_max: usize = "2000", 100 ..= 100_000;
    /// Fields below each other in a GraphQL document; introspection is free.
    document_depth_max: usize = "12", 4 ..= 64;
    /// Brackets open at once in a GraphQL document.
    document_nesting_max: usize = "64", 16 ..= 200;
    /// Selection sets and fragments inside each other, introspection included.
    document_selection_nesting_max: usize = "30", 8 ..= 100;
    /// Lists of fields or of types inside each other in an introspection.
    document_introspection_lists_max: usize = "2", 1 ..= 4;
    /// Selections of a document with every fragment written out.
    document_selections_max: usize = "2000", 100 ..= 100_000;
    /// Fragments of a document.
    document_fragments_max: usize = "100", 1 ..= 10_000;
    /// Operations of a document.
    document_operations_max: usize = "32", 1 ..= 10_000;
    /// Aliases in a document.
    document_aliases_max: usize = "50", 1 ..= 10_000;
    /// Directives in a document.
    document_directives_max: usize = "50", 1 ..= 10_000;
    /// Directives in one place.
    document_directives_per_place_max: usize = "5", 1 ..= 100;
    /// What an operation may cost, counted before it runs: an object 1, a mutation 10, and what is in a list as often as the list
    /// can be long (`first` or `last`; 20 when nothing says how long). 100 conversations with 10 members and their names each cost 2,201.
    operation_cost_max: u64 = "10000", 1000 ..= 1_000_000;
    /// Arrays and objects inside each other in a JSON body.
    json_nesting_max: usize = "32", 8 ..= 100;
    /// Values in a JSON body.
    json_values_max: usize = "20000", 100 ..= 1_000_000;

    /// Sockets of this node.
    sockets_max: usize = "20000", 1 ..= 10_000_000;
    /// Sockets of one user on this node.
    sockets_per_user_max: usize = "50", 1 ..= 1_000_000;
    /// Sockets of one address on this node.
    sockets_per_address_max: usize = "1000", 1 ..= 10_000_000;
    /// Sockets that may be opened in a second on this node, and as many at once; more are closed with 1013 and come again, here or at
    /// another node.
    sockets_opened_per_second_max: u32 = "2000", 1 ..= 1_000_000;
    /// Operations open at once on one socket.
    socket_operations_max: usize = "100", 1 ..= 10_000;
    /// Bytes of a message from the client.
    socket_message_bytes_max: usize = "262144", 1024 ..= 16_777_216;
    /// Messages waiting to be written to one socket; one more closes it with 4290.
    socket_queue_messages_max: usize = "256", 4 ..= 100_000;
    /// Bytes waiting to be written to one socket.
    socket_queue_bytes_max: usize = "1048576", 65_536 ..= 1_073_741_824;
    /// Milliseconds that a client may take to send `connection_init`.
    socket_init_timeout_ms: u64 = "10000", 100 ..= 60_000;
    /// Milliseconds between two pings; after two without a sign of life a socket is dropped.
    socket_ping_interval_ms: u64 = "25000", 100 ..= 25_000;
    /// Milliseconds that one write may take before the reader is too slow.
    socket_write_timeout_ms: u64 = "10000", 100 ..= 60_000;

    /// Whether people see who is there.
    presence_enabled: bool = "on" (live);
    /// Whether people see who is typing.
    typing_enabled: bool = "on" (live);
    /// How often one user may say in a row that they are typing, on each node.
    typing_burst: u32 = "20", 1 ..= 10_000;
    /// Milliseconds until one more is possible.
    typing_refill_ms: u64 = "500", 1 ..= 86_400_000;
    /// Users whom one subscription to `activity` may watch, members of its conversations included.
    activity_users_max: u32 = "1000", 1 ..= 100_000;
    /// Users and conversations that all subscriptions to `activity` of one user may watch on this node.
    activity_watches_per_user_max: usize = "5000", 1 ..= 1_000_000;
    /// Users and conversations that all subscriptions to `activity` on this node may watch, about 300 bytes each.
    activity_watches_max: usize = "200000", 1 ..= 100_000_000;

    /// Milliseconds over which a stopping node spreads the closing of its sockets.
    drain_spread_ms: u64 = "5000", 0 ..= 60_000;
    /// Milliseconds that a stopping node waits for what runs.
    drain_timeout_ms: u64 = "25000", 100 ..= 300_000;
}
