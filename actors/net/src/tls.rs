//! Who a node is, proven by certificates: a cluster's own CA, a certificate per node, mutual TLS 1.3 between them.
//!
//! A node's certificate carries its node id as the first DNS name. The dialler demands that the peer's certificate
//! names the node it meant to reach; the acceptor demands that the peer's certificate comes from the CA and takes the
//! node id from it. Gossip never decides who somebody is.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cairn_schema::{ids::NodeId, text::Shown};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    RootCertStore,
    client::WebPkiServerVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How long a new CA is valid.
pub const CA_VALIDITY: Duration = Duration::from_secs(20 * 365 * 86_400);
/// How long a new node certificate is valid.
pub const NODE_VALIDITY: Duration = Duration::from_secs(5 * 365 * 86_400);
/// New certificates are valid from this long ago, for peers whose clocks are behind.
const CLOCK_SLACK: Duration = Duration::from_secs(86_400);

/// One of the PEM texts that an identity is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pem {
    CaCertificate,
    CaKey,
    NodeCertificate,
    NodeKey,
}

impl std::fmt::Display for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CaCertificate => "the CA's certificate",
            Self::CaKey => "the CA's key",
            Self::NodeCertificate => "the node's certificate",
            Self::NodeKey => "the node's key",
        })
    }
}

/// Why an identity cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    #[error("{what} is not PEM: {why}")]
    Pem { what: Pem, why: String },
    #[error("{what} holds no {item}")]
    Missing { what: Pem, item: &'static str },
    #[error("{what} is not a usable certificate: {why}")]
    Certificate { what: Pem, why: String },
    #[error("the certificate names no node: want a node id as its first DNS name, not {}", Shown(.0))]
    NoNodeId(String),
    #[error("the CA's key does not belong to the CA's certificate")]
    WrongCaKey,
    #[error("the certificate could not be made: {0}")]
    Make(String),
    #[error("the certificate or its key is not usable: {0}")]
    Config(String),
}

/// A node's identity for mutual TLS, PEM. The certificate's DNS name is the node id; peers are those signed by `ca`.
#[derive(Clone)]
pub struct Identity {
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct PemPair {
    pub cert_pem: String,
    pub key_pem: String,
}

/// A new certificate authority for one cluster.
pub fn new_ca(cluster: &str) -> Result<PemPair, TlsError> {
    let key = KeyPair::generate().map_err(make)?;
    let mut params = params(&format!("Cairn {cluster} CA"), CA_VALIDITY);
    // No intermediate CAs: the CA signs nodes only.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key).map_err(make)?;
    Ok(PemPair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

/// A certificate for one node, signed by the CA. `extra_names` are further DNS names or IP addresses for it.
pub fn new_node(ca: &PemPair, node: &NodeId, extra_names: &[String]) -> Result<PemPair, TlsError> {
    let what = Pem::CaKey;
    let ca_key = KeyPair::from_pem(&ca.key_pem).map_err(|error| TlsError::Pem { what, why: error.to_string() })?;
    let ca_der = certificates(Pem::CaCertificate, &ca.cert_pem)?.swap_remove(0);
    check_ca(&ca_der, &ca_key)?;
    let issuer = Issuer::from_ca_cert_der(&ca_der, &ca_key).map_err(make)?;

    let key = KeyPair::generate().map_err(make)?;
    let mut names = vec![node.to_string()];
    names.extend(extra_names.iter().filter(|name| name.as_str() != node.as_str()).cloned());
    let mut params = params(node.as_str(), NODE_VALIDITY);
    params.subject_alt_names = CertificateParams::new(names).map_err(make)?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A node both dials and is dialled.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let cert = params.signed_by(&key, &issuer).map_err(make)?;
    Ok(PemPair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
}

impl Identity {
    /// A node's identity made on the spot from a CA at hand, as a cluster in one process does.
    pub fn issue(ca: &PemPair, node: &NodeId, extra_names: &[String]) -> Result<Self, TlsError> {
        let pair = new_node(ca, node, extra_names)?;
        Ok(Self { ca_pem: ca.cert_pem.clone(), cert_pem: pair.cert_pem, key_pem: pair.key_pem })
    }

    /// The node that this identity's certificate names.
    pub fn node(&self) -> Result<NodeId, TlsError> {
        node_of(&certificates(Pem::NodeCertificate, &self.cert_pem)?[0])
    }
}

/// TLS configuration of both sides, for one protocol name.
pub struct TlsConfigs {
    pub server: rustls::ServerConfig,
    pub client: rustls::ClientConfig,
    /// Who this identity's certificate says we are.
    pub node: NodeId,
}

/// Checks an identity and makes both configurations: TLS 1.3 only, certificates demanded of both sides, no early data.
pub fn configs(identity: &Identity, alpn: &[u8]) -> Result<TlsConfigs, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in certificates(Pem::CaCertificate, &identity.ca_pem)? {
        let what = Pem::CaCertificate;
        roots.add(ca).map_err(|error| TlsError::Certificate { what, why: error.to_string() })?;
    }
    let roots = Arc::new(roots);
    let chain = certificates(Pem::NodeCertificate, &identity.cert_pem)?;
    let node = node_of(&chain[0])?;
    let key = private_key(Pem::NodeKey, &identity.key_pem)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    check_own(&roots, &provider, &chain, &node)?;

    let config = |error: rustls::Error| TlsError::Config(error.to_string());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| TlsError::Config(error.to_string()))?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(config)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(config)?;
    server.alpn_protocols = vec![alpn.to_vec()];
    // Early data can be replayed by anybody who recorded it.
    server.max_early_data_size = 0;

    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(config)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(config)?;
    client.alpn_protocols = vec![alpn.to_vec()];
    client.enable_early_data = false;
    Ok(TlsConfigs { server, client, node })
}

/// The node id in a certificate: its first DNS name.
pub fn node_of(certificate: &CertificateDer<'_>) -> Result<NodeId, TlsError> {
    let what = Pem::NodeCertificate;
    let wrong = |why: String| TlsError::Certificate { what, why };
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| wrong(error.to_string()))?;
    let names = parsed.subject_alternative_name().map_err(|error| wrong(error.to_string()))?;
    let first = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
    });
    let name = first.ok_or_else(|| TlsError::NoNodeId(String::new()))?;
    name.parse().map_err(|_| TlsError::NoNodeId(name.chars().take(64).collect()))
}

/// Refuses at start-up what every peer would refuse later: a certificate of another CA, or out of date.
fn check_own(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    chain: &[CertificateDer<'static>],
    node: &NodeId,
) -> Result<(), TlsError> {
    use rustls::client::danger::ServerCertVerifier;
    let wrong = |why: String| TlsError::Certificate { what: Pem::NodeCertificate, why };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let name = node.to_string().try_into().map_err(|_| TlsError::NoNodeId(node.to_string()))?;
    verifier
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], rustls::pki_types::UnixTime::now())
        .map_err(|error| wrong(format!("not one of this CA: {error}")))?;
    Ok(())
}

fn check_ca(ca: &CertificateDer<'_>, key: &KeyPair) -> Result<(), TlsError> {
    let what = Pem::CaCertificate;
    let (_, parsed) =
        X509Certificate::from_der(ca).map_err(|error| TlsError::Certificate { what, why: error.to_string() })?;
    if !parsed.is_ca() {
        return Err(TlsError::Certificate { what, why: "it is not a CA's".into() });
    }
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(TlsError::WrongCaKey);
    }
    Ok(())
}

/// At least one certificate.
fn certificates(what: Pem, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates.map_err(|error| TlsError::Pem { what, why: error.to_string() })?;
    if certificates.is_empty() { Err(TlsError::Missing { what, item: "certificate" }) } else { Ok(certificates) }
}

fn private_key(what: Pem, pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    use rustls::pki_types::pem::Error;
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| match error {
        Error::NoItemsFound => TlsError::Missing { what, item: "private key" },
        other => TlsError::Pem { what, why: other.to_string() },
    })
}

fn params(common_name: &str, validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch.saturating_sub(CLOCK_SLACK);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch + validity;
    params
}

fn make(error: rcgen::Error) -> TlsError {
    TlsError::Make(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn an_issued_identity_names_its_node_and_is_usable() {
        let ca = new_ca("test").unwrap();
        let identity = Identity::issue(&ca, &node("rack1-a"), &["127.0.0.1".into(), "host.example".into()]).unwrap();
        assert_eq!(identity.node().unwrap(), node("rack1-a"));
        let configs = configs(&identity, b"x").unwrap();
        assert_eq!(configs.node, node("rack1-a"));
        assert_eq!(configs.server.max_early_data_size, 0);
    }

    #[test]
    fn what_is_wrong_with_an_identity_is_said_at_once() {
        let (ca, other) = (new_ca("one").unwrap(), new_ca("two").unwrap());
        let good = Identity::issue(&ca, &node("a"), &[]).unwrap();
        let error = |identity: Identity| configs(&identity, b"x").err().unwrap();

        let wrong_ca = error(Identity { ca_pem: other.cert_pem.clone(), ..good.clone() });
        assert!(matches!(wrong_ca, TlsError::Certificate { what: Pem::NodeCertificate, .. }), "{wrong_ca}");
        let no_ca = error(Identity { ca_pem: "nothing".into(), ..good.clone() });
        assert_eq!(no_ca, TlsError::Missing { what: Pem::CaCertificate, item: "certificate" });
        let no_key = error(Identity { key_pem: good.cert_pem.clone(), ..good.clone() });
        assert_eq!(no_key, TlsError::Missing { what: Pem::NodeKey, item: "private key" });
        let broken = good.cert_pem.replace("-----END", "!!");
        let broken = error(Identity { cert_pem: broken, ..good.clone() });
        assert!(matches!(broken, TlsError::Pem { .. } | TlsError::Missing { .. }), "{broken}");
        let others_key = Identity::issue(&ca, &node("b"), &[]).unwrap().key_pem;
        assert!(matches!(error(Identity { key_pem: others_key, ..good.clone() }), TlsError::Config(_)));
        let ca_as_node = error(Identity { cert_pem: ca.cert_pem.clone(), ..good });
        assert_eq!(ca_as_node, TlsError::NoNodeId(String::new()));
    }

    #[test]
    fn only_a_ca_with_its_own_key_signs() {
        let (ca, other) = (new_ca("one").unwrap(), new_ca("two").unwrap());
        let mixed = PemPair { cert_pem: ca.cert_pem.clone(), key_pem: other.key_pem };
        assert_eq!(new_node(&mixed, &node("a"), &[]).err().unwrap(), TlsError::WrongCaKey);
        let not_a_ca = new_node(&ca, &node("a"), &[]).unwrap();
        assert!(matches!(new_node(&not_a_ca, &node("b"), &[]), Err(TlsError::Certificate { .. })));
    }
}
