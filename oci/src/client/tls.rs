//! TLS settings: the system's roots, an operator's own CA, and the explicit choice not to verify.
//!
//! One crypto provider (aws-lc-rs), passed explicitly; the process default is not relied on.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Why TLS settings cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of the operator holds no usable certificate.
    #[error("no usable certificate in the CA file: {0}")]
    Ca(String),
    /// The provider refuses the protocol versions.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// The roots that every endpoint starts from.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    plain: Option<Arc<ClientConfig>>,
}

impl Roots {
    /// The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured). A machine without any
    /// is no error here: only a TLS handshake needs them.
    pub fn system() -> Self {
        let loaded = rustls_native_certs::load_native_certs();
        for error in &loaded.errors {
            tracing::warn!(%error, "cannot read a system root certificate");
        }
        let mut store = RootCertStore::empty();
        let (added, ignored) = store.add_parsable_certificates(loaded.certs);
        tracing::debug!(added, ignored, "system root certificates");
        if added == 0 {
            tracing::warn!("no system root certificates; https registries need a `ca` file");
        }
        Self::of(store)
    }

    /// No roots at all: every https endpoint needs its own CA.
    pub fn none() -> Self {
        Self::of(RootCertStore::empty())
    }

    fn of(store: RootCertStore) -> Self {
        let mut roots = Self {
            store: Arc::new(store),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            plain: None,
        };
        // Shared by all endpoints without a CA of their own, with one session cache.
        roots.plain = roots.verifying(None).ok();
        roots
    }

    pub(super) fn verifying(&self, ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, TlsError> {
        let store = match ca_pem {
            None => match &self.plain {
                Some(config) => return Ok(config.clone()),
                None => self.store.clone(),
            },
            Some(pem) => {
                let mut store = (*self.store).clone();
                let before = store.len();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|e| TlsError::Ca(e.to_string()))?;
                    store
                        .add(certificate)
                        .map_err(|e| TlsError::Ca(e.to_string()))?;
                }
                if store.len() == before {
                    return Err(TlsError::Ca("it is empty".into()));
                }
                Arc::new(store)
            }
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Setup(e.to_string()))?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    pub(super) fn unverified(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Setup(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(self.provider.clone())))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What `insecure_skip_verify` means: any certificate, but still one whose key signed the handshake.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
