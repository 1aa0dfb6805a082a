use async_trait::async_trait;

use super::*;

/// Breaks every promise.
struct Never;

#[async_trait]
impl Fragments for Never {
    async fn put(&self, _: DiskId, _: NewFragment, _: Terms) -> Result<(), TransportError> {
        std::future::pending().await
    }
    async fn get(&self, _: DiskId, _: FragmentName, _: Range<u32>, _: Terms) -> Result<Bytes, TransportError> {
        std::future::pending().await
    }
    async fn info(&self, _: DiskId, _: FragmentName, _: Terms) -> Result<FragmentInfo, TransportError> {
        std::future::pending().await
    }
    async fn delete(&self, _: DiskId, _: Vec<FragmentName>, _: Terms) -> Result<u64, TransportError> {
        std::future::pending().await
    }
    async fn list(
        &self,
        _: DiskId,
        _: Option<GroupId>,
        _: Option<FragmentName>,
        _: usize,
        _: Terms,
    ) -> Result<Vec<FragmentInfo>, TransportError> {
        std::future::pending().await
    }
    async fn verify(&self, _: DiskId, _: FragmentName, _: Terms) -> Result<FragmentInfo, TransportError> {
        std::future::pending().await
    }
    async fn disk_status(&self, _: DiskId, _: Terms) -> Result<DiskStatus, TransportError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn bnd_1_every_call_ends_even_if_the_implementation_never_answers() {
    let (bounded, disk) = (Bounded::new(Arc::new(Never)), DiskId([7; 16]));
    let name = FragmentName { group: GroupId(1), blob: cairn_schema::ids::BlobId([1; 16]), stripe: 0, position: 0 };
    let fragment = NewFragment { name, payload: Bytes::new(), block_checksums: Vec::new() };
    let started = Instant::now();
    let deadline = started + Duration::from_millis(50);
    let ends = futures::join!(
        bounded.put(disk, fragment, deadline),
        bounded.get(disk, name, 0..1, deadline),
        bounded.delete(disk, vec![name], deadline),
        bounded.list(disk, None, None, 1, deadline),
        bounded.verify(disk, name, deadline),
        bounded.disk_status(disk, deadline),
    );
    assert!(matches!(ends.0, Err(TransportError::Overdue(overdue)) if overdue == disk));
    assert!(matches!(ends.1, Err(TransportError::Overdue(_))) && matches!(ends.2, Err(TransportError::Overdue(_))));
    assert!(matches!(ends.3, Err(TransportError::Overdue(_))) && matches!(ends.4, Err(TransportError::Overdue(_))));
    assert!(matches!(ends.5, Err(TransportError::Overdue(_))));
    assert!(Instant::now() >= deadline, "none was cut short");
}
