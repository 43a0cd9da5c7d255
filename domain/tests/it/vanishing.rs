//! A database whose packets vanish, without a word from TCP: nobody waits for it for ever, and what has healed works again with every
//! place of the pools.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    ErrorCode, LaneId, Limits, Mentions, PageRequest, Timestamp,
    adapter::sql::{PoolSettings, SqlStore},
    port::{LaneTransaction, Log as _, StoreError},
    service::send_message::SendMessage,
    wiring::Wiring,
};
use futures_util::future::{join_all, try_join_all};
use migration::SCHEMA_VERSION;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::Notify,
    task::yield_now,
    time::{Instant, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::harness::{Kind, TestDatabase, database, group, key, send, text};

const TIMEOUT: Duration = Duration::from_secs(2);
/// The wait for a connection, the one for an answer, and what a loaded machine adds.
const ENDED_WITHIN: Duration = Duration::from_secs(7);
/// RELIABILITY: reconnected after a half-open link.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A way to the database on which everything may vanish. A connection that has seen that stays dead.
struct Link {
    url: String,
    state: Arc<State>,
    _stop: DropGuard,
}

struct State {
    target: (String, u16),
    /// Odd while packets vanish. Only connections of the present age live.
    age: AtomicU64,
    /// Whether to vanish with the answer to the next `COMMIT`.
    after_commit: AtomicBool,
    /// Whether to break the connection instead of carrying that answer, once it is known to be committed.
    break_after_commit: AtomicBool,
    committed: Notify,
}

impl Link {
    async fn to(database: &str) -> Self {
        let mut url: url::Url = database.parse().expect("a URL");
        let target = (url.host_str().expect("a host").to_owned(), url.port().expect("a port"));
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("binds");
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(listener.local_addr().expect("bound").port())).expect("a port");
        let state = Arc::new(State {
            target,
            age: AtomicU64::new(0),
            after_commit: AtomicBool::new(false),
            break_after_commit: AtomicBool::new(false),
            committed: Notify::new(),
        });
        let (stop, tasks, shared) = (CancellationToken::new(), TaskTracker::new(), state.clone());
        let stopped = stop.clone();
        tasks.clone().spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                tasks.spawn(stopped.clone().run_until_cancelled_owned(carry(client, shared.clone())));
            }
        }));
        Self { url: url.into(), state, _stop: stop.drop_guard() }
    }

    fn vanish(&self) {
        assert!(self.state.age.fetch_add(1, Ordering::SeqCst).is_multiple_of(2), "it was sound");
    }

    fn vanish_after_commit(&self) {
        self.state.after_commit.store(true, Ordering::SeqCst);
    }

    fn heal(&self) {
        assert!(!self.state.age.fetch_add(1, Ordering::SeqCst).is_multiple_of(2), "it was broken");
    }
}

async fn carry(mut client: TcpStream, state: Arc<State>) -> io::Result<()> {
    let born = state.age.load(Ordering::SeqCst);
    let (host, port) = &state.target;
    let mut server = TcpStream::connect((host.as_str(), *port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    let breaks = AtomicBool::new(false);
    let up = pump(&state, born, client_reads, server_writes, (true, &breaks));
    let down = pump(&state, born, server_reads, client_writes, (false, &breaks));
    tokio::try_join!(up, down).map(drop)
}

async fn pump(
    state: &State,
    born: u64,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    (is_client, breaks): (bool, &AtomicBool),
) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        let lives = born.is_multiple_of(2) && state.age.load(Ordering::SeqCst) == born;
        match (lives, count) {
            // Not even its end is told.
            (false, 0) => return Ok(()),
            (false, _) => {}
            (true, 0) => return to.shutdown().await,
            (true, _) => {
                // And not `READ COMMITTED`.
                let commits =
                    bytes[..count].windows(7).any(|word| word.starts_with(b"COMMIT") && word[6] != b'T')
                        || bytes[..count].ends_with(b"COMMIT");
                if is_client && commits && state.after_commit.swap(false, Ordering::SeqCst) {
                    state.age.fetch_add(1, Ordering::SeqCst);
                }
                if is_client && commits && state.break_after_commit.swap(false, Ordering::SeqCst) {
                    breaks.store(true, Ordering::SeqCst);
                }
                if !is_client && breaks.load(Ordering::SeqCst) {
                    // An answer came; the last one says that it is committed.
                    state.committed.notified().await;
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                to.write_all(&bytes[..count]).await?;
            }
        }
    }
}

/// With `places` connections for statements and as many for transactions.
async fn store(link: &Link, places: u32) -> SqlStore {
    let settings =
        PoolSettings { connections_max: 2 * places, acquire_timeout: TIMEOUT, statement_timeout: TIMEOUT };
    SqlStore::open(&link.url, settings, SCHEMA_VERSION).await.expect("opens")
}

async fn ends<T>(what: impl Future<Output = T>) -> T {
    timeout(ENDED_WITHIN, what).await.expect("nobody waits for ever")
}

fn is_unavailable<T>(outcome: Result<T, StoreError>) {
    let error = outcome.err().expect("nothing comes through");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

/// As many transactions at once as there are places, each in a lane of its own, and as many reads.
async fn fills(store: &SqlStore, lanes: &[LaneId]) -> Result<(), StoreError> {
    let held = try_join_all(lanes.iter().map(|lane| {
        let lane = std::slice::from_ref(lane);
        store.begin(lane)
    }))
    .await?;
    try_join_all(lanes.iter().map(|_| store.heads())).await?;
    join_all(held.into_iter().map(LaneTransaction::rollback)).await;
    Ok(())
}

/// Transactions that vanished hold their lanes until the server ends them, which is a part of the time.
async fn is_back(store: &SqlStore, lanes: &[LaneId]) {
    let healed = Instant::now();
    loop {
        match ends(fills(store, lanes)).await {
            Ok(()) => return assert!(healed.elapsed() < BACK_WITHIN, "back after {:?}", healed.elapsed()),
            Err(StoreError::Unavailable(_) | StoreError::InDoubt(_) | StoreError::Conflict(_))
                if healed.elapsed() < BACK_WITHIN => {}
            Err(error) => panic!("not back after {:?}: {error:?}", healed.elapsed()),
        }
    }
}

/// With one place in each pool, so that one that is lost is all.
async fn no_state_of_a_connection_keeps_its_place(db: TestDatabase) {
    let link = Link::to(&db.url).await;
    let store = store(&link, 1).await;
    let lane = [LaneId(0)];

    link.vanish();
    is_unavailable(ends(store.heads()).await);
    link.heal();
    is_back(&store, &lane).await;

    link.vanish();
    is_unavailable(ends(store.begin(&lane)).await);
    link.heal();
    is_back(&store, &lane).await;

    let mut within = store.begin(&lane).await.expect("begins");
    link.vanish();
    is_unavailable(ends(within.epoch()).await);
    ends(within.rollback()).await;
    link.heal();
    is_back(&store, &lane).await;

    let rolling_back = store.begin(&lane).await.expect("begins");
    link.vanish();
    ends(rolling_back.rollback()).await;
    link.heal();
    is_back(&store, &lane).await;

    let dropped = store.begin(&lane).await.expect("begins");
    link.vanish();
    drop(dropped);
    link.heal();
    is_back(&store, &lane).await;

    // Nobody waits for these two any more when they vanish.
    let mut cancelled = store.begin(&lane).await.expect("begins");
    link.vanish();
    assert!(futures_util::poll!(Box::pin(store.heads())).is_pending());
    assert!(futures_util::poll!(Box::pin(cancelled.epoch())).is_pending());
    drop(cancelled);
    link.heal();
    is_back(&store, &lane).await;
}

async fn a_pool_full_of_dead_connections_is_as_large_as_before(db: TestDatabase) {
    let link = Link::to(&db.url).await;
    let store = store(&link, 4).await;
    let lanes: Vec<LaneId> = store.layout().lanes().take(4).collect();
    assert_eq!(lanes.len(), 4);
    fills(&store, &lanes).await.expect("sound");
    let mut held =
        try_join_all(lanes.iter().map(|lane| store.begin(std::slice::from_ref(lane)))).await.expect("sound");
    link.vanish();
    let reads = join_all((0..12).map(|_| ends(store.heads())));
    let writes = join_all(held.iter_mut().map(|transaction| ends(transaction.epoch())));
    let (reads, writes) = tokio::join!(reads, writes);
    reads.into_iter().for_each(is_unavailable);
    writes.into_iter().for_each(is_unavailable);
    link.heal();
    is_back(&store, &lanes).await;
}

async fn a_commit_whose_answer_vanishes_is_found_by_its_key(db: TestDatabase) {
    let link = Link::to(&db.url).await;
    // Enough of them that one is kept between batches, where that is done.
    let chat = Wiring::new(store(&link, 6).await, db.keys.clone(), Limits::default()).build();
    let users = db.users(2).await;
    let conversation = group(&chat, &users[0], &users[1..]).await;
    send(&chat, &users[0], conversation, "sound").await;
    let command = || SendMessage {
        conversation,
        client_key: key("once"),
        text: text("unknown"),
        mentions: Mentions::default(),
    };

    link.vanish_after_commit();
    let unknown = ends(chat.send_message(&users[0], command())).await.expect_err("no answer");
    assert_eq!(unknown.code(), ErrorCode::Unavailable);
    assert!(unknown.retryable());
    link.heal();
    let healed = Instant::now();
    let again = loop {
        match chat.send_message(&users[0], command()).await {
            Ok(message) => break message,
            Err(error) if error.retryable() && healed.elapsed() < BACK_WITHIN => {}
            Err(error) => panic!("not back after {:?}: {error:?}", healed.elapsed()),
        }
    };
    let page = PageRequest::new((Some(10), None), (None, None), domain::Direction::Forward).expect("a page");
    let history = db.chat().history(&users[1], conversation, &page).await.expect("reads");
    let ids: Vec<_> = history.items.iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), 2, "committed once");
    assert_eq!(ids[1], again.id, "and that one is told");
}

async fn a_connection_that_breaks_with_the_answer_to_a_commit_costs_no_sender_an_error(db: TestDatabase) {
    let link = Link::to(&db.url).await;
    // Enough of them that one is kept between batches.
    let chat = Wiring::new(store(&link, 6).await, db.keys.clone(), Limits::default()).build();
    let users = db.users(2).await;
    let conversation = group(&chat, &users[0], &users[1..]).await;
    let other = db.chat();
    let page =
        || PageRequest::new((Some(10), None), (None, None), domain::Direction::Forward).expect("a page");
    for round in 0..3 {
        send(&chat, &users[0], conversation, &format!("sound {round}")).await;
        link.state.break_after_commit.store(true, Ordering::SeqCst);
        let command = SendMessage {
            conversation,
            client_key: key(format!("once-{round}")),
            text: text("unknown"),
            mentions: Mentions::default(),
        };
        let seen = async {
            let newest =
                async || other.history(&users[1], conversation, &page()).await.expect("reads").items.len();
            while newest().await != usize::try_from(2 * round + 2).expect("small") {
                yield_now().await;
            }
            link.state.committed.notify_one();
        };
        let (message, ()) = tokio::join!(ends(chat.send_message(&users[0], command)), ends(seen));
        let message = message.expect("acknowledged");
        assert!(!link.state.break_after_commit.load(Ordering::SeqCst), "a connection broke");
        // The creation of the group is the first change, and each message is one.
        assert_eq!((message.seq, message.rev), (2 * round + 2, 2 * round + 3), "the one that was committed");
    }
    let history = other.history(&users[1], conversation, &page()).await.expect("reads");
    assert_eq!(history.items.len(), 6);
}

/// By itself, and with all of its transaction where that travels together.
async fn a_commit_whose_answer_is_lost_is_in_doubt(db: TestDatabase) {
    let link = Link::to(&db.url).await;
    let store = store(&link, 6).await;
    let lane = store.layout().lanes().next().expect("a lane");
    for _ in 0..2 {
        let by_itself = store.begin(&[lane]).await.expect("begins");
        is_in_doubt(&link, &db, by_itself, lane).await;
        // The connection of this one is kept, where that is done.
        let sound = store.begin(&[lane]).await.expect("begins");
        sound.commit(&[], Timestamp(1)).await.expect("commits");
        let heads = store.heads().await.expect("reads");
        let last = [(lane, heads.positions.get(lane))];
        let together = store.begin_after(heads.epoch, &last).await.expect("begins").expect("it stands there");
        is_in_doubt(&link, &db, together, lane).await;
    }
}

async fn is_in_doubt(link: &Link, db: &TestDatabase, transaction: Box<dyn LaneTransaction>, lane: LaneId) {
    let pos = transaction.pos(lane);
    link.state.break_after_commit.store(true, Ordering::SeqCst);
    let seen = async {
        while db.store.heads().await.expect("reads").positions.get(lane) != pos {
            yield_now().await;
        }
        link.state.committed.notify_one();
    };
    let (outcome, ()) = tokio::join!(ends(transaction.commit(&[], Timestamp(1))), ends(seen));
    let error = outcome.expect_err("no answer");
    assert!(matches!(error, StoreError::InDoubt(_)), "{error:?}");
}

macro_rules! on_servers {
    ($($contract:ident as $mariadb:ident, $postgres:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $mariadb() {
                if let Some(db) = database(Kind::MariaDb).await {
                    $contract(db).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn $postgres() {
                if let Some(db) = database(Kind::Postgres).await {
                    $contract(db).await;
                }
            }
        )*
    };
}

on_servers! {
    no_state_of_a_connection_keeps_its_place as no_state_of_a_connection_keeps_its_place_on_mariadb,
        no_state_of_a_connection_keeps_its_place_on_postgres;
    a_pool_full_of_dead_connections_is_as_large_as_before as a_pool_full_of_dead_connections_is_as_large_as_before_on_mariadb,
        a_pool_full_of_dead_connections_is_as_large_as_before_on_postgres;
    a_commit_whose_answer_vanishes_is_found_by_its_key as a_commit_whose_answer_vanishes_is_found_by_its_key_on_mariadb,
        a_commit_whose_answer_vanishes_is_found_by_its_key_on_postgres;
    a_commit_whose_answer_is_lost_is_in_doubt as a_commit_whose_answer_is_lost_is_in_doubt_on_mariadb,
        a_commit_whose_answer_is_lost_is_in_doubt_on_postgres;
    a_connection_that_breaks_with_the_answer_to_a_commit_costs_no_sender_an_error
        as a_connection_that_breaks_with_the_answer_to_a_commit_costs_no_sender_an_error_on_mariadb,
        a_connection_that_breaks_with_the_answer_to_a_commit_costs_no_sender_an_error_on_postgres;
}
