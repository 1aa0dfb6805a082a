//! TLS for clients.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use crate::options::GatewayError;

/// An acceptor for a certificate chain and its key, both PEM, offering HTTP/2 and HTTP/1.1.
pub(crate) fn acceptor(cert_pem: &str, key_pem: &str) -> Result<TlsAcceptor, GatewayError> {
    let failed = |what: &str, why: String| GatewayError::Tls(format!("{what}: {why}"));
    let chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed("certificate", error.to_string()))?;
    if chain.is_empty() {
        return Err(failed("certificate", "the PEM text holds none".into()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| failed("private key", error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("protocol versions", error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| failed("certificate and key", error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_pem_is_a_clear_error() {
        let message = |cert: &str, key: &str| acceptor(cert, key).err().map(|error| error.to_string());
        assert!(message("", "").is_some_and(|text| text.contains("certificate")));
        assert!(message("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "").is_some());
    }
}
