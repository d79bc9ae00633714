//! A test CA and the certificates of a simulated exchange, good and bad ones.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::sim::faults::Certificate;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// They cannot be made.
    #[error("cannot make test certificates: {0}")]
    Make(#[from] rcgen::Error),
    /// They cannot be used.
    #[error("cannot use test certificates: {0}")]
    Use(#[from] rustls::Error),
    /// The file of the CA cannot be written.
    #[error("{path}: cannot write: {source}", path = .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A certificate and its key.
#[derive(Clone, Debug)]
struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// The certificates of one run. Keys are made afresh each time and never leave the process.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    ca: String,
    good: Pair,
    wrong_name: Pair,
    expired: Pair,
    unknown_ca: Pair,
}

/// What a connection is served with, by what is wrong with it.
#[derive(Clone)]
pub(super) struct Configs([Arc<ServerConfig>; 4]);

impl Configs {
    pub(super) fn of(&self, certificate: Certificate) -> Arc<ServerConfig> {
        Arc::clone(match certificate {
            Certificate::Good => &self.0[0],
            Certificate::WrongName => &self.0[1],
            Certificate::Expired => &self.0[2],
            Certificate::UnknownCa => &self.0[3],
        })
    }
}

fn name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("kairos sim-exchange test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn host(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.distinguished_name = name("kairos sim-exchange");
    params.subject_alt_names.extend([
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ]);
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok(Pair { chain: vec![certificate.der().clone()], key: key.serialize_der() })
}

impl TlsFiles {
    /// Makes a CA and the certificates of localhost, 127.0.0.1 and ::1, and of what is wrong.
    ///
    /// # Errors
    /// [`TlsError::Make`].
    pub fn make() -> Result<Self, TlsError> {
        let ca = authority()?;
        let stranger = authority()?;
        Ok(Self {
            ca: ca.pem(),
            good: host(&ca, |_| {})?,
            wrong_name: host(&ca, |params| {
                params.subject_alt_names =
                    "other.invalid".try_into().map(SanType::DnsName).into_iter().collect();
            })?,
            expired: host(&ca, |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            })?,
            unknown_ca: host(&stranger, |_| {})?,
        })
    }

    /// The CA's certificate in PEM, to be trusted by clients.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// Writes the CA's certificate.
    ///
    /// # Errors
    /// [`TlsError::Write`].
    pub fn write_ca(&self, path: &Path) -> Result<(), TlsError> {
        let write = || {
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o640).open(path)?;
            file.write_all(self.ca.as_bytes())
        };
        write().map_err(|source| TlsError::Write { path: path.to_owned(), source })
    }

    pub(super) fn configs(&self) -> Result<Configs, TlsError> {
        let config = |pair: &Pair| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let key = PrivateKeyDer::try_from(pair.key.clone())
                .map_err(|what| rustls::Error::General(what.to_owned()))?;
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(pair.chain.clone(), key)?;
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        Ok(Configs([
            config(&self.good)?,
            config(&self.wrong_name)?,
            config(&self.expired)?,
            config(&self.unknown_ca)?,
        ]))
    }
}
