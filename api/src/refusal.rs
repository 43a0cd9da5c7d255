//! Why an edge did not run what a client asked: a code, a sentence for its developer, and where in the document.
//!
//! Texts of parsers and of Rust never get into it.

use std::borrow::Cow;

use async_graphql::{ErrorExtensionValues, Pos, Response, ServerError};
use domain::{ErrorCode, ServiceError};

use crate::{
    rules::{FAULTS_MAX, more_faults},
    schema::error::{log, retry_after_seconds},
};

/// A request error: nothing ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: Cow<'static, str>,
    /// Lines and columns of the document, from 1.
    pub locations: Vec<Pos>,
    /// When to try again.
    pub retry_after_seconds: Option<i32>,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), locations: Vec::new(), retry_after_seconds: None }
    }

    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    pub fn limit_exceeded(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::LimitExceeded, message)
    }

    pub fn unauthenticated() -> Self {
        Self::new(ErrorCode::Unauthenticated, "the access token is invalid or expired")
    }

    /// The text is what Apollo's clients of old look for.
    pub fn persisted_query_not_found() -> Self {
        Self::new(ErrorCode::PersistedQueryNotFound, "PersistedQueryNotFound")
    }

    pub fn not_trusted() -> Self {
        Self::new(ErrorCode::DocumentNotTrusted, "only documents of this server's manifests run here")
    }

    /// The deadline of an operation passed before it was answered.
    pub fn late() -> Self {
        Self::new(ErrorCode::Unavailable, "the operation took too long")
    }

    /// What is wrong by a rule of the schema, in the validator's words.
    pub fn of_rule(error: ServerError) -> Self {
        Self { locations: error.locations, ..Self::bad_request(error.message) }
    }

    #[must_use]
    pub fn at(mut self, position: Pos) -> Self {
        self.locations.push(position);
        self
    }

    pub fn into_response(self) -> Response {
        Response::from_errors(vec![self.into()])
    }
}

impl From<&ServiceError> for Refusal {
    fn from(error: &ServiceError) -> Self {
        log(error);
        let retry_after_seconds = retry_after_seconds(error);
        Self { retry_after_seconds, ..Self::new(error.code(), error.message().to_owned()) }
    }
}

impl From<Refusal> for ServerError {
    fn from(refusal: Refusal) -> Self {
        let mut error = Self::new(refusal.message, None);
        error.locations = refusal.locations;
        set_code(&mut error, refusal.code);
        if let Some(seconds) = refusal.retry_after_seconds {
            error.extensions.get_or_insert_default().set("retryAfterSeconds", seconds);
        }
        error
    }
}

/// Sees to it that no more errors of a document are told than anybody reads, that every error has a code, and that a fault of the server can be found in the logs by its request id.
///
/// The executor's own errors have no code; all of them are about what the client asked.
pub fn complete_errors(response: &mut Response, request_id: &str) {
    if is_request_error(response) && response.errors.len() > FAULTS_MAX {
        response.errors.truncate(FAULTS_MAX);
        response.errors.push(more_faults().into());
    }
    for error in &mut response.errors {
        let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
        match code {
            None => set_code(error, ErrorCode::BadRequest),
            Some(async_graphql::Value::String(name)) if name == ErrorCode::Internal.name() => {
                error.extensions.get_or_insert_default().set("requestId", request_id);
            }
            Some(_) => {}
        }
    }
}

/// Whether nothing ran: what failed is the request as a whole, so that there is no `data`.
pub fn is_request_error(response: &Response) -> bool {
    !response.errors.is_empty()
        && response.data == async_graphql::Value::Null
        && response.errors.iter().all(|error| error.path.is_empty())
}

fn set_code(error: &mut ServerError, code: ErrorCode) {
    let extensions: &mut ErrorExtensionValues = error.extensions.get_or_insert_default();
    extensions.set("code", code.name());
    extensions.set("retryable", code.retryable());
}
