//! Blobs that are not what was written, and of which deep scrub cannot say why: for the status, as long as they exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cairn_schema::ids::{BlobId, DiskId};
use parking_lot::Mutex;

/// Those that the scrubs of this node's disks know; all clones are one.
#[derive(Clone, Default)]
pub struct Inconsistent(Arc<Mutex<BTreeMap<DiskId, BTreeSet<BlobId>>>>);

impl Inconsistent {
    /// What the scrub of one disk knows.
    pub(super) fn set(&self, disk: DiskId, blobs: &BTreeSet<BlobId>) {
        self.0.lock().insert(disk, blobs.clone());
    }

    /// Of all disks, in order.
    pub fn all(&self) -> BTreeSet<BlobId> {
        self.0.lock().values().flatten().copied().collect()
    }
}
