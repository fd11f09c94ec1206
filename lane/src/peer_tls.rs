//! TLS with other pods, as the side that calls (`mesh/wire/peer_tls.py`). The side that is called is a `tls::Tls` with what pods trust.

use crate::handshake;
use crate::secured::Secured;
use crate::tls::{HTTP_2, Pem, VERSIONS, pair, provider};
use crate::trust::Trust;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpStream;

/// What pods are shown now, and whom is believed to be one; it may be replaced while calls run.
pub struct PeerTls(RwLock<Shown>);

#[derive(Clone)]
struct Shown {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl PeerTls {
    /// `name`: that the certificates of pods have; they are dialled by address, of which certificates say nothing.
    ///
    /// # Errors
    /// Names what cannot be used, and why.
    pub fn new(pem: &Pem<'_>, name: &str) -> Result<Self, String> {
        Shown::new(pem, name).map(|shown| Self(RwLock::new(shown)))
    }

    /// Shows something else on connections that are made from now on; what cannot be used changes nothing.
    ///
    /// # Errors
    /// As of `new`.
    pub fn replace(&self, pem: &Pem<'_>, name: &str) -> Result<(), String> {
        let shown = Shown::new(pem, name)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(())
    }

    /// Makes a fresh connection to a pod one that speaks HTTP/2 over TLS; `socket::Socket::Tls` takes it. Whoever calls limits the time.
    ///
    /// # Errors
    /// Who answers is not believed to be a pod, does not believe it of this one, or speaks something else.
    pub async fn with_pod(&self, tcp: TcpStream) -> io::Result<Secured> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let made = ClientConnection::new(shown.config, shown.name).map_err(io::Error::other)?;
        let secured = handshake::with_server(tcp, made).await?;
        match secured.tls.alpn_protocol() {
            Some(HTTP_2) => Ok(secured),
            _ => Err(io::Error::other("what answers over TLS does not speak HTTP/2")),
        }
    }
}

impl Shown {
    fn new(pem: &Pem<'_>, name: &str) -> Result<Self, String> {
        let provider = provider();
        let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no name that a certificate can have"))?;
        let trust = Trust::read(pem.trust)?;
        let known = WebPkiServerVerifier::builder_with_provider(Arc::clone(&trust.roots), Arc::clone(&provider));
        let known = known.build().map_err(|error| error.to_string())?;
        let pair = pair(pem, &provider)?;
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&VERSIONS).map_err(|error| error.to_string())?;
        let mut config = config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust.of_servers(known)))
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
        // All pods have one name: what one of them said in a session is nothing to another.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }
}
