//! The explorer: static files made by its own build, embedded in the binary, with nothing loaded from elsewhere.

use std::fmt::Write as _;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "src/explorer/"]
#[allow_missing = true]
struct Assets;

/// Nothing from another origin. The editor writes its styles as it goes, hence `unsafe-inline` for those alone.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self' data:; worker-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// What a build without the explorer's files shows.
const PLACEHOLDER: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Confab</title>\
     <h1>Confab</h1><p>This build has no explorer. The API is at <code>/graphql</code>, its schema at \
     <a href=\"/schema.graphql\">/schema.graphql</a>.</p></html>";

/// The page itself.
pub fn index(headers: &HeaderMap) -> Response {
    match Assets::get("index.html") {
        Some(file) => serve("index.html", &file, headers),
        None => with_policy((page_headers("index.html"), PLACEHOLDER).into_response()),
    }
}

/// One of its files, by the path below `/explorer/`.
pub fn file(path: &str, headers: &HeaderMap) -> Response {
    let hidden = path.split('/').any(|part| part.starts_with('.'));
    match Assets::get(path).filter(|_| !hidden) {
        Some(file) => serve(path, &file, headers),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn serve(path: &str, file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let hash = file.metadata.sha256_hash();
    let tag = hex_tag(&hash);
    with_policy(tagged(headers, &format!("\"{tag}\""), page_headers(path), file.data.to_vec()))
}

/// The tag of a content by its hash.
pub fn hex_tag(hash: &[u8]) -> String {
    hash.iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A body that clients keep until its tag changes.
pub fn tagged(
    headers: &HeaderMap,
    tag: &str,
    more: [(header::HeaderName, &'static str); 3],
    body: impl IntoResponse,
) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|known| {
        known.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
    });
    let tag = [(header::ETAG, tag.to_owned())];
    match unchanged {
        true => (StatusCode::NOT_MODIFIED, tag, more).into_response(),
        false => (tag, more, body).into_response(),
    }
}

fn page_headers(path: &str) -> [(header::HeaderName, &'static str); 3] {
    [
        (header::CONTENT_TYPE, content_type(path)),
        (header::CACHE_CONTROL, cache_control(path)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ]
}

/// The build gives every asset a name with a hash of its content.
fn cache_control(path: &str) -> &'static str {
    if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" }
}

fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers
        .insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
