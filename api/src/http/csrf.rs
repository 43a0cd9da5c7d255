//! Which `GET` requests no page of another origin can have made a browser send.
//!
//! A browser sends a plain `GET` anywhere without asking, and only keeps the answer from the page. A request is taken when
//! it has what a page may only send after a preflight, when it comes from the server's own page, or when nothing says
//! that a browser sent it: every browser names itself `Mozilla/…`, and no page can change that.

use axum::http::{HeaderMap, header};

/// Headers that a page cannot send across origins without a preflight.
const PREFLIGHTED: [&str; 4] =
    ["graphql-require-preflight", "apollo-require-preflight", "x-apollo-operation-name", "authorization"];

pub(super) fn is_safe(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if PREFLIGHTED.iter().any(|name| headers.contains_key(*name)) {
        return true;
    }
    match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => {
            let browser = text("user-agent").is_some_and(|agent| agent.starts_with("Mozilla/"));
            !browser && !headers.contains_key(header::ORIGIN) && !headers.contains_key(header::REFERER)
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn safe(given: &[(&str, &str)]) -> bool {
        let headers = given.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, value.parse().expect("a value"))
        });
        is_safe(&headers.collect())
    }

    #[test]
    fn what_a_foreign_page_can_send_is_not_safe() {
        let browser = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)");
        assert!(!safe(&[browser]));
        assert!(!safe(&[browser, ("sec-fetch-site", "cross-site")]));
        assert!(!safe(&[browser, ("sec-fetch-site", "same-site")]));
        assert!(!safe(&[("origin", "https://evil.example")]));
        assert!(!safe(&[("referer", "https://evil.example/")]));
        assert!(safe(&[browser, ("sec-fetch-site", "same-origin")]));
        assert!(safe(&[browser, ("graphql-require-preflight", "1")]));
        assert!(safe(&[("user-agent", "curl/8.5.0")]));
        assert!(safe(&[("user-agent", "node"), ("sec-fetch-mode", "cors")]));
        assert!(safe(&[]));
    }
}
