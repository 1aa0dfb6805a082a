//! Certificates of the mutual TLS: readable, fitting each other, valid today, and of the one who is configured.

use cairn_actors::{
    runtime::Identity,
    tls::{self, Pem, TlsError},
};
use cairn_schema::ids::NodeId;

use super::look::{read, tls_files};
use crate::config::{Findings, TlsSection};

/// `named` is the field that says whose certificate it must be, and its value.
pub(super) fn check(section: &TlsSection, named: (&str, &NodeId), findings: &mut Findings<'_>) {
    let [ca, cert, key] = tls_files(section).map(|(field, path)| read(field, path, findings));
    let (Some(ca_pem), Some(cert_pem), Some(key_pem)) = (ca, cert, key) else { return };
    let (field, wanted) = named;
    match tls::configs(&Identity { ca_pem, cert_pem, key_pem }, b"check") {
        Ok(configs) if configs.node == *wanted => {}
        Ok(configs) => {
            let what = format!("the certificate is for {}, but {field} is {wanted}", configs.node);
            findings.refuse("tls.cert", what, format!("use the certificate of {wanted}"));
        }
        Err(error) => {
            let fix = "make it anew with `cairn cert`, or correct the path";
            findings.refuse(field_of(&error), error.to_string(), fix);
        }
    }
}

/// Which of the three files an error is about.
fn field_of(error: &TlsError) -> &'static str {
    match error {
        TlsError::Pem { what, .. } | TlsError::Missing { what, .. } | TlsError::Certificate { what, .. } => {
            match what {
                Pem::CaCertificate | Pem::CaKey => "tls.ca",
                Pem::NodeCertificate => "tls.cert",
                Pem::NodeKey => "tls.key",
            }
        }
        TlsError::WrongCaKey => "tls.ca",
        TlsError::Config(_) => "tls.key",
        TlsError::NoNodeId(_) | TlsError::Make(_) => "tls.cert",
    }
}
