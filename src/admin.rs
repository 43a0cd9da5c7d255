//! `/healthz`, `/readyz` and `/metrics`, on a listener of their own that clients never reach.

use std::{net::SocketAddr, sync::Arc};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::readiness::{Readiness, Verdict};

/// Bytes of a request that are looked at: more than any probe sends.
const REQUEST_BYTES_MAX: usize = 2048;
const REQUEST_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// Probes answered at once.
const CONNECTIONS_MAX: usize = 64;

/// Binds; answers where it listens, and what serves there until told to stop.
pub async fn start(
    address: SocketAddr,
    readiness: Arc<Readiness>,
    metrics: PrometheusHandle,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> std::io::Result<(SocketAddr, impl Future<Output = ()> + Send + use<>)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = tasks.clone();
    let serving = async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
            let (readiness, metrics) = (readiness.clone(), metrics.clone());
            connections.spawn(async move {
                let _permit = permit;
                let _ = timeout(REQUEST_TIMEOUT, answer(stream, &readiness, &metrics)).await;
            });
        }
    };
    Ok((bound, serving))
}

async fn answer(
    mut stream: TcpStream,
    readiness: &Readiness,
    metrics: &PrometheusHandle,
) -> std::io::Result<()> {
    let mut request = [0; REQUEST_BYTES_MAX];
    let read = stream.read(&mut request).await?;
    let line = String::from_utf8_lossy(&request[..read]);
    let (status, mut body) = match line.split(' ').nth(1) {
        Some("/healthz") => ("200 OK", "ok".to_owned()),
        Some("/readyz") => match readiness.verdict().await {
            Verdict::Ready(text) => ("200 OK", text),
            Verdict::NotReady(text) => ("503 Service Unavailable", text),
        },
        Some("/metrics") => ("200 OK", metrics.render()),
        _ => ("404 Not Found", "not found".to_owned()),
    };
    if !body.ends_with('\n') {
        body.push('\n');
    }
    let length = body.len();
    let head = "Content-Type: text/plain\r\nConnection: close";
    let text = format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
