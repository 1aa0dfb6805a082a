//! TLS for clients.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use crate::options::{GatewayError, NamedCertificate};

/// The certificate that clients are shown, which may be renewed while they come. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<RwLock<Arc<CertifiedKey>>>);

/// Certificates that are chosen by name, and names of one (BND-1).
const MOST_CERTIFICATES: usize = 256;
const MOST_NAMES: usize = 256;

impl Certificate {
    /// Of a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// They are none, or do not belong together.
    pub fn read(cert_pem: &str, key_pem: &str) -> Result<Self, GatewayError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(certified(cert_pem, key_pem)?)))))
    }

    /// Shows another from now on. Connections there are go on with theirs.
    ///
    /// # Errors
    /// It cannot be used: then the one before stays.
    pub fn renew(&self, cert_pem: &str, key_pem: &str) -> Result<(), GatewayError> {
        let renewed = Arc::new(certified(cert_pem, key_pem)?);
        *self.0.write() = renewed;
        Ok(())
    }
}

/// The certificates that clients are shown, by the names that they ask for (SNI, RFC 6066). Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Certificates(Arc<ByName>);

#[derive(Debug)]
struct ByName {
    /// In the order of the options; the first for whoever asks for no name, or for another.
    all: Vec<Certificate>,
    /// In lower case; those of wildcards without their `*`.
    exact: HashMap<String, usize>,
    wild: HashMap<String, usize>,
}

impl Certificates {
    /// # Errors
    /// Of texts that are no certificates, and names that are none or stand twice.
    pub(crate) fn read(default: &(String, String), named: &[NamedCertificate]) -> Result<Self, GatewayError> {
        let mut all = vec![Certificate::read(&default.0, &default.1)?];
        let (mut exact, mut wild) = (HashMap::new(), HashMap::new());
        if named.len() > MOST_CERTIFICATES {
            return Err(failed("certificates", &format!("there are {}, and may be {MOST_CERTIFICATES}", named.len())));
        }
        for NamedCertificate { names, pem } in named {
            let what = format!("certificate for {}", names.join(", "));
            if names.is_empty() || names.len() > MOST_NAMES {
                return Err(failed("certificate", &format!("want 1 to {MOST_NAMES} names that it is for")));
            }
            let read = Certificate::read(&pem.0, &pem.1);
            all.push(read.map_err(|error| failed(&what, &error.reason()))?);
            for name in names {
                let lower = name.to_ascii_lowercase();
                let (names, name) = match lower.strip_prefix("*.") {
                    Some(rest) => (&mut wild, rest),
                    None => (&mut exact, lower.as_str()),
                };
                if !matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_))) || name.ends_with('.') {
                    return Err(failed(&what, &format!("{name:?} is no name of a host")));
                }
                if names.insert(name.to_owned(), all.len() - 1).is_some() {
                    return Err(failed(&what, &format!("{lower} is another's already")));
                }
            }
        }
        Ok(Self(Arc::new(ByName { all, exact, wild })))
    }

    /// In the order of the options, the default one first.
    pub(crate) fn all(&self) -> Vec<Certificate> {
        self.0.all.clone()
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

impl ByName {
    fn of(&self, name: Option<&str>) -> Option<&Certificate> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let wild = || self.wild.get(name.split_once('.')?.1);
        self.all.get(self.exact.get(&name).or_else(wild).copied().unwrap_or_default())
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.of(hello.server_name()).map(|certificate| certificate.0.read().clone())
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

    #[test]
    fn names_are_of_hosts_and_stand_once() {
        let pem = || {
            let made = rcgen::generate_simple_self_signed(vec!["x".into()])
                .map(|made| (made.cert.pem(), made.signing_key.serialize_pem()));
            made.unwrap_or_default()
        };
        let read = |names: &[&[&str]]| {
            let named = names.iter().map(|names| {
                let names = names.iter().map(|name| (*name).to_owned()).collect();
                NamedCertificate { names, pem: pem() }
            });
            Certificates::read(&pem(), &named.collect::<Vec<_>>()).map_err(|error| error.to_string())
        };
        let place = |certificates: &Certificates, name: Option<&str>| {
            let found = certificates.0.of(name).map(|found| Arc::as_ptr(&found.0));
            certificates.all().iter().position(|one| Some(Arc::as_ptr(&one.0)) == found)
        };
        let made = read(&[&["S3.example.org", "*.s3.example.org"], &["one.s3.example.org"]]);
        let made = made.unwrap_or_else(|why| panic!("{why}"));
        for (name, expected) in [
            (None, 0),
            (Some("s3.example.org"), 1),
            (Some("bucket.S3.example.org"), 1),
            (Some("one.s3.example.org"), 2),
            (Some("a.b.s3.example.org"), 0),
            (Some(".s3.example.org"), 1),
            (Some("example.org"), 0),
            (Some(""), 0),
        ] {
            assert_eq!(place(&made, name), Some(expected), "{name:?}");
        }
        let wrong = |names: &[&[&str]], why: &str| {
            assert!(read(names).is_err_and(|error| error.contains(why)), "{names:?}: {why}");
        };
        wrong(&[&[]], "names that it is for");
        wrong(&[&["a", "A"]], "a is another's already");
        wrong(&[&["*.a"], &["*.a"]], "another's already");
        for name in ["", "*", "*.", "a b", "a.*.b", "127.0.0.1", "a."] {
            wrong(&[&[name]], "no name of a host");
        }
    }
}
