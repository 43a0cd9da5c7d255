//! The one place that decides status, type and headers of an answer.
//!
//! Under `application/json` a well-formed request is answered with 200 whatever came of it, as old clients need it;
//! under `application/graphql-response+json` the status says whether anything ran. What is wrong with the HTTP request
//! itself has its own status under both.

use async_graphql::{Response as GraphQlResponse, ServerError, Value};
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::ErrorCode;
use serde::Serialize;

use crate::{
    refusal::{Refusal, complete_errors, is_request_error},
    websocket::serialise_response,
};

/// The two types an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Json,
    GraphQlResponse,
}

/// What came of a request.
pub(super) enum Answer {
    Response(GraphQlResponse),
    /// Nothing ran.
    Refused(Vec<Refusal>),
    /// The request's envelope cannot be read.
    Malformed(Refusal),
    NotAcceptable,
    MethodNotAllowed,
    /// A mutation or subscription in a `GET`.
    QueriesOnly(&'static str),
    /// A `GET` that any page could have made a browser send.
    Forgeable,
    AddressTooLong,
    TooLarge,
    TooSlow,
    UnsupportedMediaType,
    /// A body that is compressed.
    UnsupportedCoding,
    /// Over HTTP/1.1 each request names its host, once (RFC 9112, section 3.2).
    WithoutHost,
}

/// The type to answer with; `None` when the client takes neither. Of several ranges that match a type the most specific one
/// counts (RFC 9110, section 12.5.1).
pub(super) fn negotiate(headers: &HeaderMap) -> Option<MediaType> {
    let given = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<&str> =
        given.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty()).collect();
    if ranges.is_empty() {
        return Some(MediaType::Json);
    }
    let ranges: Vec<Range> = ranges.into_iter().filter_map(Range::read).collect();
    let best = |media: MediaType| {
        let matching = ranges.iter().filter(|range| range.media.is_none_or(|only| only == media));
        matching.max_by_key(|range| (range.specificity, range.quality)).filter(|range| range.quality > 0)
    };
    match (best(MediaType::GraphQlResponse), best(MediaType::Json)) {
        // Of equals the newer type wins where it is named.
        (Some(newer), Some(older)) if newer.media.is_some() && newer.quality >= older.quality => {
            Some(MediaType::GraphQlResponse)
        }
        (Some(newer), Some(older)) if newer.quality > older.quality => Some(MediaType::GraphQlResponse),
        (_, Some(_)) => Some(MediaType::Json),
        (Some(_), None) => Some(MediaType::GraphQlResponse),
        (None, None) => None,
    }
}

/// One range of `Accept`.
struct Range {
    /// `None` for a wildcard.
    media: Option<MediaType>,
    specificity: u8,
    /// In thousandths.
    quality: u16,
}

impl Range {
    fn read(range: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let (media, specificity) = match parts.next()?.to_ascii_lowercase().as_str() {
            "application/graphql-response+json" => (Some(MediaType::GraphQlResponse), 2),
            "application/json" => (Some(MediaType::Json), 2),
            "application/*" => (None, 1),
            "*/*" => (None, 0),
            _ => return None,
        };
        let mut quality = 1000;
        for parameter in parts {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("q") {
                let given: f32 = value.parse().ok().filter(|given| (0.0..=1.0).contains(given))?;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
                let thousandths = (given * 1000.0) as u16;
                quality = thousandths;
            } else if name.trim().eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
                return None;
            }
        }
        Some(Self { media, specificity, quality })
    }
}

/// Whether the body says that it is JSON, in UTF-8. Nothing else is accepted, which also means that no form and no
/// script of another page can send it without asking first.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(Ok(text)) = given.next().map(HeaderValue::to_str) else { return false };
    let mut parts = text.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let value = value.trim().trim_matches('"');
            value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
        }
        _ => true,
    });
    is_json && utf8 && given.next().is_none()
}

/// Whether the body is as it is, and not compressed.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

impl Answer {
    pub(super) fn into_response(self, media: MediaType, request_id: &str) -> Response {
        // What failed before GraphQL came into it is no GraphQL response.
        let (status, media, refusal) = match self {
            Self::Response(response) => return executed(&response, media),
            Self::Refused(refusals) => return refused(refusals, media, request_id),
            Self::Malformed(refusal) => (StatusCode::BAD_REQUEST, media, refusal),
            Self::NotAcceptable => {
                let text = "accept application/json or application/graphql-response+json";
                (StatusCode::NOT_ACCEPTABLE, MediaType::Json, Refusal::bad_request(text))
            }
            Self::MethodNotAllowed => {
                let refusal = Refusal::bad_request("use GET or POST");
                let response = failure(StatusCode::METHOD_NOT_ALLOWED, MediaType::Json, refusal);
                return with_header(response, header::ALLOW, "GET, POST");
            }
            Self::QueriesOnly(kind) => {
                let refusal = Refusal::bad_request(format!("a {kind} cannot be sent with GET"));
                let response = failure(StatusCode::METHOD_NOT_ALLOWED, MediaType::Json, refusal);
                return with_header(response, header::ALLOW, "POST");
            }
            Self::Forgeable => {
                let text = "a GET from a browser needs the header GraphQL-Require-Preflight";
                (StatusCode::FORBIDDEN, MediaType::Json, Refusal::bad_request(text))
            }
            Self::AddressTooLong => {
                let refusal = Refusal::limit_exceeded("the address is too long; use POST");
                (StatusCode::URI_TOO_LONG, MediaType::Json, refusal)
            }
            Self::TooLarge => {
                let refusal = Refusal::limit_exceeded("the body is too large");
                (StatusCode::PAYLOAD_TOO_LARGE, MediaType::Json, refusal)
            }
            Self::TooSlow => {
                let refusal = Refusal::bad_request("the body took too long");
                (StatusCode::REQUEST_TIMEOUT, MediaType::Json, refusal)
            }
            Self::UnsupportedCoding => {
                let refusal = Refusal::bad_request("send the body without Content-Encoding");
                let response = failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, MediaType::Json, refusal);
                return with_header(response, header::ACCEPT_ENCODING, "identity");
            }
            Self::WithoutHost => {
                let refusal = Refusal::bad_request("name the host once, in a header Host");
                (StatusCode::BAD_REQUEST, MediaType::Json, refusal)
            }
            Self::UnsupportedMediaType => {
                let refusal = Refusal::bad_request("the content type must be application/json");
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, MediaType::Json, refusal)
            }
        };
        failure(status, media, refusal)
    }
}

/// A partial answer is 200 too: the client has data.
fn executed(response: &GraphQlResponse, media: MediaType) -> Response {
    if is_request_error(response) {
        return request_error(&response.errors, media);
    }
    body(StatusCode::OK, media, serialise_response(response).into())
}

fn refused(refusals: Vec<Refusal>, media: MediaType, request_id: &str) -> Response {
    let errors = refusals.into_iter().map(ServerError::from).collect();
    let mut response = GraphQlResponse::from_errors(errors);
    complete_errors(&mut response, request_id);
    request_error(&response.errors, media)
}

fn request_error(errors: &[ServerError], media: MediaType) -> Response {
    let first = errors.first();
    let extension = |name: &str| first?.extensions.as_ref()?.get(name);
    let code = match extension("code") {
        Some(Value::String(name)) => ErrorCode::ALL.iter().copied().find(|code| code.name() == name),
        _ => None,
    };
    let status = match (code, media) {
        // Old clients are told these two by the status as well.
        (Some(code @ (ErrorCode::Unauthenticated | ErrorCode::RateLimited)), MediaType::Json) => {
            of_table(code)
        }
        (_, MediaType::Json) => StatusCode::OK,
        (Some(code), MediaType::GraphQlResponse) => of_table(code),
        (None, MediaType::GraphQlResponse) => StatusCode::BAD_REQUEST,
    };
    let retry_after = extension("retryAfterSeconds").map(ToString::to_string);
    let mut response = body(status, media, errors_body(errors));
    if status == StatusCode::UNAUTHORIZED {
        response = with_header(response, header::WWW_AUTHENTICATE, "Bearer");
    }
    match retry_after {
        Some(seconds) => with_header(response, header::RETRY_AFTER, &seconds),
        None => response,
    }
}

fn of_table(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.info().http_status).unwrap_or(StatusCode::BAD_REQUEST)
}

fn failure(status: StatusCode, media: MediaType, refusal: Refusal) -> Response {
    body(status, media, errors_body(&[refusal.into()]))
}

/// Errors without a `data` member: nothing ran.
fn errors_body(errors: &[ServerError]) -> bytes::Bytes {
    #[derive(Serialize)]
    struct Errors<'a> {
        errors: &'a [ServerError],
    }
    serde_json::to_vec(&Errors { errors }).unwrap_or_default().into()
}

fn body(status: StatusCode, media: MediaType, bytes: bytes::Bytes) -> Response {
    let content_type = match media {
        MediaType::Json => "application/json; charset=utf-8",
        MediaType::GraphQlResponse => "application/graphql-response+json; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, bytes).into_response()
}

fn with_header(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(accept: &str) -> Option<MediaType> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("a header"));
        negotiate(&headers)
    }

    #[test]
    fn the_type_the_client_prefers_is_negotiated() {
        use MediaType::{GraphQlResponse, Json};
        assert_eq!(negotiate(&HeaderMap::new()), Some(Json));
        for (accept, expected) in [
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("application/json", Some(Json)),
            ("application/graphql-response+json", Some(GraphQlResponse)),
            ("application/json, application/graphql-response+json", Some(GraphQlResponse)),
            ("application/graphql-response+json;q=0.9, application/json", Some(Json)),
            (
                "application/graphql-response+json; charset=utf-8, application/json; q=0.9",
                Some(GraphQlResponse),
            ),
            ("application/graphql-response+json;q=0, */*;q=0.1", Some(Json)),
            ("text/html, */*;q=0.8", Some(Json)),
            ("application/json; charset=utf-16", None),
            ("application/json;q=0", None),
            ("text/html", None),
            ("nonsense", None),
        ] {
            assert_eq!(negotiated(accept), expected, "{accept}");
        }
    }
}
