//! The API's listener: accepts connections, routes requests, and at the end lets everything finish.
//!
//! It accepts by itself, because the stock loop waits for ever for a header that never ends and knows nothing of sockets
//! when it stops. `accepted` is what is read and written, `connections` counts them, `activity` gives up those that ask nothing, `tls` is for those without a proxy. Not here: `/healthz` and its like, which are on a listener of their own.

mod accepted;
mod activity;
mod connections;
mod tls;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use domain::measure;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    accepted::Accepted,
    activity::Activity,
    connections::{Connections, Place},
    tls::Certificate,
};
pub use self::{
    connections::Place as ConnectionPlace,
    tls::{TlsError, TlsFiles},
};
use crate::{
    edge::Edge,
    explorer, http,
    origin::Origins,
    websocket::{self, Sockets},
};

/// Streams of one HTTP/2 connection at once.
const HTTP2_STREAMS_MAX: u32 = 100;

/// Bytes of a request's header, and so what a connection that has not asked yet may hold. A document in a `GET` has to fit.
const HEADER_BYTES_MAX: u32 = 32 * 1024;

/// How long a connection that is given up may take to say good-bye.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted. What comes while there are as many is dropped, and its client tries again after a second
/// (RFC 6298, section 2), which is long in a storm of reconnects. The kernel allows no more than `net.core.somaxconn`: 4,096 since Linux 5.4.
pub const BACKLOG: u32 = 4096;

/// How long accepting pauses when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener.
pub struct Server {
    listener: TcpListener,
    routes: Arc<Routes>,
    certificate: Option<(Arc<Certificate>, TlsAcceptor)>,
}

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    Listen(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

struct Routes {
    edge: Arc<Edge>,
    sockets: Sockets,
    origins: Origins,
    sdl: Arc<str>,
    sdl_tag: String,
}

/// As `TcpListener::bind`, which has room for 128 to wait.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Server {
    /// Binds the address of the settings, inside a runtime; requests are answered once [`Self::serve`] runs.
    pub fn bind(edge: Arc<Edge>, sockets: Sockets, sdl: Arc<str>) -> Result<Self, BindError> {
        let certificate = match edge.settings.tls.clone() {
            Some(files) => {
                let certificate = Certificate::read(files)?;
                let acceptor = certificate.acceptor()?;
                Some((certificate, acceptor))
            }
            None => None,
        };
        let listener = listen(edge.settings.listen)?;
        let origins = Origins::new(&edge.settings.allowed_origins, listener.local_addr()?);
        let tag = explorer::hex_tag(&Sha256::digest(sdl.as_bytes()));
        let routes = Routes { edge, sockets, origins, sdl, sdl_tag: format!("\"{tag}\"") };
        Ok(Self { listener, routes: Arc::new(routes), certificate })
    }

    /// Where it listens; the port that was free when 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop, then drains: sockets close with 1012 spread over time, and what runs runs to its end.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, routes, certificate } = self;
        let settings = &routes.edge.settings;
        // Behind a proxy every connection is the proxy's.
        let per_address = (settings.trusted_hops == 0).then_some(settings.connections_per_address_max);
        let counted = Connections::new(settings.connections_max, per_address);
        let connections = TaskTracker::new();
        let acceptor = certificate.map(|(certificate, acceptor)| {
            connections.spawn(certificate.follow(stop.clone()));
            acceptor
        });
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accept(&listener, &counted) => accepted,
            };
            match accepted {
                Ok((stream, peer, Some(place))) => {
                    let connection = Connection { routes: Arc::clone(&routes), peer, place: Arc::new(place) };
                    connections.spawn(connection.begin(stream, acceptor.clone(), stop.clone()));
                }
                // One more than the address may have: closed without a word, which would take time.
                Ok((_, _, None)) => measure::count(measure::CONNECTIONS_REFUSED, &[], 1),
                Err(error) => {
                    tracing::warn!(error.chain = %error, "a connection cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Connections that come now are refused at once, and another node gets them.
        drop(listener);
        drain(&routes, &connections).await;
    }
}

async fn accept(
    listener: &TcpListener,
    counted: &Connections,
) -> io::Result<(TcpStream, SocketAddr, Option<Place>)> {
    let room = counted.room().await?;
    let (stream, peer) = listener.accept().await?;
    let place = counted.place(room, peer.ip());
    Ok((stream, peer, place))
}

async fn drain(routes: &Routes, connections: &TaskTracker) {
    let edge = &routes.edge;
    let deadline = Instant::now() + edge.settings.drain_timeout;
    let running = &edge.tasks;
    let finish = async {
        routes.sockets.drain(edge.settings.drain_spread, &*edge.random).await;
        connections.close();
        connections.wait().await;
        running.close();
        running.wait().await;
    };
    if timeout_at(deadline, finish).await.is_err() {
        tracing::warn!(sockets = routes.sockets.count(), tasks = running.len(), "stopping with work undone");
        routes.sockets.close_all(1012, "service restart");
    }
}

struct Connection {
    routes: Arc<Routes>,
    peer: SocketAddr,
    /// An upgraded socket keeps it.
    place: Arc<Place>,
}

impl Connection {
    async fn begin(self, stream: TcpStream, tls: Option<TlsAcceptor>, stop: CancellationToken) {
        let stream = Accepted::new(stream, Arc::clone(&self.place));
        match tls {
            None => self.serve(stream, stop).await,
            Some(tls) => match timeout(self.routes.edge.settings.header_timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.serve(stream, stop).await,
                Ok(Err(error)) => tracing::debug!(error.chain = %error, "a connection does not speak TLS"),
                Err(_) => {}
            },
        }
    }

    async fn serve<S>(self, stream: S, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { routes, peer, place } = self;
        let settings = &routes.edge.settings;
        let (header_timeout, idle_timeout) = (settings.header_timeout, settings.idle_timeout);
        let (activity, answering) = (Activity::new(), routes.clone());
        let asked = activity.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let (routes, place) = (Arc::clone(&answering), Arc::clone(&place));
            let begun = asked.begin();
            async move {
                let answer = routes.answer(request.map(Body::new), peer, place).await;
                drop(begun);
                Ok::<_, Infallible>(answer)
            }
        });
        let builder = protocols(header_timeout);
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = activity.ends(header_timeout, idle_timeout) => {
                connection.as_mut().graceful_shutdown();
                let Ok(ended) = timeout(FAREWELL, connection).await else { return };
                ended
            }
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // The peer went away or did not speak HTTP: its own affair.
            tracing::debug!(error.chain = %error, "a connection ended early");
        }
    }
}

fn protocols(header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let header_bytes_max = usize::try_from(HEADER_BYTES_MAX).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(header_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(Some(header_timeout))
        .keep_alive_timeout(header_timeout);
    builder
}

impl Routes {
    /// `place` is the connection's; an upgraded socket keeps it.
    async fn answer(&self, mut request: Request, peer: SocketAddr, place: Arc<Place>) -> Response {
        if request.version() == Version::HTTP_11
            && request.headers().get_all(header::HOST).iter().count() != 1
        {
            return http::without_host();
        }
        name_host(&mut request);
        let address = Some(client_address(request.headers(), peer.ip(), self.edge.settings.trusted_hops));
        let path = request.uri().path();
        if path == "/graphql" {
            if !websocket::is_upgrade(request.headers()) {
                return http::serve(&self.edge, &self.origins, request, address).await;
            }
            let (edge, sockets) = (Arc::clone(&self.edge), self.sockets.clone());
            let (parts, _) = request.into_parts();
            return websocket::upgrade(edge, sockets, &self.origins, parts, address, place).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return match self.file(path, request.headers()).status() {
                StatusCode::NOT_FOUND => StatusCode::NOT_FOUND.into_response(),
                _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response(),
            };
        }
        self.file(path, request.headers())
    }

    fn file(&self, path: &str, headers: &HeaderMap) -> Response {
        match path {
            "/" => explorer::index(headers),
            "/schema.graphql" => {
                let more = [
                    (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                    (header::CACHE_CONTROL, "no-cache"),
                    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                ];
                explorer::tagged(headers, &self.sdl_tag, more, self.sdl.to_string())
            }
            _ => match path.strip_prefix("/explorer/") {
                Some(file) => explorer::file(file, headers),
                None => StatusCode::NOT_FOUND.into_response(),
            },
        }
    }
}

/// HTTP/2 names the host in the request's target; everything behind looks for it in the headers.
fn name_host(request: &mut Request) {
    if request.headers().contains_key(header::HOST) {
        return;
    }
    let authority =
        request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(authority) = authority {
        request.headers_mut().insert(header::HOST, authority);
    }
}

/// Who is at the other end: the peer, or with trusted proxies in front what the outermost of them saw. What stands
/// further left in the header was written by anybody.
fn client_address(headers: &HeaderMap, peer: IpAddr, trusted_hops: usize) -> IpAddr {
    const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    let Some(from_right) = trusted_hops.checked_sub(1) else { return peer };
    let seen = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let entries: Vec<&str> = seen.flat_map(|value| value.split(',')).map(str::trim).collect();
    let entry = entries.iter().rev().nth(from_right);
    entry.and_then(|entry| parse_address(entry)).unwrap_or(peer)
}

/// With or without a port.
fn parse_address(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_trusted_proxies_wrote_counts_as_the_address() {
        let peer: IpAddr = "10.0.0.1".parse().expect("an address");
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 203.0.113.7".parse().expect("a header"));
        headers.append("x-forwarded-for", "[2001:db8::1]:443".parse().expect("a header"));
        let of = |hops| client_address(&headers, peer, hops).to_string();
        assert_eq!(of(0), "10.0.0.1");
        assert_eq!(of(1), "2001:db8::1");
        assert_eq!(of(2), "203.0.113.7");
        assert_eq!(of(9), "10.0.0.1");
    }
}
