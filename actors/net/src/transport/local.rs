//! The disks of this node, as the transport calls them.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use cairn_fragment::LocalDisk;
use cairn_schema::ids::DiskId;

/// The disks of this node, which may come and go. Cheap to clone; all clones see the same disks.
#[derive(Clone, Default)]
pub struct LocalDisks {
    disks: Arc<ArcSwap<HashMap<DiskId, Arc<dyn LocalDisk>>>>,
}

impl LocalDisks {
    pub fn new(disks: impl IntoIterator<Item = (DiskId, Arc<dyn LocalDisk>)>) -> Self {
        Self { disks: Arc::new(ArcSwap::from_pointee(disks.into_iter().collect())) }
    }

    pub fn get(&self, id: DiskId) -> Option<Arc<dyn LocalDisk>> {
        self.disks.load().get(&id).cloned()
    }

    pub fn ids(&self) -> Vec<DiskId> {
        self.disks.load().keys().copied().collect()
    }

    pub fn insert(&self, id: DiskId, disk: Arc<dyn LocalDisk>) {
        self.disks.rcu(|disks| {
            let mut disks = HashMap::clone(disks);
            disks.insert(id, disk.clone());
            disks
        });
    }

    pub fn remove(&self, id: DiskId) {
        self.disks.rcu(|disks| {
            let mut disks = HashMap::clone(disks);
            disks.remove(&id);
            disks
        });
    }
}
