//! How a failed service call reaches the client: as data in a mutation's payload, or as a top-level error with a code.
//!
//! Resolvers return [`Result`], so that no error gets past [`Failure`] without its code. Causes are logged here, once,
//! and never leave the process.

use std::error::Error as _;

use async_graphql::{Error, ErrorExtensionValues, Pos, ServerError};
use domain::{
    ErrorCode, ServiceError, ServiceResult,
    error::{Surface, chain},
};

use super::types::user_error::UserError;

pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What the resolver of a nullable field returns, with `.transpose()` on a [`Result`] of an option.
///
/// The order counts: async-graphql lets the error of a `Result<Option<_>>` null the field's parent, and at the root all of
/// its siblings; the error within an option nulls the field alone.
pub type Nullable<T> = Option<Result<T>>;

/// A service error on its way to the top level of the answer.
#[derive(Clone)]
pub struct Failure(ServiceError);

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self(error)
    }
}

impl Failure {
    /// For what fails outside of any place in the document: lines and columns begin with 1 (GraphQL, 7.1.2).
    pub fn without_place(self) -> ServerError {
        let error = Error::from(self).into_server_error(Pos::default());
        ServerError { locations: Vec::new(), ..error }
    }
}

impl From<Failure> for Error {
    fn from(Failure(error): Failure) -> Self {
        log(&error);
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("code", error.code().name());
        extensions.set("retryable", error.retryable());
        if let Some(seconds) = retry_after_seconds(&error) {
            extensions.set("retryAfterSeconds", seconds);
        }
        Self { extensions: Some(extensions), ..Self::new(error.message()) }
    }
}

/// What a mutation's payload says: the entity, or what the client did wrong; other failures go to the top level.
pub fn settle<T>(outcome: ServiceResult<T>) -> Result<(Option<T>, Vec<UserError>)> {
    match outcome {
        Ok(entity) => Ok((Some(entity), Vec::new())),
        Err(error) if error.code().info().surface == Surface::TopLevel => Err(error.into()),
        Err(error) => Ok((None, vec![UserError::from(error)])),
    }
}

/// For an error that many fields will answer with: logs it now, and leaves nothing to log again.
pub fn shared(error: ServiceError) -> ServiceError {
    if error.source().is_none() {
        return error;
    }
    log(&error);
    let plain = ServiceError::new(error.code(), error.message().to_owned()).at(error.field());
    match error.retry_after() {
        Some(wait) => plain.after(wait),
        None => plain,
    }
}

pub fn bad_request(message: &'static str) -> ServiceError {
    ServiceError::new(ErrorCode::BadRequest, message)
}

/// Whole seconds until a retry makes sense, rounded up.
pub fn retry_after_seconds(error: &ServiceError) -> Option<i32> {
    let wait = error.retry_after()?;
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Some(i32::try_from(seconds).unwrap_or(i32::MAX))
}

pub fn log(error: &ServiceError) {
    let Some(why) = error.source().map(chain) else { return };
    if error.code() == ErrorCode::Internal {
        tracing::error!(error.code = error.code().name(), error.chain = why, "a field failed");
    } else {
        tracing::warn!(error.code = error.code().name(), error.chain = why, "a field failed");
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use async_graphql::Value;

    use super::*;

    fn extension(error: &Error, name: &str) -> Option<Value> {
        error.extensions.as_ref().and_then(|extensions| extensions.get(name)).cloned()
    }

    #[test]
    fn every_code_goes_where_the_table_says() {
        for code in ErrorCode::ALL {
            let in_payload = settle::<()>(Err(ServiceError::new(*code, "no"))).is_ok();
            assert_eq!(in_payload, code.info().surface != Surface::TopLevel, "{code:?}");
        }
    }

    #[test]
    fn top_level_errors_carry_code_retryable_and_wait() {
        let error = ServiceError::unavailable("busy").after(Duration::from_millis(1200));
        let error = Error::from(Failure::from(error));
        assert_eq!(error.message, "busy");
        assert_eq!(extension(&error, "code"), Some("UNAVAILABLE".into()));
        assert_eq!(extension(&error, "retryable"), Some(true.into()));
        assert_eq!(extension(&error, "retryAfterSeconds"), Some(2.into()));
    }

    #[test]
    fn causes_stay_inside() {
        let shared = shared(ServiceError::internal(io::Error::other("secret table")));
        assert!(shared.source().is_none(), "logged already");
        for error in [shared, ServiceError::internal(io::Error::other("secret table"))] {
            let error = Error::from(Failure::from(error));
            assert_eq!(error.message, "internal error");
            assert!(error.source.is_none());
            assert_eq!(extension(&error, "code"), Some("INTERNAL".into()));
        }
    }
}
