//! TLS without a proxy in front. The certificate is read again when its files change, so that a renewal needs no restart.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Where a certificate is, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// With the chain, the server's own first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: {problem}", file.display())]
    File { file: PathBuf, problem: String },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// The certificate of the moment.
#[derive(Debug)]
pub(super) struct Certificate {
    files: TlsFiles,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    pub fn read(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(Arc::new(read(&files)?));
        Ok(Arc::new(Self { files, current }))
    }

    /// Speaks HTTP/2 and HTTP/1.1 under this certificate.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Takes over what the files hold whenever they have changed. What cannot be used is told, and the old goes on.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = changed(&self.files);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_INTERVAL) => {}
            }
            let files = self.files.clone();
            let Ok((now, read)) = tokio::task::spawn_blocking(move || {
                let now = changed(&files);
                (now, (now != seen).then(|| read(&files)))
            })
            .await
            else {
                continue;
            };
            match read {
                None => {}
                Some(Ok(fresh)) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                    seen = now;
                    tracing::info!("the certificate was read anew");
                }
                Some(Err(error)) => {
                    // Both files are seldom written at once: looked at again when they change again.
                    seen = now;
                    tracing::warn!(error.chain = %error, "the new certificate cannot be used; the old one goes on");
                }
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

type Changed = [Option<(SystemTime, u64)>; 2];

fn changed(files: &TlsFiles) -> Changed {
    [&files.certificate, &files.key].map(|file| {
        let about = fs::metadata(file).ok()?;
        Some((about.modified().ok()?, about.len()))
    })
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let problem = |file: &Path, problem: String| TlsError::File { file: file.to_owned(), problem };
    let text = |file: &Path| fs::read(file).map_err(|error: io::Error| problem(file, error.to_string()));
    let (certificate, key) = (text(&files.certificate)?, text(&files.key)?);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| problem(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(problem(&files.certificate, "holds no certificate in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| problem(&files.key, error.to_string()))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InvalidCertificate(_) => problem(&files.certificate, error.to_string()),
        rustls::Error::InconsistentKeys(_) => {
            let certificate = files.certificate.display();
            problem(&files.key, format!("it is not the key of the certificate in {certificate}"))
        }
        _ => problem(&files.key, error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_broken_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = TlsFiles { certificate: folder.path().join("a.pem"), key: folder.path().join("a.key") };
        // What is in them has the form of PEM, and means nothing.
        let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        for (certificate, key, named) in [
            ("nonsense".to_owned(), pem("PRIVATE KEY"), "a.pem"),
            (String::new(), pem("PRIVATE KEY"), "a.pem"),
            (pem("CERTIFICATE"), "nonsense".to_owned(), "a.key"),
            (pem("CERTIFICATE"), pem("PRIVATE KEY"), "a.key"),
        ] {
            fs::write(&files.certificate, &certificate).expect("writes");
            fs::write(&files.key, &key).expect("writes");
            let error = read(&files).expect_err("broken").to_string();
            assert!(error.contains(named), "{certificate} {key}: {error}");
        }
    }
}
