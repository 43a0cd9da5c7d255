//! A TCP proxy that spoils the connections through it: slow, cut in the middle, or half-open, when bytes vanish and nobody is told.
//!
//! A connection that has lost a byte to a half-open link stays dead after the link has healed, as one does whose path forgot it; whoever
//! speaks over it has to notice. In front of Kafka the proxy also reads the broker's answers, which name the place to connect to.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const READ_BYTES: usize = 64 * 1024;
/// An answer of Kafka is at most what its client asks for, and that is 50 MiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A cut comes somewhere within the first bytes after it was ordered.
const CUT_WITHIN_BYTES: f64 = 2048.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Sound,
    /// Each read waits for the delay and up to the jitter.
    Slow {
        delay: Duration,
        jitter: Duration,
    },
    /// Bytes vanish in both directions; nothing is closed.
    HalfOpen,
    /// Each connection ends within its next bytes, somewhere in the middle.
    Cut,
}

pub struct Proxy {
    pub port: u16,
    link: watch::Sender<Link>,
    stop: CancellationToken,
}

/// What the answers of a broker say of its place, and what they are to say.
#[derive(Clone, Copy)]
struct Advertised {
    port: u16,
    instead: u16,
}

struct Shared {
    target: String,
    link: watch::Receiver<Link>,
    advertised: Option<Advertised>,
    chance: AtomicU64,
}

impl Proxy {
    /// In front of `host:port`.
    pub async fn to(target: &str) -> io::Result<Self> {
        Self::start(target, false).await
    }

    /// In front of a broker, whose port its clients learn from its answers.
    pub async fn to_broker(target: &str) -> io::Result<Self> {
        Self::start(target, true).await
    }

    async fn start(target: &str, is_broker: bool) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let instead = listener.local_addr()?.port();
        let port = target.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| io::Error::other(format!("{target} has no port")))?;
        let (link, receiver) = watch::channel(Link::Sound);
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            link: receiver,
            advertised: is_broker.then_some(Advertised { port, instead }),
            chance: AtomicU64::new(u64::from(instead)),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accept(listener, shared, stop.clone())));
        Ok(Self { port: instead, link, stop })
    }

    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    while let Ok((client, _)) = listener.accept().await {
        let carried = carry(client, shared.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(carried));
    }
}

/// What both directions of a connection know.
struct Connection<'a> {
    shared: &'a Shared,
    lost_a_byte: AtomicBool,
    /// Bytes before a cut; negative where none is ordered.
    left: AtomicI64,
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    // One that cannot be reached refuses the client too.
    let Ok(mut server) = TcpStream::connect(&shared.target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let connection =
        Connection { shared: &shared, lost_a_byte: AtomicBool::new(false), left: AtomicI64::new(-1) };
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    let up = connection.pump(client_reads, server_writes, None);
    let down = connection.pump(server_reads, client_writes, shared.advertised);
    // An error of one direction, or a cut, ends both.
    let _ = tokio::try_join!(up, down);
}

impl Connection<'_> {
    async fn pump(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        advertised: Option<Advertised>,
    ) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        loop {
            bytes.clear();
            let is_open = match advertised {
                None => from.read_buf(&mut bytes).await? > 0,
                Some(advertised) => read_answer(&mut from, &mut bytes, advertised).await?,
            };
            let link = *self.shared.link.borrow();
            if link == Link::HalfOpen {
                self.lost_a_byte.store(true, Ordering::Relaxed);
            }
            if self.lost_a_byte.load(Ordering::Relaxed) {
                // The end of one side is a packet too, and nobody hears of it.
                if is_open {
                    continue;
                }
                return Ok(());
            }
            if !is_open {
                return to.shutdown().await;
            }
            if let Link::Slow { delay, jitter } = link {
                sleep(delay + jitter.mul_f64(self.shared.chance())).await;
            }
            let passing = self.bytes_before_cut(link, bytes.len());
            to.write_all(&bytes[..passing]).await?;
            if passing < bytes.len() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    fn bytes_before_cut(&self, link: Link, count: usize) -> usize {
        if link != Link::Cut {
            self.left.store(-1, Ordering::Relaxed);
            return count;
        }
        let mut left = self.left.load(Ordering::Relaxed);
        if left < 0 {
            #[expect(clippy::cast_possible_truncation, reason = "a part of two thousand")]
            let within = (self.shared.chance() * CUT_WITHIN_BYTES) as i64;
            left = within;
        }
        let passing = count.min(usize::try_from(left).unwrap_or(0));
        self.left.store(left - i64::try_from(passing).unwrap_or(left), Ordering::Relaxed);
        passing
    }
}

impl Shared {
    /// From 0 to 1, the same sequence in every run.
    fn chance(&self) -> f64 {
        let mixed = self.chance.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
        let part = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        part
    }
}

/// A whole answer of a broker, with another place where it names its own; `false` at the end of the connection.
async fn read_answer(
    from: &mut ReadHalf<'_>,
    bytes: &mut Vec<u8>,
    advertised: Advertised,
) -> io::Result<bool> {
    let mut length = [0; 4];
    if let Err(error) = from.read_exact(&mut length).await {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(false) } else { Err(error) };
    }
    let count = u32::from_be_bytes(length) as usize;
    if count > ANSWER_BYTES_MAX {
        return Err(io::Error::other("no answer of Kafka is so long"));
    }
    bytes.extend_from_slice(&length);
    bytes.resize(4 + count, 0);
    from.read_exact(&mut bytes[4..]).await?;
    // In every version a place is the host, with its length before it, and then the port in four bytes.
    let place = |port: u16| [b"127.0.0.1".as_slice(), &u32::from(port).to_be_bytes()].concat();
    let (mine, instead) = (place(advertised.port), place(advertised.instead));
    let mut begin = 0;
    while let Some(found) = bytes[begin..].windows(mine.len()).position(|window| window == mine) {
        let end = begin + found + mine.len();
        bytes[begin + found..end].copy_from_slice(&instead);
        begin = end;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A server that answers what it is told, and a connection to it through a proxy.
    async fn echo() -> (Proxy, TcpStream, TaskTracker) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let proxy = Proxy::to(&listener.local_addr().expect("bound").to_string()).await.expect("a proxy");
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut reads, mut writes) = stream.split();
                let _ = tokio::io::copy(&mut reads, &mut writes).await;
            }
        });
        let stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.expect("connects");
        (proxy, stream, tasks)
    }

    async fn answers(stream: &mut TcpStream) {
        let mut answer = [0; 4];
        stream.write_all(b"ping").await.expect("writes");
        timeout(SOON, stream.read_exact(&mut answer)).await.expect("an answer").expect("reads");
        assert_eq!(&answer, b"ping");
    }

    #[tokio::test]
    async fn a_sound_link_carries_both_ways_and_its_end() {
        let (_proxy, mut stream, _tasks) = echo().await;
        answers(&mut stream).await;
        stream.shutdown().await.expect("ends");
        let rest = timeout(SOON, stream.read(&mut [0; 4])).await.expect("the end").expect("reads");
        assert_eq!(rest, 0);
    }

    #[tokio::test]
    async fn a_half_open_connection_is_silent_even_after_the_link_has_healed() {
        let (proxy, mut stream, _tasks) = echo().await;
        answers(&mut stream).await;
        proxy.set(Link::HalfOpen);
        stream.write_all(b"lost").await.expect("nothing is closed");
        assert!(timeout(Duration::from_millis(200), stream.read(&mut [0; 4])).await.is_err());
        proxy.set(Link::Sound);
        stream.write_all(b"lost").await.expect("nothing is closed");
        assert!(timeout(Duration::from_millis(200), stream.read(&mut [0; 4])).await.is_err());
    }

    #[tokio::test]
    async fn a_cut_comes_within_its_bytes() {
        let (proxy, mut stream, _tasks) = echo().await;
        answers(&mut stream).await;
        proxy.set(Link::Cut);
        let bytes = vec![0; 2048];
        stream.write_all(&bytes).await.expect("writes");
        let mut received = Vec::new();
        // By the end or by a reset: it was in the middle of something.
        let _ = timeout(SOON, stream.read_to_end(&mut received)).await.expect("is cut");
        assert!(received.len() < bytes.len());
    }

    #[tokio::test]
    async fn a_broker_is_found_through_the_proxy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let proxy = Proxy::to_broker(&format!("127.0.0.1:{port}")).await.expect("a proxy");
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.expect("connects");
        let (mut broker, _) = listener.accept().await.expect("accepts");
        let answer = |port: u16| {
            let body = [b"..\x00\x09127.0.0.1".as_slice(), &u32::from(port).to_be_bytes(), b".."].concat();
            [&u32::try_from(body.len()).expect("short").to_be_bytes(), body.as_slice()].concat()
        };
        broker.write_all(&answer(port)).await.expect("writes");
        let mut told = vec![0; answer(port).len()];
        timeout(SOON, stream.read_exact(&mut told)).await.expect("an answer").expect("reads");
        assert_eq!(told, answer(proxy.port));
    }
}
