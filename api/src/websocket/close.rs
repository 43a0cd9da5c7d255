//! Why the server closes a socket. Clients retry after 4403, 4408, 1012, 1013 and 4290, and give up after the others.

use axum::extract::ws::{CloseFrame, Utf8Bytes};

/// A code and a reason of at most 123 bytes, which is what fits a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    pub code: u16,
    pub reason: &'static str,
}

pub(crate) const TOO_LARGE: Close = Close { code: 1009, reason: "message too large" };
pub(crate) const RESTARTING: Close = Close { code: 1012, reason: "service restart" };
pub(crate) const TOO_MANY_SOCKETS: Close = Close { code: 1013, reason: "too many sockets" };
pub(crate) const TOO_MANY_AT_ONCE: Close =
    Close { code: 1013, reason: "too many at once: try again after 1 to 5 s" };
pub(crate) const TRY_AGAIN: Close = Close { code: 1013, reason: "try again later" };
pub(crate) const SLOW_READER: Close = Close { code: 4290, reason: "slow reader" };
pub(crate) const BINARY: Close = Close { code: 4400, reason: "binary messages are not accepted" };
pub(crate) const UNAUTHORIZED: Close = Close { code: 4401, reason: "Unauthorized" };
pub(crate) const FORBIDDEN: Close = Close { code: 4403, reason: "Forbidden" };
pub(crate) const EXPIRED: Close = Close { code: 4403, reason: "access token expired" };
pub(crate) const REVOKED: Close = Close { code: 4403, reason: "session revoked" };
pub(crate) const BAD_SUBPROTOCOL: Close = Close { code: 4406, reason: "Subprotocol not acceptable" };
pub(crate) const INIT_TIMEOUT: Close = Close { code: 4408, reason: "Connection initialisation timeout" };
pub(crate) const DUPLICATE_ID: Close = Close { code: 4409, reason: "Subscriber for this id already exists" };
pub(crate) const SECOND_INIT: Close = Close { code: 4429, reason: "Too many initialisation requests" };

impl Close {
    pub(crate) const fn bad_message(reason: &'static str) -> Self {
        Self { code: 4400, reason }
    }
}

/// Longer reasons make the close frame itself invalid, and clients see 1006.
const REASON_BYTES_MAX: usize = 123;

impl From<Close> for CloseFrame {
    fn from(close: Close) -> Self {
        let mut end = close.reason.len().min(REASON_BYTES_MAX);
        while !close.reason.is_char_boundary(end) {
            end -= 1;
        }
        Self { code: close.code, reason: Utf8Bytes::from(&close.reason[..end]) }
    }
}
