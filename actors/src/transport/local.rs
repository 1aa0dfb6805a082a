//! Disks of this node, as the transport calls them.

use std::{collections::HashMap, ops::Range, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use cairn_schema::ids::{DiskId, FragmentName, GroupId};

use crate::{
    disk::DiskHandle,
    fragment::{DiskError, DiskStatus, FragmentInfo, NewFragment},
};

/// A disk of this node: [`DiskHandle`], or its twin in memory for tests.
#[async_trait]
pub trait LocalDisk: Send + Sync + 'static {
    async fn put(&self, fragment: NewFragment) -> Result<(), DiskError>;
    async fn get(&self, name: FragmentName, range: Range<u32>) -> Result<Bytes, DiskError>;
    async fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError>;
    async fn delete(&self, names: Vec<FragmentName>) -> Result<u64, DiskError>;
    async fn list(
        &self,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
    ) -> Result<Vec<FragmentInfo>, DiskError>;
    async fn verify(&self, name: FragmentName) -> Result<FragmentInfo, DiskError>;
    fn status(&self) -> DiskStatus;
}

#[async_trait]
impl LocalDisk for DiskHandle {
    async fn put(&self, fragment: NewFragment) -> Result<(), DiskError> {
        DiskHandle::put(self, fragment).await
    }
    async fn get(&self, name: FragmentName, range: Range<u32>) -> Result<Bytes, DiskError> {
        DiskHandle::get(self, name, range).await
    }
    async fn info(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        DiskHandle::info(self, name).await
    }
    async fn delete(&self, names: Vec<FragmentName>) -> Result<u64, DiskError> {
        DiskHandle::delete(self, names).await
    }
    async fn list(
        &self,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
    ) -> Result<Vec<FragmentInfo>, DiskError> {
        DiskHandle::list(self, group, after, limit).await
    }
    async fn verify(&self, name: FragmentName) -> Result<FragmentInfo, DiskError> {
        DiskHandle::verify(self, name).await
    }
    fn status(&self) -> DiskStatus {
        DiskHandle::status(self)
    }
}

/// The disks of this node, which may come and go. Cheap to clone; all clones see the same disks.
#[derive(Clone, Default)]
pub struct LocalDisks {
    disks: Arc<ArcSwap<HashMap<DiskId, Arc<dyn LocalDisk>>>>,
}

impl LocalDisks {
    pub fn new(disks: impl IntoIterator<Item = (DiskId, Arc<dyn LocalDisk>)>) -> Self {
        Self { disks: Arc::new(ArcSwap::from_pointee(disks.into_iter().collect())) }
    }

    /// The usual ones.
    pub fn of_handles(handles: &[DiskHandle]) -> Self {
        Self::new(handles.iter().map(|disk| (disk.id(), Arc::new(disk.clone()) as Arc<dyn LocalDisk>)))
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
