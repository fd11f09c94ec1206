//! Whose certificates are believed: those that a trusted certificate signed, and trusted certificates themselves.
//!
//! webpki does the former only. Pods trust the chain that they show themselves, and a client's own certificate may stand among those that are
//! trusted; OpenSSL takes both, and so do the Python doors.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// Certificates that are trusted.
#[derive(Clone, Debug)]
pub struct Trust {
    pub roots: Arc<RootCertStore>,
    themselves: Vec<CertificateDer<'static>>,
}

/// Checks what clients show.
#[derive(Debug)]
pub struct OfClients {
    trust: Trust,
    known: Arc<dyn ClientCertVerifier>,
}

/// Checks what servers show.
#[derive(Debug)]
pub struct OfServers {
    trust: Trust,
    known: Arc<WebPkiServerVerifier>,
}

impl Trust {
    /// Reads PEM; what else an old bundle holds than certificates that can be used is passed over.
    ///
    /// # Errors
    /// There is nothing that could be trusted.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        let themselves = super::tls::certificates(pem).map_err(|error| format!("whom to trust is not told: {error}"))?;
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(themselves.iter().cloned()).0 == 0 {
            return Err("whom to trust is not told: no certificate can be used".to_owned());
        }
        Ok(Self { roots: Arc::new(roots), themselves })
    }

    pub fn of_clients(self, known: Arc<dyn ClientCertVerifier>) -> OfClients {
        OfClients { trust: self, known }
    }

    pub fn of_servers(self, known: Arc<WebPkiServerVerifier>) -> OfServers {
        OfServers { trust: self, known }
    }

    /// Whether a certificate that nobody trusted signed is trusted itself. Its dates were checked before its issuer was looked for.
    fn holds(&self, certificate: &CertificateDer<'_>, error: &Error) -> bool {
        // The latter says, among others, that it could sign certificates, as those do that sign themselves.
        let unsigned = matches!(error, Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)));
        unsigned && self.themselves.iter().any(|trusted| trusted == certificate)
    }
}

/// What both traits have in common: signatures are checked as without further trust.
macro_rules! signatures_as_known {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.known.verify_tls12_signature(message, certificate, signed)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.known.verify_tls13_signature(message, certificate, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.known.supported_verify_schemes()
        }
    };
}

impl ClientCertVerifier for OfClients {
    fn offer_client_auth(&self) -> bool {
        self.known.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.known.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.known.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.known.verify_client_cert(certificate, between, now) {
            Err(error) if self.trust.holds(certificate, &error) => Ok(ClientCertVerified::assertion()),
            checked => checked,
        }
    }

    signatures_as_known!();
}

impl ServerCertVerifier for OfServers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.known.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(error) if self.trust.holds(certificate, &error) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    signatures_as_known!();
}
