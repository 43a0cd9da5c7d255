//! The client for providers: no redirects, bounded in time, and no way into private networks for addresses that users bring.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Client, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::RETRY_AFTER,
    redirect::Policy,
};

use super::{Failure, Outcome};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_mins(5);
/// What is read of an answer that explains a refusal.
const ANSWER_BYTES_MAX: usize = 4096;

/// For a provider whose address we were given by the operator.
pub fn to_provider(url: &str) -> Result<Client, Failure> {
    let builder = builder();
    // Both providers speak HTTP/2 alone; without TLS nothing else says so.
    let builder = if url.starts_with("http://") { builder.http2_prior_knowledge() } else { builder };
    Ok(builder.build()?)
}

/// For addresses that users bring.
pub fn to_strangers(private: bool) -> Result<Client, Failure> {
    let builder = builder();
    Ok(if private { builder } else { builder.dns_resolver(Arc::new(PublicOnly)) }.build()?)
}

fn builder() -> reqwest::ClientBuilder {
    // The one that everything else here uses; another may have been chosen before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(Duration::from_secs(30))
        .user_agent(concat!("confab/", env!("CARGO_PKG_VERSION")))
}

/// An address without a name never passes the resolver.
pub fn is_allowed(url: &Url, private: bool) -> bool {
    let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    private || (url.scheme() == "https" && literal.is_none_or(is_public))
}

/// Resolves names, and leaves out addresses that are not public. The connection goes to what was looked at: no second look-up
/// between the check and the use.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err("the endpoint has no public address".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Of the registries of special addresses (RFC 6890 and its successors) none is public.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, ..) | (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _)
    ) || matches!(
        (a, b, c),
        (192, 0, 0 | 2) | (192, 168, _) | (192, 88, 99) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113)
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Those that carry an address of version 4: mapped, compatible, translated, 6to4.
    let low = Ipv4Addr::from(
        [segments[6], segments[7]].map(u16::to_be_bytes).concat().try_into().unwrap_or([0; 4]),
    );
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(low),
        // Only 2000::/3 is given out; of it, not protocol assignments, documentation and 6to4.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002 | 0x3fff, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// What an answer without a meaning of its own comes to: later for what may pass, else refused.
pub async fn otherwise(response: Response) -> Outcome {
    let status = response.status();
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = wait.map(Duration::from_secs);
    let why = format!("{status} {}", beginning(response).await);
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        Outcome::Later(why, wait)
    } else {
        Outcome::Refused(why)
    }
}

/// The beginning of an answer's body.
pub async fn beginning(mut response: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(part)) = response.chunk().await {
        body.extend_from_slice(&part);
        if body.len() >= ANSWER_BYTES_MAX {
            body.truncate(ANSWER_BYTES_MAX);
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known_in_every_disguise() {
        let private = "0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 172.31.9.9 192.168.0.1 198.18.0.1 224.0.0.1 \
            255.255.255.255 ::1 :: fe80::1 fd00::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 2002:7f00:1::1 2001:db8::1 ff02::1";
        for address in private.split_whitespace() {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
        for address in
            ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"]
        {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn a_literal_or_plain_endpoint_of_a_private_network_is_refused() {
        // The parser of URLs writes addresses in decimal and octal out before we look.
        for url in [
            "https://127.0.0.1/x",
            "https://2130706433/x",
            "https://0177.0.0.1/x",
            "https://[::1]/x",
            "http://push.example/x",
        ] {
            assert!(!is_allowed(&url.parse().expect("an URL"), false), "{url}");
            assert!(is_allowed(&url.parse().expect("an URL"), true), "{url}");
        }
        assert!(is_allowed(&"https://push.example/x".parse().expect("an URL"), false));
    }

    #[tokio::test]
    async fn a_name_of_a_private_address_is_not_resolved() {
        let client = to_strangers(false).expect("a client");
        let error = client.get("https://localhost:1/x").send().await.expect_err("refused");
        assert!(format!("{error:?}").contains("no public address"), "{error:?}");
    }
}
