//! Many subscribed sockets in one process: as little of WebSocket and `graphql-transport-ws` as that takes.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::ready,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Addresses that clients come from. Of one address alone, some thousand sockets take so many of its 28,000 ports that the kernel spends
/// a core on finding free ones.
const ADDRESSES: u8 = 200;
/// Clients that lost their node all come back at once; these are enough that a node always has some to go on with.
pub const CONNECTING_AT_ONCE: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Events of about 500 bytes, some at a time.
const BUFFER_BYTES: usize = 2048;
/// What a socket that is not looked into can take at a time.
const RAW_BYTES: usize = 256 * 1024;

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// What a chat client needs of a message.
pub const EVENTS: &str = "subscription { events { __typename cursor ... on ConversationEvent { rev conversation { id lastSeq } } \
    ... on MessageSent { message { id seq clientMessageId createdAt sender { id displayName } content { ... on TextContent { text } } } } } }";

pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer has been read.
    begin: usize,
}

thread_local! {
    static RAW: RefCell<Vec<u8>> = RefCell::new(vec![0; RAW_BYTES]);
}

/// What a socket subscribes to, and as whom.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub port: u16,
    pub token: String,
    pub query: &'static str,
    /// The cursor, for a query with `$after`.
    pub after: Option<String>,
}

/// All of them live, in the order of the tokens.
pub async fn subscribe_all(ports: &[u16], tokens: &[&str]) -> io::Result<Vec<Socket>> {
    let wanted = tokens.iter().enumerate().map(|(number, token)| {
        let port = ports[number % ports.len()];
        Wanted { port, token: (*token).to_owned(), query: EVENTS, after: None }
    });
    live_all(wanted.collect()).await
}

/// All of them live, in their order.
pub async fn live_all(wanted: Vec<Wanted>) -> io::Result<Vec<Socket>> {
    let sockets = wanted.into_iter().enumerate().map(|(number, wanted)| async move {
        let mut socket = Socket::subscribe(address_of(number), &wanted).await?;
        while !socket.hear(is_live).await? {}
        Ok(socket)
    });
    at_once(sockets).await
}

/// As many that are only connected.
pub async fn upgrade_all(port: u16, count: usize) -> io::Result<Vec<Socket>> {
    at_once((0..count).map(|number| Socket::upgrade(address_of(number), port))).await
}

/// Some at a time, as a machine of clients would.
async fn at_once<T>(
    sockets: impl Iterator<Item = impl Future<Output = io::Result<T>>>,
) -> io::Result<Vec<T>> {
    let sockets = sockets.map(|socket| async move { timeout(CONNECT_TIMEOUT, socket).await? });
    stream::iter(sockets).buffered(CONNECTING_AT_ONCE).try_collect().await
}

/// Where the client of this number comes from.
pub fn address_of(number: usize) -> Ipv4Addr {
    let address = u8::try_from(number % usize::from(ADDRESSES)).expect("less than 256");
    Ipv4Addr::new(127, 0, 0, 2 + address)
}

/// Whether an event says that all that was missed has been told.
pub fn is_live(text: &[u8]) -> bool {
    find(text, b"\"StreamLive\"").is_some()
}

impl Socket {
    /// Asked, and not answered yet.
    pub async fn subscribe(from: Ipv4Addr, wanted: &Wanted) -> io::Result<Self> {
        let mut socket = Self::upgrade(from, wanted.port).await?;
        socket.init(&json!({ "authorization": format!("Bearer {}", wanted.token) })).await?;
        socket.until_acknowledged().await?;
        let mut payload = json!({ "query": wanted.query });
        if let Some(after) = &wanted.after {
            payload["variables"] = json!({ "after": after });
        }
        let subscribe = json!({ "id": "1", "type": "subscribe", "payload": payload });
        socket.text(&subscribe.to_string()).await?;
        Ok(socket)
    }

    /// Acknowledged, and idle.
    pub async fn open(port: u16, payload: &Value) -> io::Result<Self> {
        let mut socket = Self::upgrade(Ipv4Addr::LOCALHOST, port).await?;
        socket.init(payload).await?;
        socket.until_acknowledged().await?;
        Ok(socket)
    }

    async fn until_acknowledged(&mut self) -> io::Result<()> {
        while !self.hear(|text| find(text, b"\"connection_ack\"").is_some()).await? {}
        Ok(())
    }

    async fn init(&mut self, payload: &Value) -> io::Result<()> {
        self.text(&json!({ "type": "connection_init", "payload": payload }).to_string()).await
    }

    async fn upgrade(from: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        let mut stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        stream.set_nodelay(true)?;
        let upgrade = format!(
            "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).await?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let end = loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 101") {
            return Err(io::Error::other(String::from_utf8_lossy(&buffer).into_owned()));
        }
        Ok(Self { stream, buffer, begin: end })
    }

    pub async fn text(&mut self, message: &str) -> io::Result<()> {
        self.say(TEXT, message.as_bytes()).await
    }

    /// A frame with a mask of zeros, which changes nothing.
    pub async fn say(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | kind];
        match u8::try_from(payload.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 0x7e);
                frame.extend(u16::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame).await
    }

    /// Waits for the next message and makes something of it.
    pub async fn hear<T>(&mut self, mut read: impl FnMut(&[u8]) -> T) -> io::Result<T> {
        loop {
            let Some((kind, begin, end)) = self.frame() else {
                // What has been read goes; a buffer stays as long as the longest message.
                self.buffer.drain(..self.begin);
                self.begin = 0;
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            };
            self.begin = end;
            match kind {
                TEXT if self.buffer[begin..end].starts_with(b"{\"type\":\"ping\"") => {
                    self.say(TEXT, b"{\"type\":\"pong\"}").await?;
                }
                TEXT => return Ok(read(&self.buffer[begin..end])),
                PING => {
                    let payload = self.buffer[begin..end].to_vec();
                    self.say(PONG, &payload).await?;
                }
                CLOSE => return Err(io::Error::other(closed(&self.buffer[begin..end]))),
                _ => {}
            }
        }
    }

    /// Waits for more, and shows it as it came: frames begin and end anywhere in it. `None` at the end.
    pub async fn bytes<T>(&mut self, look: impl FnOnce(&[u8]) -> T) -> io::Result<Option<T>> {
        if self.begin < self.buffer.len() {
            let seen = look(&self.buffer[self.begin..]);
            (self.buffer, self.begin) = (Vec::new(), 0);
            return Ok(Some(seen));
        }
        let mut look = Some(look);
        poll_fn(|context| {
            RAW.with_borrow_mut(|raw| {
                let mut raw = ReadBuf::new(raw);
                ready!(Pin::new(&mut self.stream).poll_read(context, &mut raw))?;
                let look = if raw.filled().is_empty() { None } else { look.take() };
                Ok(look.map(|look| look(raw.filled()))).into()
            })
        })
        .await
    }

    /// Kind and place of the next whole frame; a server does not mask.
    fn frame(&self) -> Option<(u8, usize, usize)> {
        let bytes = &self.buffer[self.begin..];
        let (kind, short) = (bytes.first()? & 0x0f, bytes.get(1)? & 0x7f);
        let (header, length) = match short {
            126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
            short => (2, u64::from(short)),
        };
        let begin = self.begin + header;
        let end = begin + usize::try_from(length).ok()?;
        (end <= self.buffer.len()).then_some((kind, begin, end))
    }
}

/// Code and reason of a close.
fn closed(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "no code".to_owned(),
    }
}

pub fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
