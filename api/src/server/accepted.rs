//! A connection's bytes, with a bound on what the kernel keeps unsent until its last words are to be said.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

#[cfg(any(target_os = "linux", target_os = "android"))]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::connections::Place;

/// Bytes that the kernel keeps although it cannot send them yet; from then on a write waits. Left alone it takes up to 4 MB, the last value of
/// `net.ipv4.tcp_wmem`, for a client that has stopped reading, who is noticed only when that is full. (`tcp_notsent_lowat` in the
/// kernel's ip-sysctl.) The smaller it is, the more often a writer wakes; this is an eighth of what a queue may hold.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

pub(super) struct Accepted {
    stream: TcpStream,
    place: Arc<Place>,
    is_bounded: bool,
}

impl Accepted {
    pub fn new(stream: TcpStream, place: Arc<Place>) -> Self {
        // A connection works without either of these, too. Small answers must not wait for more of them.
        let _ = stream.set_nodelay(true);
        keep_unsent(&stream, UNSENT_BYTES_MAX);
        Self { stream, place, is_bounded: true }
    }

    /// The stream to write to. The kernel takes a close frame beyond the bound: whoever reads on one day finds it behind the rest.
    fn writer(&mut self) -> Pin<&mut TcpStream> {
        if self.is_bounded && self.place.says_last_words() {
            self.is_bounded = false;
            keep_unsent(&self.stream, u32::MAX);
        }
        Pin::new(&mut self.stream)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn keep_unsent(stream: &TcpStream, bytes_max: u32) {
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(bytes_max);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn keep_unsent(_: &TcpStream, _: u32) {}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer().poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
