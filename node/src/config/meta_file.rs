//! `meta.toml`: the process that serves the embedded metadata store to a lab cluster.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use cairn_schema::ids::NodeId;
use serde::Deserialize;

use super::{
    ConfigFile, Findings, MetaShares, Size,
    shared::{AdminSection, LogSection, TlsSection, check_version},
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetaFile {
    pub version: u32,
    pub meta: MetaSection,
    pub tls: TlsSection,
    #[serde(default)]
    pub admin: AdminSection,
    #[serde(default)]
    pub log: LogSection,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetaSection {
    /// The name in this server's certificate; nodes dial it under this name.
    pub id: NodeId,
    /// Folder of the embedded store.
    pub path: PathBuf,
    /// QUIC.
    pub listen: SocketAddr,
    /// What the whole process may have resident; see [`MetaShares`].
    #[serde(default = "usual_memory")]
    pub memory: Size,
}

fn usual_memory() -> Size {
    Size::mib(256)
}

impl MetaSection {
    /// How the process divides its memory. None: it has too little.
    pub(crate) fn shares(&self) -> Option<MetaShares> {
        MetaShares::divide(self.memory)
    }
}

impl ConfigFile for MetaFile {
    fn check(&self, findings: &mut Findings<'_>) {
        check_version(self.version, findings);
        if self.meta.path.as_os_str().is_empty() {
            findings.refuse("meta.path", "is empty", "name a folder on a disk that is synced and backed up");
        }
        if self.meta.shares().is_none() {
            let least = MetaShares::LEAST;
            findings.refuse(
                "meta.memory",
                format!("{} is too little", self.meta.memory),
                format!("give at least {least}"),
            );
        }
        self.admin.check(findings);
        self.log.check(findings);
    }

    fn resolve(&mut self, folder: &Path) {
        self.tls.resolve(folder);
        self.meta.path = folder.join(&self.meta.path);
    }
}
