//! What all have in common that the gateway calls: whose certificates it believes, and the tokens that it shows.

use std::{fmt::Display, net::IpAddr, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

const TOKEN_MAX_BYTES: u64 = 16 << 10;

/// For TLS with whoever has a certificate by one of these authorities, PEM. Err says what is wrong with them.
pub(crate) fn connector(ca_pem: &str) -> Result<TlsConnector, String> {
    let wrong = |error: &dyn Display| error.to_string();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err("the PEM text holds no certificate".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whether a host is this machine, to which secrets may go in the clear.
pub(crate) fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The first line of a file, which an agent may renew at any time. Err names the file.
pub(crate) async fn token(path: &Path) -> Result<Zeroizing<String>, String> {
    let wrong = |why: &dyn Display| format!("token file {}: {why}", path.display());
    let length = tokio::fs::metadata(path).await.map_err(|error| wrong(&error))?.len();
    if length > TOKEN_MAX_BYTES {
        return Err(wrong(&"it is too long"));
    }
    let text = Zeroizing::new(tokio::fs::read_to_string(path).await.map_err(|error| wrong(&error))?);
    match text.lines().next().unwrap_or_default().trim() {
        "" => Err(wrong(&"its first line is empty")),
        token => Ok(Zeroizing::new(token.to_owned())),
    }
}
