//! Answers in gzip, for clients that take it.
//!
//! Fast before small: lists of JSON shrink to a tenth at the lowest level. A page of another origin learns nothing from sizes: it cannot send
//! a request in the name of somebody else, as tokens are in no cookie.

use std::io::Write as _;

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

/// Smaller ones fit into a packet anyway.
const BYTES_MIN: usize = 1024;

/// Larger ones would keep others of this thread waiting for more than a few milliseconds.
const BYTES_MAX: usize = 512 * 1024;

/// Whether the client takes gzip, by name or by a wildcard, and not with `q=0`.
pub(super) fn is_taken(headers: &HeaderMap) -> bool {
    let given = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut by_name = None;
    let mut by_wildcard = None;
    for coding in given.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let taken = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => &mut by_name,
            "*" => &mut by_wildcard,
            _ => continue,
        };
        let quality = parts.find_map(|parameter| parameter.strip_prefix("q=")).map(str::parse::<f32>);
        *taken = Some(match quality {
            None => true,
            Some(quality) => quality.is_ok_and(|quality| quality > 0.0),
        });
    }
    by_name.or(by_wildcard).unwrap_or(false)
}

/// The same answer, smaller where that is worth it.
pub(super) async fn compress(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    // It is there already: nothing is waited for, and nothing can fail.
    let Ok(whole) = to_bytes(body, usize::MAX).await else {
        return Response::from_parts(parts, Body::empty());
    };
    let small = (BYTES_MIN..=BYTES_MAX).contains(&whole.len()).then(|| gzip(&whole)).flatten();
    let Some(small) = small.filter(|small| small.len() < whole.len()) else {
        return Response::from_parts(parts, Body::from(whole));
    };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(small))
}

fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn gzip_is_taken_when_the_client_says_so() {
        let taken = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().expect("a header"));
            is_taken(&headers)
        };
        assert!(!is_taken(&HeaderMap::new()));
        for (value, expected) in [
            ("gzip", true),
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("*", true),
            ("*;q=0, gzip", true),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("br", false),
            ("gzip;q=x", false),
            ("", false),
        ] {
            assert_eq!(taken(value), expected, "{value}");
        }
    }

    #[tokio::test]
    async fn what_is_worth_it_comes_back_as_it_was() {
        for (length, compressed) in [(0, false), (1000, false), (2000, true), (600_000, false)] {
            let text = "abc ".repeat(length / 4);
            let answer = compress(Response::new(Body::from(text.clone()))).await;
            assert_eq!(answer.headers().contains_key(header::CONTENT_ENCODING), compressed, "{length}");
            let bytes = to_bytes(answer.into_body(), usize::MAX).await.expect("whole");
            let mut plain = String::new();
            if compressed {
                GzDecoder::new(&*bytes).read_to_string(&mut plain).expect("gzip");
            } else {
                plain = String::from_utf8(bytes.into()).expect("text");
            }
            assert_eq!(plain, text);
        }
    }
}
