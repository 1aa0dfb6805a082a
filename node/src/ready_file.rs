//! Where a process really listens, for scripts and tests that let it pick free ports.

use std::{io::Write, net::SocketAddr, path::Path};

use serde::Serialize;

use crate::files::{self, FileError};

/// Written to `--ready-file` (and to standard output when logs are JSON) once the process serves.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ready {
    pub version: u32,
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<SocketAddr>,
    pub admin: SocketAddr,
    /// QUIC of the only node, or of the metadata server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quic: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gossip: Option<SocketAddr>,
    pub nodes: Vec<ReadyNode>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReadyNode {
    pub id: String,
    pub quic: SocketAddr,
    pub gossip: SocketAddr,
}

impl Ready {
    pub(crate) const VERSION: u32 = 1;

    pub(crate) fn of_nodes(s3: Option<SocketAddr>, admin: SocketAddr, nodes: Vec<ReadyNode>) -> Self {
        let only = match nodes.as_slice() {
            [node] => Some((node.quic, node.gossip)),
            _ => None,
        };
        Self {
            version: Self::VERSION,
            pid: std::process::id(),
            s3,
            admin,
            quic: only.map(|(quic, _)| quic),
            gossip: only.map(|(_, gossip)| gossip),
            nodes,
        }
    }

    pub(crate) fn of_metadata(quic: SocketAddr, admin: SocketAddr) -> Self {
        Self {
            version: Self::VERSION,
            pid: std::process::id(),
            s3: None,
            admin,
            quic: Some(quic),
            gossip: None,
            nodes: Vec::new(),
        }
    }

    /// Replaces the file, so that a reader sees nothing or all of it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), FileError> {
        let mut text = self.to_json().map_err(|error| FileError::new("encode", path, error))?;
        text.push('\n');
        files::replace(path, text.as_bytes())
    }

    pub(crate) fn print(&self) -> Result<(), FileError> {
        let path = Path::new("standard output");
        let text = self.to_json().map_err(|error| FileError::new("encode", path, error))?;
        writeln!(std::io::stdout(), "{text}").map_err(|error| FileError::new("write", path, error))
    }

    fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}
