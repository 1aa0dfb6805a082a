//! What a cluster is made of, and where its metadata are.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::clock::Library;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    pub racks: usize,
    pub nodes_per_rack: usize,
    pub disks: usize,
    /// As in the configuration: `4+2`.
    pub scheme: String,
    /// Where the metadata is.
    pub metadata: Metadata,
    /// How long deleted bytes are kept; short in tests that wait for them to go.
    pub reclaim_grace: String,
    pub scrub_interval: String,
    /// What repair may read and write on each node in a second; None: as much as a node does that is told nothing.
    pub repair_rate: Option<String>,
    /// What each node may have resident.
    pub memory: String,
    /// What the run makes besides, where it may.
    pub lab: Outfit,
}

/// What of a laboratory a cluster is given. This process must have entered namespaces of its own for it.
#[derive(Clone, Debug, Default)]
pub struct Outfit {
    /// Each process has an address and a cable of its own.
    pub network: bool,
    /// Each disk, and the metadata, is a file system of its own, of so many bytes.
    pub disk_bytes: Option<u64>,
    /// Each process has a clock of its own.
    pub clocks: Option<Library>,
    /// What runs until it is upgraded.
    pub before: Option<PathBuf>,
}

impl Spec {
    /// Six nodes with two disks each, in six racks, two of which 4+2 may lose.
    pub fn six_racks(metadata: Metadata) -> Self {
        Self { racks: 6, scheme: "4+2".into(), metadata, ..Self::small() }
    }

    /// Three nodes in three racks: the least that keeps every object when any node dies.
    pub fn small() -> Self {
        Self {
            racks: 3,
            nodes_per_rack: 1,
            disks: 2,
            scheme: "2+1".into(),
            metadata: Metadata::Remote,
            reclaim_grace: "1 h".into(),
            scrub_interval: "1 h".into(),
            repair_rate: None,
            memory: "128 MiB".into(),
            lab: Outfit::default(),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Metadata {
    /// One `cairn meta`, which is part of the cluster.
    Remote,
    /// In the store of the one node that there is; its disks are the failure domains.
    Embedded,
    /// A FoundationDB that runs already; the binary must have the `fdb` feature. Each cluster has a prefix of its own.
    Fdb { cluster_file: PathBuf, prefix: String },
}

/// Forgets what a cluster wrote to a FoundationDB that outlives it.
pub(super) struct Leftovers {
    cli: PathBuf,
    cluster_file: PathBuf,
    prefix: String,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        // The last byte of the prefix is a slash, and the next one is a zero.
        let end = format!("{}0", self.prefix.trim_end_matches('/'));
        let commands = format!("writemode on; clearrange {} {end}", self.prefix);
        let mut command = Command::new(&self.cli);
        command.arg("-C").arg(&self.cluster_file).args(["--timeout", "10", "--exec", &commands]);
        if !command.output().is_ok_and(|output| output.status.success()) {
            eprintln!("what was written below {} was left in FoundationDB", self.prefix);
        }
    }
}

impl Metadata {
    /// In the FoundationDB of a cluster file, apart from whatever else is there.
    pub fn fdb(cluster_file: &Path) -> Self {
        Self::Fdb { cluster_file: cluster_file.into(), prefix: format!("cairn-chaos/{:016x}/", rand::random::<u64>()) }
    }

    /// If there is an `fdbcli`, beside the server of the environment or on the path.
    pub(super) fn leftovers(&self) -> Option<Leftovers> {
        let Self::Fdb { cluster_file, prefix } = self else { return None };
        let beside = std::env::var_os("CAIRN_FDB_SERVER").map(|server| Path::new(&server).with_file_name("fdbcli"));
        let cli = beside.unwrap_or_else(|| "fdbcli".into());
        Some(Leftovers { cli, cluster_file: cluster_file.clone(), prefix: prefix.clone() })
    }
}
