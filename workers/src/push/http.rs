//! The client for providers: no redirects, bounded in time, and no way into private networks for addresses that users bring.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{
    Client, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::RETRY_AFTER,
    redirect::Policy,
};

use super::{Failure, Outcome};
use domain::push::is_public;

/// To one provider. Servers take at least a hundred requests at once on a connection where they follow RFC 9113 (6.5.2), and 256 are
/// made.
const CONNECTIONS: usize = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of those whose addresses users bring: they may be slow on purpose.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_mins(5);
/// What is read of an answer that explains a refusal.
const ANSWER_BYTES_MAX: usize = 4096;

/// The way to a provider whose address we were given by the operator: a few connections, used in turn, as one has room for fewer
/// requests than are made.
pub struct Connections {
    clients: Vec<Client>,
    turn: AtomicUsize,
}

impl Connections {
    pub fn new(url: &str) -> Result<Self, Failure> {
        let connection = || {
            let builder = builder();
            // Both providers speak HTTP/2 alone; without TLS nothing else says so.
            if url.starts_with("http://") { builder.http2_prior_knowledge() } else { builder }.build()
        };
        let mut clients = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            clients.push(connection()?);
        }
        Ok(Self { clients, turn: AtomicUsize::new(0) })
    }

    pub fn next(&self) -> &Client {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.clients[turn % self.clients.len()]
    }
}

/// For addresses that users bring.
pub fn to_strangers(private: bool) -> Result<Client, Failure> {
    // A proxy would resolve names where nobody looks.
    let builder = builder().timeout(STRANGER_TIMEOUT).no_proxy();
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

/// How long the answer asks to wait, in seconds; a date is not read, the default will do.
pub fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What an answer without a meaning of its own comes to: later for what may pass, else refused.
pub fn otherwise(status: StatusCode, why: String, wait: Option<Duration>) -> Outcome {
    let passes = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT;
    if passes || status.is_server_error() { Outcome::Closed(why, wait) } else { Outcome::Refused(why) }
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

    #[tokio::test]
    async fn a_name_of_a_private_address_is_not_resolved() {
        let client = to_strangers(false).expect("a client");
        let error = client.get("https://localhost:1/x").send().await.expect_err("refused");
        assert!(format!("{error:?}").contains("no public address"), "{error:?}");
    }
}
