//! Many subscribed sockets in one process: as little of WebSocket and `graphql-transport-ws` as that takes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// One address has 28,000 client ports; so many sockets of each are plenty.
const SOCKETS_PER_ADDRESS: usize = 5000;
const CONNECTING_AT_ONCE: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Events of about 500 bytes, some at a time.
const BUFFER_BYTES: usize = 2048;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a chat client needs of a message.
const EVENTS: &str = "subscription { events { __typename cursor ... on ConversationEvent { rev conversation { id lastSeq } } \
    ... on MessageSent { message { id seq clientMessageId createdAt sender { id displayName } content { ... on TextContent { text } } } } } }";

pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer has been read.
    begin: usize,
}

/// All of them live, in the order of the tokens.
pub async fn subscribe_all(ports: &[u16], tokens: &[&str]) -> io::Result<Vec<Socket>> {
    let sockets = tokens.iter().enumerate().map(|(number, token)| {
        let port = ports[number % ports.len()];
        let octet = u8::try_from(2 + number / SOCKETS_PER_ADDRESS).unwrap_or(254);
        async move {
            let live = Socket::subscribe(Ipv4Addr::new(127, 0, 0, octet), port, token);
            timeout(CONNECT_TIMEOUT, live).await?
        }
    });
    let sockets: Vec<io::Result<Socket>> = stream::iter(sockets).buffered(CONNECTING_AT_ONCE).collect().await;
    sockets.into_iter().collect()
}

impl Socket {
    async fn subscribe(from: Ipv4Addr, port: u16, token: &str) -> io::Result<Self> {
        let authorization = format!("Bearer {token}");
        let mut socket = Self::upgrade(from, port).await?;
        socket.init(&json!({ "authorization": authorization })).await?;
        let subscribe = json!({ "id": "1", "type": "subscribe", "payload": { "query": EVENTS } });
        socket.text(&subscribe.to_string()).await?;
        while !socket.hear(|text| find(text, b"\"StreamLive\"").is_some()).await? {}
        Ok(socket)
    }

    /// Acknowledged, and idle.
    pub async fn open(port: u16, payload: &Value) -> io::Result<Self> {
        let mut socket = Self::upgrade(Ipv4Addr::LOCALHOST, port).await?;
        socket.init(payload).await?;
        while !socket.hear(|text| find(text, b"\"connection_ack\"").is_some()).await? {}
        Ok(socket)
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
    async fn say(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
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
    pub async fn hear<T>(&mut self, read: impl Fn(&[u8]) -> T) -> io::Result<T> {
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
                CLOSE => {
                    return Err(io::Error::other(
                        String::from_utf8_lossy(&self.buffer[begin..end]).into_owned(),
                    ));
                }
                _ => {}
            }
        }
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

pub fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
