//! What a port shows to those who connect, and what it asks of them; it may be replaced while the port serves.

use crate::trust::Trust;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use std::sync::{Arc, PoisonError, RwLock};

pub const HTTP_2: &[u8] = b"h2";
pub const HTTP_1: &[u8] = b"http/1.1";
/// As the Python doors speak (`mesh/doors/tls.py`).
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
/// Sessions that TLS 1.2 clients may take up again; those of TLS 1.3 keep theirs in a ticket.
const SESSIONS: usize = 1024;

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    None,
    /// Who shows one shows one that is trusted.
    Optional,
    Require,
}

/// A key with its certificates, and whom its owner trusts; as PEM.
#[derive(Clone, Copy, Debug)]
pub struct Pem<'a> {
    pub key: &'a [u8],
    pub chain: &'a [u8],
    pub trust: &'a [u8],
}

/// What the ports of one kind of caller show now.
pub struct Tls(RwLock<Shown>);

/// One version of it, for gRPC and for REST: they differ in the protocols that they speak.
#[derive(Clone)]
struct Shown {
    grpc: Arc<ServerConfig>,
    rest: Arc<ServerConfig>,
}

impl Tls {
    /// # Errors
    /// Names what cannot be used, and why.
    pub fn new(pem: &Pem<'_>, clients: Clients) -> Result<Self, String> {
        Shown::new(pem, clients).map(|shown| Self(RwLock::new(shown)))
    }

    /// Shows something else to those who connect from now on; what cannot be used changes nothing.
    ///
    /// # Errors
    /// As of `new`.
    pub fn replace(&self, pem: &Pem<'_>, clients: Clients) -> Result<(), String> {
        let shown = Shown::new(pem, clients)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(())
    }

    /// For a port that speaks HTTP/2 alone.
    pub fn grpc(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).grpc)
    }

    /// For a port that also speaks HTTP/1.1.
    pub fn rest(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).rest)
    }
}

impl Shown {
    fn new(pem: &Pem<'_>, clients: Clients) -> Result<Self, String> {
        let provider = provider();
        let pair = pair(pem, &provider)?;
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&VERSIONS).map_err(text)?;
        let config = match clients {
            Clients::None => config.with_no_client_auth(),
            Clients::Optional | Clients::Require => {
                let trust = Trust::read(pem.trust)?;
                let known = WebPkiClientVerifier::builder_with_provider(Arc::clone(&trust.roots), provider.clone());
                let known = if clients == Clients::Optional { known.allow_unauthenticated() } else { known };
                config.with_client_cert_verifier(Arc::new(trust.of_clients(known.build().map_err(text)?)))
            }
        };
        let mut grpc = config.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
        grpc.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        grpc.ticketer = ring::Ticketer::new().map_err(text)?;
        let mut rest = grpc.clone();
        grpc.alpn_protocols = vec![HTTP_2.to_vec()];
        rest.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        Ok(Self { grpc: Arc::new(grpc), rest: Arc::new(rest) })
    }
}

/// The cryptography of all connections.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A key with its certificates.
///
/// # Errors
/// One of them is not there, of a kind that rustls has not, or they do not belong together.
pub fn pair(pem: &Pem<'_>, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(|error| format!("the private key cannot be read: {error}"))?;
    let chain = certificates(pem.chain)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| format!("key and certificate cannot be used: {error}"))
}

/// All certificates of a text, of which there is one at least.
///
/// # Errors
/// There is none, or one is broken.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there are no certificates".to_owned()),
        found => found.map_err(|error| format!("a certificate cannot be read: {error}")),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
