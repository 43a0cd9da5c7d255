//! Counts what subscribed sockets get, by the headers of the frames, and looks at nothing else: it shares the machine's cores with the
//! server that it measures.

use std::{io, sync::Arc};

use crate::{
    fan_out::Board,
    sockets::{CLOSE, PING, PONG, Socket, TEXT},
};

/// Who sends has one socket, so that its messages are committed in their order; the messages that a socket gets from number `first` on are
/// therefore known by counting.
pub async fn count(board: Arc<Board>, mut socket: Socket, first: usize) -> io::Error {
    let (mut frames, mut next) = (Frames::default(), first);
    loop {
        let (mut texts, mut pings, mut closed) = (0, 0, false);
        let seen = socket.bytes(|bytes| {
            frames.take(bytes, |kind| match kind {
                TEXT => texts += 1,
                PING => pings += 1,
                CLOSE => closed = true,
                _ => {}
            });
        });
        match seen.await {
            Ok(Some(())) => {}
            Ok(None) => return io::ErrorKind::UnexpectedEof.into(),
            Err(error) => return error,
        }
        board.receive_all(next..next + texts);
        next += texts;
        for _ in 0..pings {
            if let Err(error) = socket.say(PONG, &[]).await {
                return error;
            }
        }
        if closed {
            return io::ErrorKind::ConnectionAborted.into();
        }
    }
}

/// Where in its frames a stream is.
#[derive(Default)]
pub struct Frames {
    /// What is there of a header; a server does not mask.
    header: [u8; 10],
    held: usize,
    /// Of the payload, after a whole header.
    left: Option<usize>,
}

impl Frames {
    /// Tells the kind of each frame that ends with these bytes.
    pub fn take(&mut self, mut bytes: &[u8], mut ended: impl FnMut(u8)) {
        while let Some((first, rest)) = bytes.split_first() {
            let left = match self.left {
                Some(left) => {
                    let taken = left.min(bytes.len());
                    bytes = &bytes[taken..];
                    left - taken
                }
                None => {
                    self.header[self.held] = *first;
                    self.held += 1;
                    bytes = rest;
                    match self.length() {
                        Some(length) => length,
                        None => continue,
                    }
                }
            };
            self.left = Some(left);
            if left == 0 {
                ended(self.header[0] & 0x0f);
                (self.held, self.left) = (0, None);
            }
        }
    }

    /// Of the payload, once the header is whole.
    fn length(&self) -> Option<usize> {
        let header = &self.header[..self.held];
        let length = match header.get(1)? & 0x7f {
            126 => u64::from(u16::from_be_bytes(header.get(2..4)?.try_into().ok()?)),
            127 => u64::from_be_bytes(header.get(2..10)?.try_into().ok()?),
            short => u64::from(short),
        };
        Some(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server frames it.
    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | kind];
        match length {
            0..126 => frame.push(u8::try_from(length).expect("short")),
            126..65_536 => {
                frame.push(126);
                frame.extend(u16::try_from(length).expect("short").to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xff; length]);
        frame
    }

    #[test]
    fn frames_are_counted_wherever_they_are_cut() {
        let stream =
            [frame(TEXT, 700), frame(PING, 0), frame(TEXT, 70_000), frame(TEXT, 5), frame(CLOSE, 2)].concat();
        for piece in [1, 2, 3, 7, 701, 5000, stream.len()] {
            let (mut frames, mut kinds) = (Frames::default(), Vec::new());
            for bytes in stream.chunks(piece) {
                frames.take(bytes, |kind| kinds.push(kind));
            }
            assert_eq!(kinds, [TEXT, PING, TEXT, TEXT, CLOSE], "in pieces of {piece}");
        }
    }
}
