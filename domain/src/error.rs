//! Every way a call can fail, in one table.
//!
//! A client handles codes, never texts. `docs/errors.md` is generated from [`ErrorCode::ALL`].

use std::{borrow::Cow, error::Error, sync::Arc, time::Duration};

pub type ServiceResult<T> = Result<T, ServiceError>;

/// What failed, with the whole chain of why, for people. A cause that its effect has named already is not said again.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let why = cause.to_string();
        if !text.ends_with(&why) {
            text = format!("{text}: {why}");
        }
        next = cause.source();
    }
    text
}

/// Where a client meets a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// In `userErrors` of a mutation's payload.
    Payload,
    /// In the top-level `errors`, as `extensions.code`.
    TopLevel,
    /// In `userErrors` of a mutation, at the top level of a query or subscription.
    Both,
}

/// What a process that calls the domain over gRPC sees: a canonical code of gRPC, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// A row of the error table.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    pub name: &'static str,
    pub surface: Surface,
    /// Over HTTP when nothing has run; 200 where something always has.
    pub http_status: u16,
    pub grpc_status: GrpcStatus,
    /// Whether the same call may succeed later without a change.
    pub retryable: bool,
    pub cause: &'static str,
    pub remedy: &'static str,
}

macro_rules! error_codes {
    ($($variant:ident, $name:literal, $surface:ident, $http:literal, $grpc:ident, $retryable:literal, $cause:literal, $remedy:literal;)*) => {
        /// What went wrong, as a client sees it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = $cause] $variant,)*
        }

        impl ErrorCode {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub const fn info(self) -> CodeInfo {
                match self {
                    $(Self::$variant => CodeInfo {
                        name: $name,
                        surface: Surface::$surface,
                        http_status: $http,
                        grpc_status: GrpcStatus::$grpc,
                        retryable: $retryable,
                        cause: $cause,
                        remedy: $remedy,
                    },)*
                }
            }
        }
    };
}

error_codes! {
    UsernameTaken, "USERNAME_TAKEN", Payload, 200, AlreadyExists, false,
        "Another user has this username, or one that differs only in case or width.",
        "Choose another username.";
    InvalidCredentials, "INVALID_CREDENTIALS", Payload, 200, Unauthenticated, false,
        "Username and password do not match, or the refresh token is unknown, spent or expired.",
        "Ask for the password again.";
    InvalidInput, "INVALID_INPUT", Payload, 200, InvalidArgument, false,
        "A value breaks a rule: its length, its characters, its type or its range. `field` names it.",
        "Correct the named field.";
    NotAMember, "NOT_A_MEMBER", Payload, 200, FailedPrecondition, false,
        "The user named as the target is not a member of the conversation.",
        "Refetch the members.";
    Forbidden, "FORBIDDEN", Payload, 200, PermissionDenied, false,
        "The caller is a member but lacks the role for this.",
        "Ask an admin or owner of the group.";
    IdempotencyConflict, "IDEMPOTENCY_CONFLICT", Payload, 200, Aborted, false,
        "The same `clientMessageId` or `clientKey` was used before with other content or another conversation.",
        "Use a new key for a new message.";
    TooManyMembers, "TOO_MANY_MEMBERS", Payload, 200, ResourceExhausted, false,
        "The group would have more members than allowed.",
        "Add fewer members, or open another group.";
    LastOwner, "LAST_OWNER", Payload, 200, FailedPrecondition, false,
        "The group would be left without an owner.",
        "Make another member owner first.";
    ConversationFull, "CONVERSATION_FULL", Payload, 200, ResourceExhausted, false,
        "The conversation holds 2147483647 messages or changes, the most it can.",
        "Open a new conversation.";
    NotFound, "NOT_FOUND", Both, 200, NotFound, false,
        "There is no such thing, or the caller may not see it. Both look the same on purpose.",
        "Check the id; refetch the list it came from.";
    RateLimited, "RATE_LIMITED", Both, 429, ResourceExhausted, true,
        "Too many calls of this kind in a short time.",
        "Wait the `retryAfterSeconds` of the user error or of the error's `extensions`, then try again.";
    Unavailable, "UNAVAILABLE", TopLevel, 503, Unavailable, true,
        "A queue is full, a deadline passed, or a backend is away. A send may or may not have been committed.",
        "Send the same call again with the same key; nothing happens twice.";
    Unauthenticated, "UNAUTHENTICATED", TopLevel, 401, Unauthenticated, false,
        "The operation needs a signed-in caller, or the access token is invalid, expired or revoked.",
        "Refresh the session, then try again.";
    BadRequest, "BAD_REQUEST", TopLevel, 400, InvalidArgument, false,
        "The request is malformed: its document, variables, an argument, or a cursor.",
        "Correct the request.";
    PageSizeOutOfRange, "PAGE_SIZE_OUT_OF_RANGE", TopLevel, 200, OutOfRange, false,
        "`first` or `last` is not between 1 and 100, or both are given.",
        "Ask for 1 to 100 items, in one direction.";
    LimitExceeded, "LIMIT_EXCEEDED", TopLevel, 400, ResourceExhausted, false,
        "The document, its variables or the connection goes past a published bound.",
        "Send a smaller document, ask for smaller pages, or for fewer operations at once.";
    PersistedQueryNotFound, "PERSISTED_QUERY_NOT_FOUND", TopLevel, 400, NotFound, false,
        "No document is known by this hash: it was never registered here, or was forgotten since.",
        "Send the document's text together with the hash, once.";
    DocumentNotTrusted, "DOCUMENT_NOT_TRUSTED", TopLevel, 400, PermissionDenied, false,
        "This server runs the documents of its manifests alone, and this is none of them.",
        "Send the `documentId` of a document that was released; ask the operator to add yours.";
    Internal, "INTERNAL", TopLevel, 500, Internal, false,
        "A fault of the server. The request id finds it in the logs.",
        "Report it with the request id.";
}

impl ErrorCode {
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    pub const fn retryable(self) -> bool {
        self.info().retryable
    }
}

/// A call that failed, and why. `message` may be shown to anybody; `source` never leaves the process.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    code: ErrorCode,
    message: Cow<'static, str>,
    field: &'static [&'static str],
    retry_after: Option<Duration>,
    #[source]
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ServiceError {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), field: &[], retry_after: None, source: None }
    }

    /// A value that breaks a rule; `field` is its path below `input`.
    pub fn invalid(field: &'static [&'static str], message: impl Into<Cow<'static, str>>) -> Self {
        Self { field, ..Self::new(ErrorCode::InvalidInput, message) }
    }

    pub fn not_found(what: &'static str) -> Self {
        Self::new(ErrorCode::NotFound, format!("no such {what}"))
    }

    pub fn forbidden(message: &'static str) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    pub fn unauthenticated(message: &'static str) -> Self {
        Self::new(ErrorCode::Unauthenticated, message)
    }

    pub fn unavailable(message: &'static str) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// What a call needs is away or has no room; it did not happen, or may be made again all the same.
    pub fn away() -> Self {
        Self::unavailable("the service is busy or away; try again")
    }

    /// Nobody knows what became of a call.
    pub fn unknown_fate() -> Self {
        Self::unavailable("no answer in time; it may still happen")
    }

    /// Turns a failure of ours into `INTERNAL`, on purpose. The cause is for the logs alone.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(Arc::from(source.into())), ..Self::new(ErrorCode::Internal, "internal error") }
    }

    #[must_use]
    pub fn at(self, field: &'static [&'static str]) -> Self {
        Self { field, ..self }
    }

    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    #[must_use]
    pub fn caused_by(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(Arc::from(source.into())), ..self }
    }

    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    pub const fn retryable(&self) -> bool {
        self.code.retryable()
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub const fn field(&self) -> &'static [&'static str] {
        self.field
    }

    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
