//! `[s3]`: what clients are served, and how.

use std::{net::SocketAddr, path::PathBuf};

use cairn_gateway::Network;
use serde::Deserialize;

use super::{EncryptionSection, EventsSection, Findings, WebIdentitySection};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3Section {
    pub listen: SocketAddr,
    #[serde(default = "default_region")]
    pub region: String,
    /// The root access key; `CAIRN_ROOT_ACCESS_KEY` overrides it.
    pub access_key: Option<String>,
    /// A file whose first line is the root secret key; `CAIRN_ROOT_SECRET_KEY` overrides it.
    pub secret_key_file: Option<PathBuf>,
    /// A file with 64 hexadecimal digits, the same on all nodes: by it secrets of users are encrypted. Without it there
    /// are no users.
    pub secrets_key_file: Option<PathBuf>,
    #[serde(default)]
    pub encryption: EncryptionSection,
    #[serde(default)]
    pub events: EventsSection,
    #[serde(default)]
    pub web_identity: Vec<WebIdentitySection>,
    /// Certificate chain and key for https, PEM; both or neither.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// Others, for clients that ask for their names.
    #[serde(default)]
    pub certificates: Vec<CertificateSection>,
    /// Addresses and networks of balancers that say by the PROXY protocol whom they speak for.
    #[serde(default)]
    pub proxy_protocol_from: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateSection {
    pub names: Vec<String>,
    pub cert: PathBuf,
    pub key: PathBuf,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

impl S3Section {
    /// Those that are none have been told of.
    pub(crate) fn balancers(&self) -> Vec<Network> {
        self.proxy_protocol_from.iter().filter_map(|text| text.parse().ok()).collect()
    }

    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        self.encryption.check(findings);
        self.events.check(findings);
        if !self.web_identity.is_empty() && self.secrets_key_file.is_none() {
            let what = "needs s3.secrets_key_file: temporary credentials come of that key";
            findings.refuse("s3.web_identity", what, "name the file of secrets, the same on all nodes");
        }
        if self.region.is_empty() {
            findings.refuse("s3.region", "is empty", "leave it out for us-east-1");
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let field = if self.tls_cert.is_some() { "s3.tls_cert" } else { "s3.tls_key" };
            findings.refuse(field, "stands alone", "https needs both s3.tls_cert and s3.tls_key");
        }
        if self.tls_cert.is_none() && !self.certificates.is_empty() {
            let fix = "name s3.tls_cert and s3.tls_key for clients that ask for no name, or for another";
            findings.refuse("s3.certificates", "stand without a default certificate", fix);
        }
        for (index, text) in self.proxy_protocol_from.iter().enumerate() {
            if let Err(error) = text.parse::<Network>() {
                let field = format!("s3.proxy_protocol_from[{index}]");
                findings.refuse(&field, format!("{text:?} is no network"), error.to_string());
            }
        }
        if self.access_key.as_deref().is_some_and(str::is_empty) {
            findings.refuse("s3.access_key", "is empty", "name a key, or leave it to CAIRN_ROOT_ACCESS_KEY");
        }
    }
}
