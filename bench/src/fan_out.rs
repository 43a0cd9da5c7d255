//! Who received what and when; and the calibration: the same bytes over bare loopback sockets, by the shortest way.

use std::{
    collections::HashSet,
    future, io,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{self, Handle},
    time::{Instant, sleep},
};

use crate::{
    measure::{histogram, micros},
    sockets::{Socket, find},
};

/// Times are microseconds since the beginning; 0 is never.
pub struct Board {
    began: Instant,
    sent: Vec<AtomicU64>,
    acked: Vec<AtomicU64>,
    last: Vec<AtomicU64>,
    receipts: Vec<AtomicU32>,
    /// What a socket got twice.
    pub repeats: AtomicU64,
    each: Mutex<Receipts>,
}

/// Of all receipts since they were taken last.
pub struct Receipts {
    /// From the intended time of sending.
    pub since_sent: Histogram<u64>,
    /// From the ack; a receipt before it counts as 0.
    pub since_acked: Histogram<u64>,
}

impl Receipts {
    fn new() -> Self {
        Self { since_sent: histogram(), since_acked: histogram() }
    }
}

impl Board {
    /// For messages with numbers below `messages`.
    pub fn new(messages: usize) -> Self {
        let times = || (0..messages).map(|_| AtomicU64::new(0)).collect();
        Self {
            began: Instant::now(),
            sent: times(),
            acked: times(),
            last: times(),
            receipts: (0..messages).map(|_| AtomicU32::new(0)).collect(),
            repeats: AtomicU64::new(0),
            each: Mutex::new(Receipts::new()),
        }
    }

    pub fn send(&self, number: usize, intended: Instant) {
        self.sent[number].store(micros(intended - self.began), Ordering::Relaxed);
    }

    pub fn ack(&self, number: usize) {
        self.acked[number].store(micros(self.began.elapsed()), Ordering::Relaxed);
    }

    fn receive(&self, number: usize) {
        self.receive_all(number..number + 1);
    }

    /// What one socket got at once.
    pub fn receive_all(&self, numbers: Range<usize>) {
        let now = micros(self.began.elapsed());
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        for number in numbers.clone() {
            let acked = match self.acked[number].load(Ordering::Relaxed) {
                0 => now,
                acked => acked,
            };
            each.since_sent.saturating_record(now.saturating_sub(self.sent[number].load(Ordering::Relaxed)));
            each.since_acked.saturating_record(now.saturating_sub(acked));
        }
        drop(each);
        for number in numbers {
            self.last[number].fetch_max(now, Ordering::Relaxed);
            self.receipts[number].fetch_add(1, Ordering::Release);
        }
    }

    pub fn receipts(&self, number: usize) -> u32 {
        self.receipts[number].load(Ordering::Acquire)
    }

    pub fn take(&self) -> Receipts {
        std::mem::replace(&mut *self.each.lock().unwrap_or_else(PoisonError::into_inner), Receipts::new())
    }

    /// From sending to the last receipt.
    pub fn last_after(&self, number: usize) -> u64 {
        let [last, sent] = [&self.last, &self.sent].map(|times| times[number].load(Ordering::Relaxed));
        last.saturating_sub(sent)
    }

    /// From sending to the ack.
    pub fn acked_after(&self, number: usize) -> u64 {
        let [acked, sent] = [&self.acked, &self.sent].map(|times| times[number].load(Ordering::Relaxed));
        acked.saturating_sub(sent)
    }

    /// `false` when some are still missing at the end of the time.
    pub async fn until_received(&self, numbers: Range<usize>, each: u32, within: Duration) -> bool {
        let begun = Instant::now();
        for number in numbers {
            while self.receipts(number) < each {
                if begun.elapsed() > within {
                    return false;
                }
                sleep(Duration::from_micros(500)).await;
            }
        }
        true
    }

    /// Reads a subscribed socket to its end. Messages are known by the number behind `n` in their `clientMessageId`.
    pub async fn listen(&self, mut socket: Socket) -> io::Error {
        let mut known = HashSet::new();
        loop {
            match socket.hear(number_of).await {
                Ok(Some(number)) if known.insert(number) => self.receive(number),
                Ok(Some(_)) => drop(self.repeats.fetch_add(1, Ordering::Relaxed)),
                Ok(None) => {}
                Err(error) => return error,
            }
        }
    }

    /// Reads frames of a bare socket.
    async fn listen_bare(&self, mut stream: TcpStream, bytes: usize) {
        let mut frame = vec![0; bytes];
        while stream.read_exact(&mut frame).await.is_ok() {
            let number = u64::from_be_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|place| frame[place]));
            self.receive(usize::try_from(number).unwrap_or(0));
        }
    }
}

/// When a message of an open loop has its time.
pub fn intended(begin: Instant, number: usize, rate: u32) -> Instant {
    begin + Duration::from_secs(1) * u32::try_from(number).unwrap_or(0) / rate
}

/// A thread of its own for who sends or reads, as they have a machine of their own: among the tasks of thousands, it would be timed how
/// long those keep this process.
pub fn own_thread() -> Handle {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(future::pending::<()>()));
    handle
}

pub fn key_of(prefix: &str, number: usize) -> String {
    format!("{prefix}n{number}")
}

fn number_of(text: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\"clientMessageId\":\"";
    let value = &text[find(text, NAME)? + NAME.len()..];
    let value = value.split(|byte| *byte == b'"').next()?;
    let digits = value.rsplit(|byte| *byte == b'n').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Bare connections over loopback, each read by a task like a subscribed socket.
pub struct Bare {
    writers: Vec<TcpStream>,
    frame: Vec<u8>,
}

impl Bare {
    #[expect(clippy::disallowed_methods, reason = "the readers end with their sockets")]
    pub async fn open(board: &std::sync::Arc<Board>, count: usize, bytes: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut writers = Vec::with_capacity(count);
        for _ in 0..count {
            let (reader, writer) =
                tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
            let (reader, (writer, _), board) = (reader?, writer?, board.clone());
            writer.set_nodelay(true)?;
            writers.push(writer);
            tokio::spawn(async move { board.listen_bare(reader, bytes).await });
        }
        Ok(Self { writers, frame: vec![b'x'; bytes] })
    }

    /// One message to some of the connections, one after the other.
    pub async fn send(&mut self, number: usize, to: Range<usize>) -> io::Result<()> {
        self.frame[..8].copy_from_slice(&(number as u64).to_be_bytes());
        for writer in &mut self.writers[to] {
            writer.write_all(&self.frame).await?;
        }
        Ok(())
    }
}
