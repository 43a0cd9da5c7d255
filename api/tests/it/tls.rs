//! TLS without a proxy: both versions of HTTP, sockets, and a certificate that is renewed under way.

use std::{fs, io, path::Path, process::Command, slice, sync::Arc, time::Duration};

use api::{server::TlsFiles, settings::Settings};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest as _};

use crate::test_server::TestServer;

const PATIENCE: Duration = Duration::from_secs(15);

/// Writes a certificate and its key over those that are there.
fn make(files: &TlsFiles) {
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &text(&files.key), "-out", &text(&files.certificate)])
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn certificate(files: &TlsFiles) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files.certificate).expect("a certificate")
}

/// Trusts these certificates alone.
async fn connect(
    server: &TestServer,
    trusted: &[CertificateDer<'static>],
    protocol: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).expect("a root");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

struct Secured {
    server: TestServer,
    files: TlsFiles,
    _folder: tempfile::TempDir,
}

async fn secured(header_timeout: Duration) -> Secured {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    let files = TlsFiles { certificate, key };
    make(&files);
    let settings = Settings { tls: Some(files.clone()), header_timeout, ..Settings::default() };
    Secured { server: TestServer::with(settings).await, files, _folder: folder }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_sockets_are_served_over_tls_and_plain_text_is_not() {
    let Secured { server, files, _folder } = secured(Duration::from_secs(2)).await;
    let trusted = [certificate(&files)];
    let mut stream = connect(&server, &trusted, b"http/1.1").await.expect("connects");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let body = r#"{"query":"{ __typename }"}"#;
    let head =
        "POST /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json";
    stream
        .write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
        .await
        .expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"data":{"__typename":"Query"}}"#),
        "{answer}"
    );

    let stream = connect(&server, &trusted, b"h2").await.expect("connects");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    let stream = connect(&server, &trusted, b"http/1.1").await.expect("connects");
    let mut request = "wss://localhost/graphql".into_client_request().expect("an address");
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().expect("a header"));
    request.headers_mut().insert("origin", "https://localhost".parse().expect("a header"));
    let (mut socket, _) = client_async(request, stream).await.expect("opens");
    let init = json!({ "type": "connection_init" }).to_string();
    futures_util::SinkExt::send(&mut socket, init.into()).await.expect("writes");
    let ack = timeout(PATIENCE, futures_util::StreamExt::next(&mut socket)).await.expect("in time");
    assert_eq!(
        ack.expect("open").expect("a message").into_text().expect("text").as_str(),
        r#"{"type":"connection_ack"}"#
    );

    let mut plain = TcpStream::connect(server.address).await.expect("connects");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("writes");
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("closed");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_is_closed() {
    let Secured { server, files: _files, _folder } = secured(Duration::from_secs(2)).await;
    for start in [&b""[..], b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        stream.write_all(start).await.expect("writes");
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_without_a_restart_and_a_broken_one_changes_nothing() {
    let Secured { server, files, _folder } = secured(PATIENCE * 2).await;
    let old = certificate(&files);
    let mut open = connect(&server, slice::from_ref(&old), b"http/1.1").await.expect("connects");
    // The key of another certificate: half of a renewal.
    let kept = fs::read(&files.key).expect("the key");
    fs::write(&files.key, "nonsense").expect("writes");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        assert!(connect(&server, slice::from_ref(&old), b"http/1.1").await.is_ok(), "the old one goes on");
    }
    fs::write(&files.key, kept).expect("writes");
    make(&files);
    let new = certificate(&files);
    assert_ne!(old, new);
    let begun = Instant::now();
    while connect(&server, slice::from_ref(&new), b"http/1.1").await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the new certificate is not used");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(connect(&server, &[old], b"http/1.1").await.is_err(), "the old one is gone");
    open.write_all(b"GET /schema.graphql HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("writes");
    let mut first = [0; 12];
    open.read_exact(&mut first).await.expect("the open connection goes on");
}
