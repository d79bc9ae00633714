//! Whom to trust: the system's certificate authorities, and those of a file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use super::NetError;

/// What encrypted connections are made with. Cheap to clone; made once, on the cold path.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    requests: TlsConfig,
}

impl Tls {
    /// Trusts the system's roots and, besides, every certificate of the PEM file `extra`.
    ///
    /// Neither session resumption nor ALPN is offered to streams: a venue's WebSocket is one
    /// connection for a day, and HTTP/2 would not be understood.
    ///
    /// # Errors
    /// [`NetError::Roots`] for a file that cannot be read or holds no certificate. A system without
    /// roots is no error here; every encrypted connection to a public venue is one then.
    pub fn new(extra: Option<&Path>) -> Result<Self, NetError> {
        let mut certificates = rustls_native_certs::load_native_certs().certs;
        if let Some(path) = extra {
            certificates.extend(read_roots(path)?);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        let certificates: Vec<_> =
            certificates.iter().map(|it| Certificate::from_der(it).to_owned()).collect();
        let requests = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::new_with_certs(&certificates))
            .build();
        Ok(Self { config: Arc::new(config), requests })
    }

    /// The client's side of one connection to this host. The name is sent along (SNI).
    pub(super) fn client(&self, host: &str) -> Result<ClientConnection, NetError> {
        let failed = |found: String| NetError::Tls { host: host.to_owned(), found };
        let name = ServerName::try_from(host.to_owned()).map_err(|it| failed(it.to_string()))?;
        ClientConnection::new(Arc::clone(&self.config), name).map_err(|it| failed(it.to_string()))
    }

    /// The same for HTTP requests.
    pub(super) fn requests(&self) -> TlsConfig {
        self.requests.clone()
    }
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let failed = |found: String| NetError::Roots { path: path.display().to_string(), found };
    let text = fs::read(path).map_err(|it| failed(it.to_string()))?;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|it| failed(it.to_string()))?;
    if roots.is_empty() {
        return Err(failed("no certificate".into()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let found = |path: &Path| Tls::new(Some(path)).unwrap_err().to_string();
        assert!(found(&path).contains("ca.pem: No such file"), "{}", found(&path));
        fs::write(&path, "nothing of use").unwrap();
        let want = "ca.pem: no certificate; wanted a PEM file of certificates";
        assert!(found(&path).ends_with(want), "{}", found(&path));
        fs::write(&path, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
        assert!(found(&path).contains("wanted a PEM file"), "{}", found(&path));
    }
}
