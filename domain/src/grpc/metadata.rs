//! What goes along with every call: the secret of the service, who calls, the trace.

use subtle::ConstantTimeEq as _;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::Interceptor,
};

use crate::{
    Caller, SessionId, Timestamp, UserId,
    trace::{self, TraceContext},
};

const CALLER: &str = "confab-caller-bin";
const TRACE: &str = "traceparent";
const AUTHORIZATION: &str = "authorization";

/// The secret that api, domain and worker share.
#[derive(Clone, Debug)]
pub struct ServiceSecret(MetadataValue<Ascii>);

impl ServiceSecret {
    pub const CHARS_MIN: usize = 32;

    /// `None` when it is shorter than 32 characters or has others than visible ASCII.
    pub fn new(secret: &str) -> Option<Self> {
        let sound = secret.len() >= Self::CHARS_MIN && secret.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value: MetadataValue<Ascii> = format!("Bearer {secret}").parse().ok().filter(|_| sound)?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

/// On the way out: the secret and the trace.
#[derive(Clone)]
pub(crate) struct Outgoing(pub ServiceSecret);

impl Interceptor for Outgoing {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(AUTHORIZATION, self.0.0.clone());
        if let Some(trace) = trace::current().and_then(|trace| trace.to_traceparent().parse().ok()) {
            metadata.insert(TRACE, trace);
        }
        Ok(request)
    }
}

/// On the way in: only those who know the secret.
#[derive(Clone)]
pub(super) struct Incoming(pub ServiceSecret);

impl Interceptor for Incoming {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get(AUTHORIZATION).map_or(&[][..], MetadataValue::as_bytes);
        if bool::from(given.ct_eq(self.0.0.as_bytes())) {
            Ok(request)
        } else {
            Err(Status::unauthenticated("the service secret is missing or wrong; see CONFAB_SERVICE_SECRET"))
        }
    }
}

pub(super) fn set_caller(metadata: &mut MetadataMap, caller: &Caller) {
    metadata.insert_bin(CALLER, MetadataValue::from_bytes(&caller_to_bytes(caller)));
}

pub(super) fn caller(metadata: &MetadataMap) -> Result<Caller, Status> {
    let bytes = metadata.get_bin(CALLER).and_then(|value| value.to_bytes().ok());
    caller_of_bytes(&bytes.unwrap_or_default())
}

pub(super) fn caller_to_bytes(caller: &Caller) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&caller.user.0.to_be_bytes());
    bytes[8..16].copy_from_slice(&caller.session.0.to_be_bytes());
    bytes[16..].copy_from_slice(&caller.expires_at.0.to_be_bytes());
    bytes
}

pub(super) fn caller_of_bytes(bytes: &[u8]) -> Result<Caller, Status> {
    let missing = || Status::invalid_argument("this call needs a caller");
    let (numbers, rest) = bytes.as_chunks::<8>();
    match (numbers, rest) {
        ([user, session, expires_at], []) => Ok(Caller {
            user: UserId(i64::from_be_bytes(*user)),
            session: SessionId(i64::from_be_bytes(*session)),
            expires_at: Timestamp(i64::from_be_bytes(*expires_at)),
        }),
        _ => Err(missing()),
    }
}

pub(super) fn trace(metadata: &MetadataMap) -> Option<TraceContext> {
    TraceContext::of_traceparent(metadata.get(TRACE)?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_the_secret_comes_in() {
        let secret = |text: &str| ServiceSecret::new(text);
        assert!(secret(&"x".repeat(31)).is_none() && secret(&" ".repeat(32)).is_none());
        let right = secret(&"x".repeat(32)).expect("long enough");
        let mut door = Incoming(right.clone());
        assert!(door.call(Request::new(())).is_err());
        for (given, enters) in [(right, true), (secret(&"y".repeat(32)).expect("long enough"), false)] {
            let request = Outgoing(given).call(Request::new(())).expect("goes out");
            assert_eq!(door.call(request).is_ok(), enters);
        }
    }

    #[test]
    fn a_caller_survives_the_way() {
        let caller = Caller { user: UserId(7), session: SessionId(8), expires_at: Timestamp(9) };
        assert_eq!(caller_of_bytes(&caller_to_bytes(&caller)).ok(), Some(caller));
        assert!(caller_of_bytes(&[0; 23]).is_err() && caller_of_bytes(&[0; 25]).is_err());
    }
}
