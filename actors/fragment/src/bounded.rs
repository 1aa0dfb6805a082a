//! The promise that every call ends by its deadline, kept in one place.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_schema::ids::{DiskId, FragmentName, GroupId};

use super::{
    cluster::{Fragments, TransportError},
    fragment::{DiskStatus, FragmentInfo, NewFragment},
    name_digest::{BlobRange, NameDigest},
    turn::{Priority, Terms},
};

/// An implementation that keeps its promise is given this long after the deadline to say what went wrong.
const GRACE: Duration = Duration::from_millis(100);

/// Fragments whose every call ends by its deadline, or a tenth of a second later, whatever the implementation does. Who
/// holds one needs no timer of its own. Cheap to clone.
#[derive(Clone)]
pub struct Bounded {
    fragments: Arc<dyn Fragments>,
    priority: Priority,
}

impl Bounded {
    /// Calls for clients.
    pub fn new(fragments: Arc<dyn Fragments>) -> Self {
        Self { fragments, priority: Priority::Client }
    }

    /// The same fragments, called with another priority.
    pub fn with_priority(&self, priority: Priority) -> Self {
        Self { fragments: self.fragments.clone(), priority }
    }

    pub fn priority(&self) -> Priority {
        self.priority
    }

    fn terms(&self, deadline: Instant) -> Terms {
        Terms { deadline, priority: self.priority }
    }

    async fn by<T>(
        disk: DiskId,
        deadline: Instant,
        call: impl Future<Output = Result<T, TransportError>>,
    ) -> Result<T, TransportError> {
        match tokio::time::timeout_at((deadline + GRACE).into(), call).await {
            Ok(done) => done,
            Err(_) => Err(TransportError::Overdue(disk)),
        }
    }

    /// Returns when the fragment is durable on that disk.
    pub async fn put(&self, disk: DiskId, fragment: NewFragment, deadline: Instant) -> Result<(), TransportError> {
        Self::by(disk, deadline, self.fragments.put(disk, fragment, self.terms(deadline))).await
    }

    /// Verified bytes of exactly `range`.
    pub async fn get(
        &self,
        disk: DiskId,
        name: FragmentName,
        range: Range<u32>,
        deadline: Instant,
    ) -> Result<Bytes, TransportError> {
        Self::by(disk, deadline, self.fragments.get(disk, name, range, self.terms(deadline))).await
    }

    /// Those of the fragments that are there are deleted, durably; how many.
    pub async fn delete(
        &self,
        disk: DiskId,
        names: Vec<FragmentName>,
        deadline: Instant,
    ) -> Result<u64, TransportError> {
        Self::by(disk, deadline, self.fragments.delete(disk, names, self.terms(deadline))).await
    }

    /// In order of name.
    pub async fn list(
        &self,
        disk: DiskId,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
        deadline: Instant,
    ) -> Result<Vec<FragmentInfo>, TransportError> {
        Self::by(disk, deadline, self.fragments.list(disk, group, after, limit, self.terms(deadline))).await
    }

    /// Of each part of a range, the digest of the fragments that the disk has in one position of a group.
    pub async fn digests(
        &self,
        disk: DiskId,
        group: GroupId,
        position: u8,
        range: BlobRange,
        deadline: Instant,
    ) -> Result<Vec<NameDigest>, TransportError> {
        Self::by(disk, deadline, self.fragments.digests(disk, group, position, range, self.terms(deadline))).await
    }

    /// Has the disk read the whole fragment and compare it with its checksums.
    pub async fn verify(
        &self,
        disk: DiskId,
        name: FragmentName,
        deadline: Instant,
    ) -> Result<FragmentInfo, TransportError> {
        Self::by(disk, deadline, self.fragments.verify(disk, name, self.terms(deadline))).await
    }

    pub async fn disk_status(&self, disk: DiskId, deadline: Instant) -> Result<DiskStatus, TransportError> {
        Self::by(disk, deadline, self.fragments.disk_status(disk, self.terms(deadline))).await
    }
}

#[cfg(test)]
#[path = "bounded_tests.rs"]
mod tests;
