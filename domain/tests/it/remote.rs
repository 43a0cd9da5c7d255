//! A domain behind gRPC under more than it can take.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use domain::{
    Caller, Chat, ErrorCode, Limits, Mentions,
    grpc::{
        Remote, RemoteSetup,
        metadata::ServiceSecret,
        server::{self, ServerSetup},
    },
    service::send_message::SendMessage,
    wiring::RemoteWiring,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    harness::{Kind, TestDatabase, database, group, held, key, text},
    redis_server::until,
};

/// More than the 20 resets that h2 allows by itself, and more than the 100 streams it opens unasked.
const CALLS: usize = 450;
const SOON: Duration = Duration::from_secs(10);

/// The domain of a database as `confab api` reaches it, by a way that can be held.
struct Far {
    chat: Chat,
    way: Arc<Way>,
    _stop: DropGuard,
}

/// Holds what the client says as long as it is told to, and counts its frames.
struct Way {
    server: SocketAddr,
    holds: watch::Sender<bool>,
    seen: watch::Sender<Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    connections: usize,
    /// Frames that open a stream, and those that end one early (RFC 9113, 6.2 and 6.4).
    headers: usize,
    resets: usize,
}

impl Far {
    async fn start(db: &TestDatabase) -> Self {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let way = Arc::new(Way {
            server: listener.local_addr().expect("bound"),
            holds: watch::Sender::new(false),
            seen: watch::Sender::default(),
        });
        let secret = ServiceSecret::new("a-secret-of-the-tests-and-nobody-else").expect("long enough");
        let setup = ServerSetup {
            chat: db.chat(),
            listener,
            secret: secret.clone(),
            timeout: SOON,
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let address = front.local_addr().expect("bound");
        let (tasks, carried) = (TaskTracker::new(), way.clone());
        tasks.spawn(async move { server::serve(setup).await.expect("serves") });
        tasks.clone().spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = front.accept().await {
                tasks.spawn(carry(client, carried.clone()));
            }
        }));
        let endpoints = vec![format!("http://{address}")];
        let remote = RemoteSetup { endpoints, secret, timeout: SOON, held: held(&stop) };
        let remote = Remote::connect(remote).await.expect("connects");
        let chat = RemoteWiring::new(remote, db.keys.clone(), Limits::default()).build();
        Self { chat, way, _stop: stop.drop_guard() }
    }
}

impl Way {
    async fn until(&self, enough: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        timeout(SOON, seen.wait_for(enough)).await.expect("soon").expect("open");
    }
}

async fn carry(mut client: TcpStream, way: Arc<Way>) -> io::Result<()> {
    let mut server = TcpStream::connect(way.server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    way.seen.send_modify(|seen| seen.connections += 1);
    let (client_reads, mut client_writes) = client.split();
    let (mut server_reads, server_writes) = server.split();
    let up = pass_frames(&way, client_reads, server_writes);
    let down = async {
        tokio::io::copy(&mut server_reads, &mut client_writes).await?;
        client_writes.shutdown().await
    };
    tokio::try_join!(up, down).map(drop)
}

async fn pass_frames(way: &Way, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut holds = way.holds.subscribe();
    let (mut kept, mut begun) = (Vec::new(), Vec::new());
    // The connection's preface is no frame.
    let mut passing = 24;
    loop {
        let mut bytes = Vec::with_capacity(64 * 1024);
        tokio::select! {
            read = from.read_buf(&mut bytes) => if read? == 0 { return to.shutdown().await },
            changed = holds.changed() => if changed.is_err() { return Ok(()) },
        }
        for byte in &bytes {
            if passing > 0 {
                passing -= 1;
                continue;
            }
            begun.push(*byte);
            if let [a, b, c, kind, _, _, _, _, _] = begun[..] {
                passing = u32::from_be_bytes([0, a, b, c]);
                begun.clear();
                way.seen.send_modify(|seen| match kind {
                    1 => seen.headers += 1,
                    3 => seen.resets += 1,
                    _ => {}
                });
            }
        }
        kept.append(&mut bytes);
        if !*holds.borrow_and_update() {
            to.write_all(&kept).await?;
            kept.clear();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_say_nothing_hold_up_no_stop() {
    const LONGEST_CALL: Duration = Duration::from_millis(100);
    let db = database(Kind::Sqlite).await.expect("always there");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let setup = ServerSetup {
        chat: db.chat(),
        listener,
        secret: ServiceSecret::new("a-secret-of-the-tests-and-nobody-else").expect("long enough"),
        timeout: LONGEST_CALL,
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    let serving = tasks.spawn(server::serve(setup));
    let _silent = TcpStream::connect(address).await.expect("connects");
    let mut half = TcpStream::connect(address).await.expect("connects");
    half.write_all(b"PRI * HTTP/2.0").await.expect("writes");
    // Whoever speaks is answered: both others are accepted by then.
    let mut sound = TcpStream::connect(address).await.expect("connects");
    sound.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("writes");
    sound.read_u8().await.expect("the server's settings");
    stop.cancel();
    timeout(SOON, serving).await.expect("it ends").expect("no panic").expect("no failure");
    // Nothing of it goes on.
    tasks.close();
    timeout(SOON, tasks.wait()).await.expect("its tasks end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_asked_for_once_a_moment_and_ones_own_each_time() {
    const TIMES: usize = 20;
    let db = database(Kind::Sqlite).await.expect("always there");
    let far = Far::start(&db).await;
    let (ada, bob) = (db.user("ada").await, db.user("bob").await);
    let name = async |reader: &Caller| {
        let found = far.chat.users(reader, &[ada.user]).await.expect("answers").remove(&ada.user);
        found.expect("a user").display_name.to_string()
    };
    let calls_of = async |reader: &Caller| {
        let before = far.way.seen.borrow().headers;
        for _ in 0..TIMES {
            assert_eq!(name(reader).await, "ada");
        }
        far.way.seen.borrow().headers - before
    };
    let (of_others, of_own) = (calls_of(&bob).await, calls_of(&ada).await);
    assert!(of_others < TIMES, "{of_others} calls");
    assert!(of_own >= TIMES, "{of_own} calls");
    far.chat.update_profile(&ada, Some("Ada".to_owned())).await.expect("renamed");
    assert_eq!(name(&ada).await, "Ada", "one's own, at once");
    until("others see it", async || name(&bob).await == "Ada").await;
}

/// The server has not looked at their calls when they go, and takes such for an attack when there are many.
#[tokio::test(flavor = "multi_thread")]
async fn callers_who_leave_all_at_once_take_nobody_with_them() {
    let db = database(Kind::Sqlite).await.expect("always there");
    let far = Far::start(&db).await;
    let caller = db.user("ada").await;
    let call = || {
        let chat = far.chat.clone();
        async move { chat.users(&caller, &[caller.user]).await.map(|users| users.len()) }
    };
    assert_eq!(call().await.expect("answered"), 1);
    let before = *far.way.seen.borrow();
    far.way.holds.send_replace(true);
    let (mut leaving, mut staying) = (JoinSet::new(), JoinSet::new());
    for _ in 0..CALLS {
        leaving.spawn(call());
        staying.spawn(call());
    }
    far.way.until(|seen| seen.headers >= before.headers + 2 * CALLS).await;
    leaving.shutdown().await;
    far.way.until(|seen| seen.resets >= CALLS).await;
    far.way.holds.send_replace(false);
    while let Some(answer) = timeout(SOON, staying.join_next()).await.expect("soon") {
        assert_eq!(answer.expect("no panic").expect("answered"), 1);
    }
    assert_eq!(far.way.seen.borrow().connections, before.connections, "over the connection that there was");
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_hundred_sends_of_sixteen_kib_at_once_are_answered_or_may_be_made_again() {
    let db = database(Kind::Sqlite).await.expect("always there");
    let far = Far::start(&db).await;
    let users = db.users(2).await;
    let conversation = group(&far.chat, &users[0], &users[1..]).await;
    let body = "x".repeat(16 * 1024);
    let begun = Instant::now();
    let mut open: Vec<usize> = (0..900).collect();
    while !open.is_empty() {
        assert!(begun.elapsed() < Duration::from_mins(1), "{} are open", open.len());
        let mut sends = JoinSet::new();
        for number in open.drain(..) {
            let (chat, sender, text) = (far.chat.clone(), users[0], text(&body));
            let command = SendMessage {
                conversation,
                client_key: key(format!("k{number}")),
                text,
                mentions: Mentions::default(),
            };
            sends.spawn(async move { (number, chat.send_message(&sender, command).await) });
        }
        while let Some(sent) = sends.join_next().await {
            let (number, sent) = sent.expect("no panic");
            if let Err(error) = sent {
                assert_eq!(error.code(), ErrorCode::Unavailable, "{error:?}");
                open.push(number);
            }
        }
    }
    let view = far.chat.conversations(&users[0], &[conversation]).await.expect("reads");
    assert_eq!(view[&conversation].conversation.last_seq, 900, "each once");
}
