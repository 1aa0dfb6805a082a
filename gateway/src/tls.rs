//! TLS for clients.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use crate::options::GatewayError;

/// The certificate that clients are shown, which may be renewed while they come. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<Shown>);

#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    /// Of a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// They are none, or do not belong together.
    pub fn read(cert_pem: &str, key_pem: &str) -> Result<Self, GatewayError> {
        Ok(Self(Arc::new(Shown(RwLock::new(Arc::new(certified(cert_pem, key_pem)?))))))
    }

    /// Shows another from now on. Connections there are go on with theirs.
    ///
    /// # Errors
    /// It cannot be used: then the one before stays.
    pub fn renew(&self, cert_pem: &str, key_pem: &str) -> Result<(), GatewayError> {
        let renewed = Arc::new(certified(cert_pem, key_pem)?);
        *self.0.0.write() = renewed;
        Ok(())
    }

    /// An acceptor that offers HTTP/2 and HTTP/1.1.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, GatewayError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| failed("protocol versions", &error))?
            .with_no_client_auth()
            .with_cert_resolver(self.0.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certified(cert_pem: &str, key_pem: &str) -> Result<CertifiedKey, GatewayError> {
    let chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed("certificate", &error))?;
    if chain.is_empty() {
        return Err(failed("certificate", &"the PEM text holds none"));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| failed("private key", &error))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| failed("certificate and key", &error))
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::Tls(format!("{what}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_pem_is_a_clear_error() {
        let message = |cert: &str, key: &str| Certificate::read(cert, key).err().map(|error| error.to_string());
        assert!(message("", "").is_some_and(|text| text.contains("certificate")));
        assert!(message("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "").is_some());
    }
}
