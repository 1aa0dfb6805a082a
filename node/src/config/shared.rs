//! Sections that nodes and metadata servers have in common, and their rules.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use cairn_schema::text::Shown;
use clap::ValueEnum;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::Findings;

/// The only format of configuration files so far.
pub(super) const FILE_VERSION: u32 = 1;

/// Mutual TLS between the processes of a cluster: PEM files, as `cairn cert` makes them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl TlsSection {
    pub(crate) fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.ca, &mut self.cert, &mut self.key] {
            *path = folder.join(&*path);
        }
    }
}

/// Metrics, health and status over HTTP; for operators only.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminSection {
    pub listen: SocketAddr,
    /// The admin API asks for no credentials, so listening beyond this machine must be said twice.
    pub allow_remote: bool,
}

impl Default for AdminSection {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9001)), allow_remote: false }
    }
}

impl AdminSection {
    pub(crate) fn check(&self, findings: &mut Findings<'_>) {
        if !self.listen.ip().is_loopback() && !self.allow_remote {
            findings.refuse(
                "admin.listen",
                format!(
                    "{} can be reached from other machines, and the admin API asks for no credentials",
                    self.listen
                ),
                "use 127.0.0.1, or set admin.allow_remote = true if a firewall guards this port",
            );
        }
    }
}

/// Who did what: operators' orders, and S3 requests if they are wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditSection {
    /// A file; lines are appended. It may be moved away while it is written.
    pub path: PathBuf,
    #[serde(default)]
    pub requests: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    pub format: LogFormat,
    /// What to log, such as "info" or "info,cairn_actors=debug"; `CAIRN_LOG` overrides it.
    pub filter: Option<String>,
}

impl LogSection {
    pub(crate) fn check(&self, findings: &mut Findings<'_>) {
        if let Some(filter) = &self.filter
            && let Err(error) = EnvFilter::try_new(filter)
        {
            findings.refuse(
                "log.filter",
                format!("{} is not a log filter: {error}", Shown(filter)),
                "write levels such as \"info\" or \"info,cairn_actors=debug\"",
            );
        }
    }
}

pub(super) fn check_version(version: u32, findings: &mut Findings<'_>) {
    if version != FILE_VERSION {
        findings.refuse(
            "version",
            format!("this build knows configuration files of version {FILE_VERSION}, not {version}"),
            format!("set version = {FILE_VERSION}, or use the build the file was written for"),
        );
    }
}

/// An address that peers dial: it is told to them as it stands.
pub(super) fn check_dialled(field: &str, address: SocketAddr, findings: &mut Findings<'_>) {
    if address.ip().is_unspecified() {
        findings.refuse(
            field,
            format!("{address} cannot be dialled by other nodes"),
            "name the address of the interface that the other nodes reach, such as 10.0.0.11:7400",
        );
    }
}

/// Two sockets of one protocol cannot have the same address, unless the system picks their ports.
pub(super) fn check_apart([(first, taken), (field, address)]: [(&str, SocketAddr); 2], findings: &mut Findings<'_>) {
    if address == taken && address.port() != 0 {
        findings.refuse(field, format!("{address} is {first} already"), "choose another port");
    }
}

/// Racks and zones are labels in metrics and messages: short and plain.
pub(super) fn check_label(field: &str, text: &str, findings: &mut Findings<'_>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 63 || !text.chars().all(plain) {
        findings.refuse(
            field,
            format!("{} is not a usable name", Shown(text)),
            "use 1 to 63 letters, digits, hyphens, underscores or dots",
        );
    }
}

/// `host:port`, resolved only when it is dialled.
pub(super) fn check_host_port(field: &str, text: &str, findings: &mut Findings<'_>) {
    let good = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
    if !good {
        findings.refuse(field, format!("{} is not host:port", Shown(text)), "write it such as 10.0.0.11:7401");
    }
}
