//! Which browsers' pages may talk to this server, for CORS and for WebSockets.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, header};

/// The allowed origins.
#[derive(Clone, Debug)]
pub struct Origins {
    /// Exact; empty = the server's own.
    listed: Vec<String>,
    /// Whether pages of this machine may call, whatever their port.
    loopback: bool,
}

impl Origins {
    pub fn new(listed: &[String], address: SocketAddr) -> Self {
        let listed = listed.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect();
        Self { listed, loopback: address.ip().is_loopback() }
    }

    /// Whether a request may have come from where it says. Without `Origin` no browser sent it across origins.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        !headers.contains_key(header::ORIGIN) || self.allowed(headers).is_some()
    }

    /// The request's origin, if it has one and it is allowed.
    pub fn allowed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        let allowed = match self.listed.is_empty() {
            false => self.listed.contains(&text),
            true => {
                let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
                (self.loopback && is_loopback(authority)) || is_own(authority, headers)
            }
        };
        allowed.then_some(origin)
    }
}

fn is_own(authority: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(listed: &[&str], address: &str, origin: Option<&str>, host: &str) -> bool {
        let listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
        let origins = Origins::new(&listed, address.parse().expect("an address"));
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a host"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("an origin"));
        }
        origins.allow(&headers)
    }

    #[test]
    fn by_default_the_own_origin_and_loopback_ones_on_loopback_are_allowed() {
        let local = "127.0.0.1:4000";
        for origin in
            ["http://localhost:3000", "http://127.0.0.1:4000", "http://[::1]:5173", "https://localhost"]
        {
            assert!(allows(&[], local, Some(origin), "localhost:4000"), "{origin}");
            assert!(!allows(&[], "0.0.0.0:4000", Some(origin), "chat.example"), "{origin}");
        }
        assert!(allows(&[], "0.0.0.0:4000", Some("https://chat.example"), "chat.example"));
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
            "file://",
            "http://127.0.0.1.evil",
        ] {
            assert!(!allows(&[], local, Some(origin), "localhost:4000"), "{origin}");
        }
    }

    #[test]
    fn a_list_is_exact_and_replaces_the_default() {
        let list = ["https://app.example"];
        assert!(allows(&list, "127.0.0.1:4000", Some("https://app.example"), "localhost:4000"));
        assert!(!allows(&list, "127.0.0.1:4000", Some("http://app.example"), "localhost:4000"));
        assert!(!allows(&list, "127.0.0.1:4000", Some("https://sub.app.example"), "localhost:4000"));
        assert!(!allows(&list, "127.0.0.1:4000", Some("http://localhost:4000"), "localhost:4000"));
        assert!(allows(&list, "127.0.0.1:4000", None, "localhost:4000"));
    }
}
