//! GraphQL over HTTP, as the working draft and the audits of `graphql-http` have it.
//!
//! [`serve`] answers `POST` and `GET /graphql`; which status and type an answer has is decided in `answer` alone. Not
//! here: WebSockets, and what the operations mean.

mod answer;
mod body;
mod compression;
mod csrf;
mod query_string;

use std::{net::IpAddr, sync::Arc};

use async_graphql::parser::types::OperationType;
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use domain::{Caller, trace::TraceContext};
use tokio::sync::oneshot;

use self::answer::{Answer, MediaType};
use crate::{
    document::kind_name,
    edge::{Asker, Edge, bearer},
    executor::Operation,
    guard::{Limits, scan_json},
    origin::Origins,
    parameters::{Malformed, Parameters},
    refusal::Refusal,
    trace,
};

/// Clients see the trace id under this name.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of the parameters in an address: what a whole header may have, less room for its other fields. Beyond the header's bound the
/// listener answers 431.
const QUERY_BYTES_MAX: usize = 24 * 1024;

/// Answers a request for `/graphql` that asks for no WebSocket.
pub async fn serve(
    edge: &Arc<Edge>,
    origins: &Origins,
    request: Request,
    address: Option<IpAddr>,
) -> Response {
    let trace = trace::of(request.headers(), &*edge.random);
    let origin = origins.allowed(request.headers()).cloned();
    let coding = compression::negotiate(request.headers());
    let mut response = if request.method() == Method::OPTIONS {
        preflight(origin.is_some())
    } else {
        domain::trace::scope(trace, answer(edge, request, address, trace)).await
    };
    if let Some(coding) = coding {
        response = compression::compress(response, coding).await;
    }
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding, origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("x-request-id, retry-after"),
        );
    }
    if let Ok(id) = HeaderValue::from_str(&trace.id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// Answers a request that does not say, once, which host it is for.
pub fn without_host() -> Response {
    Answer::WithoutHost.into_response(MediaType::Json, "")
}

/// What a browser asks before it sends what a form could not.
fn preflight(allowed: bool) -> Response {
    if !allowed {
        return StatusCode::NO_CONTENT.into_response();
    }
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "accept, authorization, content-type, graphql-require-preflight, apollo-require-preflight, \
             x-apollo-operation-name, traceparent, tracestate",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn answer(
    edge: &Arc<Edge>,
    request: Request,
    address: Option<IpAddr>,
    trace: TraceContext,
) -> Response {
    let (parts, body) = request.into_parts();
    let media = answer::negotiate(&parts.headers);
    let outcome = match media {
        None => Err(Answer::NotAcceptable),
        Some(_) if parts.method == Method::POST => post(edge, &parts.headers, body, address, trace).await,
        Some(_) if parts.method == Method::GET && is_too_long(&parts.uri) => Err(Answer::AddressTooLong),
        Some(_) if parts.method == Method::GET => {
            get(edge, parts.uri.query().unwrap_or_default(), &parts.headers, address, trace).await
        }
        Some(_) => Err(Answer::MethodNotAllowed),
    };
    let answer = outcome.unwrap_or_else(|refused| refused);
    answer.into_response(media.unwrap_or(MediaType::Json), &trace.id.to_string())
}

fn is_too_long(address: &Uri) -> bool {
    address.query().is_some_and(|query| query.len() > QUERY_BYTES_MAX)
}

async fn post(
    edge: &Arc<Edge>,
    headers: &HeaderMap,
    body: Body,
    address: Option<IpAddr>,
    trace: TraceContext,
) -> Result<Answer, Answer> {
    if !answer::is_json(headers) {
        return Err(Answer::UnsupportedMediaType);
    }
    if !answer::is_plain(headers) {
        return Err(Answer::UnsupportedCoding);
    }
    let body = body::read(headers, body, &edge.settings).await?;
    let caller = authenticate(edge, headers).map_err(|refusal| Answer::Refused(vec![refusal]))?;
    match read(&body, edge.documents.limits()) {
        Ok(parameters) => run(edge, parameters, Method::POST, caller, address, trace).await,
        Err(refusal) => Err(malformed(edge, refusal, Asker { caller, address }).await),
    }
}

async fn get(
    edge: &Arc<Edge>,
    query: &str,
    headers: &HeaderMap,
    address: Option<IpAddr>,
    trace: TraceContext,
) -> Result<Answer, Answer> {
    if !csrf::is_safe(headers) {
        return Err(Answer::Forgeable);
    }
    let caller = authenticate(edge, headers).map_err(|refusal| Answer::Refused(vec![refusal]))?;
    match query_string::read(query, edge.documents.limits()) {
        Ok(parameters) => run(edge, parameters, Method::GET, caller, address, trace).await,
        Err(refusal) => Err(malformed(edge, refusal, Asker { caller, address }).await),
    }
}

/// A token that is there must be good: nobody is anonymous by mistake.
fn authenticate(edge: &Edge, headers: &HeaderMap) -> Result<Option<Caller>, Refusal> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let token = first.to_str().ok().and_then(bearer).filter(|_| given.next().is_none());
    edge.authenticate(token.ok_or_else(Refusal::unauthenticated)?).map(Some)
}

async fn run(
    edge: &Arc<Edge>,
    parameters: Parameters,
    method: Method,
    caller: Option<Caller>,
    address: Option<IpAddr>,
    trace: TraceContext,
) -> Result<Answer, Answer> {
    let asker = Asker { caller, address };
    let document_bytes = parameters.document_bytes();
    let found = match edge.find(&parameters).await {
        Ok(found) => found,
        Err(refusal) => {
            return Err(Answer::Refused(edge.refuse(vec![refusal], document_bytes, asker).await));
        }
    };
    let kind = found.kind;
    match kind {
        OperationType::Query => {}
        OperationType::Mutation if method == Method::POST => {}
        OperationType::Mutation => return Err(Answer::QueriesOnly(kind_name(kind))),
        OperationType::Subscription if method == Method::GET => {
            return Err(Answer::QueriesOnly(kind_name(kind)));
        }
        OperationType::Subscription => {
            let refusal = Refusal::bad_request("subscriptions need a WebSocket with graphql-transport-ws");
            return Err(Answer::Refused(vec![refusal]));
        }
    }
    let prepared = match edge.prepare(parameters, found, asker).await {
        Ok(prepared) => prepared,
        Err(refusals) => return Err(Answer::Refused(edge.refuse(refusals, document_bytes, asker).await)),
    };
    let (paid, document) = (prepared.paid, Arc::clone(&prepared.document));
    let (done, answered) = oneshot::channel();
    let operation = Operation { request: prepared.into_request(), document, caller, address, paid };
    edge.run(operation, kind, trace, async move |response| {
        // Nobody waits any more when the client has gone; the work is done all the same.
        let _ = done.send(response);
    });
    match answered.await {
        Ok(response) => Ok(Answer::Response(response)),
        Err(_) => Err(Answer::Refused(vec![Refusal::new(domain::ErrorCode::Internal, "internal error")])),
    }
}

fn read(body: &[u8], limits: &Limits) -> Result<Parameters, Refusal> {
    let malformed = |malformed: Malformed| Refusal::bad_request(malformed.to_string());
    let text = std::str::from_utf8(body).map_err(|_| malformed(Malformed::Json))?;
    scan_json(text.as_bytes(), limits)?;
    Parameters::from_json(text).map_err(malformed)
}

/// What cannot be read costs its sender as much as what is refused later.
async fn malformed(edge: &Edge, refusal: Refusal, asker: Asker) -> Answer {
    let refusals = edge.refuse(vec![refusal.clone()], 0, asker).await;
    match refusals.iter().any(|refusal| refusal.code == domain::ErrorCode::RateLimited) {
        true => Answer::Refused(refusals),
        false => Answer::Malformed(refusal),
    }
}
