//! Sending by the shortest way: the same bytes to each socket, one after the other, and nothing else.
//!
//! A request with `GET` is a socket: it is answered as a WebSocket is, and then only written to. The one with `POST` says what: each
//! line of its body is the text of a frame for all sockets there are.

use std::{
    io::{self, BufRead, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use api::server::BACKLOG;
use socket2::SockRef;

/// The key of the harness's clients is always the same, and so is the answer to it.
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";

type Sockets = Arc<Mutex<Vec<TcpStream>>>;

pub(crate) fn serve(frames_a_send: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // The library asks for 128, fewer than connect at once.
    SockRef::from(&listener).listen(BACKLOG.cast_signed()).expect("it listens already");
    crate::listening(listener.local_addr().expect("bound").port());
    let sockets = Sockets::default();
    while let Ok((stream, _)) = listener.accept() {
        // A client that is gone already.
        let _ = accept(stream, &sockets, frames_a_send);
    }
}

fn accept(stream: TcpStream, sockets: &Sockets, frames_a_send: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1024, stream);
    let mut first = Vec::new();
    let mut line = Vec::new();
    while line != b"\r\n" {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
    }
    if first.starts_with(b"POST") {
        let sockets = Arc::clone(sockets);
        thread::spawn(move || send_all(reader, &sockets, frames_a_send));
        return Ok(());
    }
    let mut stream = reader.into_inner();
    stream.write_all(UPGRADED)?;
    sockets.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    Ok(())
}

/// Each line a frame; some of them together in one send.
fn send_all(mut lines: impl BufRead, sockets: &Sockets, frames_a_send: usize) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        let mut frames = Vec::new();
        for _ in 0..frames_a_send {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            frames.extend(frame(line.trim_ascii_end())?);
        }
        let mut sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain_mut(|socket| socket.write_all(&frames).is_ok());
    }
}

/// A text of 126 to 65,535 bytes.
fn frame(text: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(text.len()).map_err(io::Error::other)?;
    let mut frame = vec![0x81, 126];
    frame.extend(length.to_be_bytes());
    frame.extend(text);
    Ok(frame)
}
