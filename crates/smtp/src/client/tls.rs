//! Whom we trust, and what a TLS handshake told about the peer.
//!
//! The handshake itself accepts every certificate whose owner can sign with it; whether the certificate verifies is
//! decided right behind it, from the chain the peer presented. That way one configuration with one session cache
//! serves every policy: a session resumed under [`TlsMode::Required`](super::TlsMode::Required) is verified like a
//! new one although it may have begun under `Opportunistic`, and the reason for a failure belongs to its connection.
//! Nothing but the handshake is sent before the verdict.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ByteStream, HostName};

/// Servers whose sessions are remembered for resumption.
const REMEMBERED_SERVERS: usize = 1024;

/// The roots given cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the TLS settings cannot be used")]
pub struct TlsSettingsError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// TLS 1.2 and 1.3 on aws-lc-rs, with a session cache. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct TlsSettings {
    config: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
    time: Arc<WallTime>,
}

impl TlsSettings {
    /// Trusts Mozilla's roots and `extra`; `clock` says whether a certificate has expired.
    pub fn new(
        clock: Arc<dyn Clock>,
        extra: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, TlsSettingsError> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for root in extra {
            roots.add(root).map_err(TlsSettingsError::new)?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let time = Arc::new(WallTime(clock));
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(TlsSettingsError::new)?;
        Ok(Self {
            config: Arc::new(client_config(provider, Arc::clone(&time))?),
            verifier,
            time,
        })
    }

    /// Runs the handshake with `peer` on `stream`, then verifies.
    pub(crate) async fn connect(
        &self,
        peer: &HostName,
        stream: Box<dyn ByteStream>,
    ) -> io::Result<(TlsStream<Box<dyn ByteStream>>, TlsDetails)> {
        let name = peer.server_name();
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(name.clone(), stream).await?;
        let details = self.details(&name, stream.get_ref().1);
        Ok((stream, details))
    }

    fn details(&self, name: &ServerName<'_>, session: &rustls::ClientConnection) -> TlsDetails {
        let version = session
            .protocol_version()
            .and_then(|version| version.as_str());
        let cipher = session.negotiated_cipher_suite();
        let cipher = cipher.and_then(|suite| suite.suite().as_str());
        TlsDetails {
            version: version.unwrap_or("unknown"),
            cipher: cipher.unwrap_or("unknown"),
            verification: self.verify(name, session.peer_certificates().unwrap_or_default()),
        }
    }

    fn verify(
        &self,
        name: &ServerName<'_>,
        chain: &[CertificateDer<'_>],
    ) -> Result<(), VerificationFailure> {
        let [own, issuers @ ..] = chain else {
            return Err(VerificationFailure::Other("no certificate".into()));
        };
        let now = self.time.unix();
        self.verifier
            .verify_server_cert(own, issuers, name, &[], now)
            .map(|_: ServerCertVerified| ())
            .map_err(VerificationFailure::from)
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings").finish_non_exhaustive()
    }
}

impl TlsSettingsError {
    fn new(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(source))
    }
}

fn client_config(
    provider: Arc<CryptoProvider>,
    time: Arc<WallTime>,
) -> Result<ClientConfig, TlsSettingsError> {
    let verifier = AnyCertificate(provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .map_err(TlsSettingsError::new)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(REMEMBERED_SERVERS);
    Ok(config)
}

/// What is known of an encrypted session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsDetails {
    /// As IANA names it: "TLSv1_3".
    pub version: &'static str,
    /// As IANA names it: "TLS13_AES_256_GCM_SHA384".
    pub cipher: &'static str,
    /// Whether the certificate verifies for the peer's name, and if not, why.
    pub verification: Result<(), VerificationFailure>,
}

/// Why a certificate does not verify. The variants are those that TLS reports tell apart (RFC 8460 section 4.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerificationFailure {
    /// It has expired, or is not valid yet.
    #[error("the certificate has expired or is not valid yet")]
    Expired,
    /// It is for other names.
    #[error("the certificate is not for this host")]
    NameMismatch,
    /// Nobody we trust has issued it.
    #[error("the certificate's issuer is not trusted")]
    Untrusted,
    /// Anything else.
    #[error("the certificate cannot be used: {0}")]
    Other(String),
}

impl From<rustls::Error> for VerificationFailure {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Self::Expired,
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Self::NameMismatch,
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Self::Untrusted,
            other => Self::Other(other.to_string()),
        }
    }
}

/// The wall time, for rustls.
struct WallTime(Arc<dyn Clock>);

impl WallTime {
    fn unix(&self) -> UnixTime {
        let seconds = u64::try_from(self.0.now().as_second()).unwrap_or(0);
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }
}

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix())
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallTime")
    }
}

/// Checks that the peer owns the certificate it presents, and leaves the rest for later.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _own: &CertificateDer<'_>,
        _issuers: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
