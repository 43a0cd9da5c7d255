//! Refusals as gRPC statuses, there and back.

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prost::Message as _;
use tonic::{Code, Status};

use crate::{
    ErrorCode, ServiceError,
    contract::{WireError, proto},
    error::chain,
};

/// Distinct paths of fields remembered; the domain has about twenty.
const FIELDS_MAX: usize = 256;

type Field = &'static [&'static str];

pub(super) fn to_proto(error: &ServiceError) -> proto::Error {
    proto::Error {
        code: error.code().name().to_owned(),
        message: error.message().to_owned(),
        field: error.field().iter().map(|&part| part.to_owned()).collect(),
        retry_after_ms: error.retry_after().and_then(|wait| wait.as_millis().try_into().ok()),
    }
}

/// The cause stays here, in the log.
pub(super) fn to_status(error: &ServiceError) -> Status {
    if error.code() == ErrorCode::Internal {
        tracing::error!(error.chain = chain(error), "a call failed");
    } else if error.source().is_some() {
        tracing::warn!(error.chain = chain(error), "a call failed");
    }
    let code = Code::from_i32(error.code().info().grpc_status as i32);
    Status::with_details(code, error.message().to_owned(), to_proto(error).encode_to_vec().into())
}

/// What the domain refused, if it was the domain that spoke and not the way to it.
pub(super) fn refusal(status: &Status) -> Option<ServiceError> {
    if status.details().is_empty() {
        return None;
    }
    proto::Error::decode(status.details()).ok().map(from_proto)
}

pub(super) fn from_proto(error: proto::Error) -> ServiceError {
    let code = ErrorCode::ALL.iter().copied().find(|code| code.name() == error.code);
    // A code of a newer version is a fault here.
    let mut refusal =
        ServiceError::new(code.unwrap_or(ErrorCode::Internal), error.message).at(known(error.field));
    if let Some(wait) = error.retry_after_ms {
        refusal = refusal.after(Duration::from_millis(wait));
    }
    refusal
}

/// Paths of fields live for ever in the process that made them; here each is kept once.
fn known(field: Vec<String>) -> Field {
    static KNOWN: Mutex<Vec<Field>> = Mutex::new(Vec::new());
    if field.is_empty() {
        return &[];
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known.iter().find(|known| known.iter().copied().eq(field.iter().map(String::as_str)));
    if let Some(found) = found {
        return found;
    }
    if known.len() >= FIELDS_MAX {
        return &[];
    }
    let parts = field.into_iter().map(|part| &*Box::leak(part.into_boxed_str()));
    let made: Field = Box::leak(parts.collect::<Box<[_]>>());
    known.push(made);
    made
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_survive_the_way() {
        for code in ErrorCode::ALL {
            let error = ServiceError::new(*code, "why").at(&["a", "b"]).after(Duration::from_secs(3));
            let back = refusal(&to_status(&error)).expect("a refusal");
            assert_eq!((back.code(), back.message(), back.field()), (*code, "why", ["a", "b"].as_slice()));
            assert_eq!(back.retry_after(), Some(Duration::from_secs(3)));
        }
        assert!(refusal(&Status::unavailable("connection refused")).is_none());
        let twice = [known(vec!["x".to_owned()]), known(vec!["x".to_owned()])];
        assert!(std::ptr::eq(twice[0], twice[1]), "kept once");
    }
}
