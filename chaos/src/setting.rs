//! What every scenario is given.

use std::path::{Path, PathBuf};

/// What every scenario needs from whoever runs it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The `cairn` binary.
    pub binary: PathBuf,
    /// The folder of the client scripts.
    pub clients: PathBuf,
    /// A Python that has boto3 and the other clients beside it.
    pub python: PathBuf,
    /// Printed first, and enough to run the same again.
    pub seed: u64,
    /// FoundationDB's cluster file, when the metadata shall be there.
    pub fdb: Option<PathBuf>,
}

impl Setting {
    /// Search path on which the clients installed beside the Python come first.
    pub(crate) fn path(&self) -> String {
        let beside = self.python.parent().unwrap_or(Path::new("."));
        format!("{}:{}", beside.display(), std::env::var("PATH").unwrap_or_default())
    }
}
