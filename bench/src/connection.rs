//! One client of the request benchmarks: a kept-alive HTTP connection or a socket, with one call under way at a time.
//!
//! As little as that takes, because it shares the machine's cores with the server it measures.

use std::io;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::sockets::{Socket, find};

const BUFFER_BYTES: usize = 4096;

/// Where and as whom calls are made.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub port: u16,
    pub path: &'static str,
    pub token: Option<String>,
}

pub enum Connection {
    Http(Http),
    Socket(Box<Operations>),
}

impl Connection {
    pub async fn http(endpoint: &Endpoint) -> io::Result<Self> {
        Ok(Self::Http(Http::connect(endpoint).await?))
    }

    pub async fn socket(endpoint: &Endpoint) -> io::Result<Self> {
        let authorization = endpoint.token.as_ref().map(|token| format!("Bearer {token}"));
        let payload = json!({ "authorization": authorization });
        let socket = Socket::open(endpoint.port, &payload).await?;
        Ok(Self::Socket(Box::new(Operations { socket, number: 0, message: String::new() })))
    }

    /// Asks, and waits for an answer that has `wanted` in it; anything else is an error with the answer.
    pub async fn call(&mut self, body: &str, wanted: &str) -> io::Result<()> {
        match self {
            Self::Http(connection) => connection.call(body, wanted).await,
            Self::Socket(operations) => operations.call(body, wanted).await,
        }
    }
}

/// HTTP/1.1, as far as our own answers go: a `Content-Length`, no chunks.
pub struct Http {
    stream: TcpStream,
    head: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Http {
    async fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", endpoint.port)).await?;
        stream.set_nodelay(true)?;
        let authorization = match &endpoint.token {
            Some(token) => format!("Authorization: Bearer {token}\r\n"),
            None => String::new(),
        };
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAccept: application/graphql-response+json, application/json;q=0.9\r\n\
             Content-Type: application/json\r\n{authorization}Content-Length: ",
            endpoint.path, endpoint.port
        );
        Ok(Self { stream, head, request: Vec::new(), answer: Vec::with_capacity(BUFFER_BYTES) })
    }

    async fn call(&mut self, body: &str, wanted: &str) -> io::Result<()> {
        self.request.clear();
        self.request.extend_from_slice(self.head.as_bytes());
        self.request.extend_from_slice(body.len().to_string().as_bytes());
        self.request.extend_from_slice(b"\r\n\r\n");
        self.request.extend_from_slice(body.as_bytes());
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if is_whole(&self.answer)? {
                return expect(&self.answer, wanted);
            }
        }
    }
}

fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let Some(end) = find(answer, b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&answer[..end]).map_err(io::Error::other)?;
    let length = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse::<usize>().ok())
        .ok_or_else(|| io::Error::other(format!("no length: {head}")))?;
    Ok(answer.len() >= end + 4 + length)
}

fn expect(answer: &[u8], wanted: &str) -> io::Result<()> {
    match find(answer, wanted.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(io::Error::other(String::from_utf8_lossy(answer).into_owned())),
    }
}

/// Operations over `graphql-transport-ws`, one after the other.
pub struct Operations {
    socket: Socket,
    number: usize,
    message: String,
}

impl Operations {
    async fn call(&mut self, body: &str, wanted: &str) -> io::Result<()> {
        use std::fmt::Write as _;
        self.number += 1;
        self.message.clear();
        let number = self.number;
        let _ = write!(self.message, r#"{{"id":"{number}","type":"subscribe","payload":{body}}}"#);
        self.socket.text(&self.message).await?;
        self.socket.hear(|text| expect(text, wanted)).await??;
        self.socket.hear(|text| expect(text, "\"complete\"")).await?
    }
}
