//! The verbs: every rule about metadata, written once over [`crate::kv`], so that the backends cannot differ.
#![allow(unused_variables)]

use std::{path::Path, sync::Arc};

use crate::{
    error::Result,
    ids::*,
    kv::{self, SharedKv, remote::MetaTransport},
    record::*,
};

/// The metadata of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    kv: SharedKv,
}

impl Meta {
    /// Over any store.
    pub fn new(kv: SharedKv) -> Self {
        Self { kv }
    }

    /// Over a new store in memory, for tests.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(kv::mem::kv()))
    }

    /// Over the embedded store in a directory, which is created if needed and must not be open elsewhere. Blocks while the store
    /// recovers.
    pub fn open_embedded(path: &Path) -> Result<Self> {
        Ok(Self::new(Arc::new(kv::embedded::open(path, kv::embedded::EmbeddedOptions::default())?)))
    }

    /// Over a [`crate::kv::remote::RemoteServer`].
    pub fn remote(transport: Arc<dyn MetaTransport>) -> Self {
        Self::new(Arc::new(kv::remote::kv(transport)))
    }
}

/// What must hold for a change or a read to go ahead, decided inside the transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    pub if_match: Option<EtagMatch>,
    pub if_none_match: Option<EtagMatch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtagMatch {
    /// `*`: any current object.
    Any,
    /// One of these entity tags, without quotes.
    OneOf(Vec<String>),
}

/// Which version of a key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSelector {
    Current,
    Id(VersionId),
}

/// Which of an object's bytes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    All,
    /// First and last byte, inclusive; the last is clamped to the object's end.
    Inclusive(u64, u64),
    From(u64),
    /// The last n bytes; more than the object has means all of it.
    Suffix(u64),
    /// One part of a multipart object, from 1.
    Part(u16),
    /// Only the version, no parts (HEAD).
    Nothing,
}

/// A version and the parts that hold the bytes asked for.
#[derive(Clone, Debug)]
pub struct Located {
    pub version: Version,
    /// The bytes asked for, half open; resolved against `version.size`. Empty for a 0-byte object.
    pub range: std::ops::Range<u64>,
    /// Offset in the object of the first of `parts`.
    pub parts_offset: u64,
    /// Just the parts that overlap `range`, in order.
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub struct CommitObject {
    /// Names this attempt: makes the verb idempotent under an unknown commit.
    pub attempt: AttemptId,
    pub bucket: String,
    pub key: String,
    pub version: NewVersion,
    /// None for a 0-byte object.
    pub blob: Option<NewBlob>,
    pub precondition: Precondition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub version: Version,
    /// Whether the bucket has versioning enabled, so that the id is told to the client.
    pub versioned: bool,
}

#[derive(Clone, Debug)]
pub struct DeleteObject {
    pub attempt: AttemptId,
    pub bucket: String,
    pub key: String,
    pub selector: VersionSelector,
    pub precondition: Precondition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The version removed, or the delete marker made; None when there was nothing and nothing was made.
    pub version: Option<VersionId>,
    /// `version` is a delete marker (made or removed).
    pub delete_marker: bool,
}

#[derive(Clone, Debug)]
pub struct CopyObject {
    pub attempt: AttemptId,
    pub source: (String, String, VersionSelector),
    pub source_precondition: Precondition,
    pub bucket: String,
    pub key: String,
    /// None keeps the source's.
    pub attributes: Option<Attributes>,
    pub owner: String,
    pub precondition: Precondition,
}

#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    pub bucket: String,
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Exclusive: keys (and common prefixes) after this one. A common prefix given here is skipped whole.
    pub after: Option<String>,
    /// 0 to 1000.
    pub limit: usize,
}

#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Keys and common prefixes in one key order.
    pub entries: Vec<ListEntry>,
    /// Where the next page starts (give it as `after`), if there is more.
    pub next: Option<String>,
}

#[derive(Clone, Debug)]
pub enum ListEntry {
    Object(ListedObject),
    CommonPrefix(String),
}

#[derive(Clone, Debug)]
pub struct ListedObject {
    pub key: String,
    pub size: u64,
    pub etag: Etag,
    pub modified_ms: u64,
    pub storage_class: String,
    pub owner: String,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

#[derive(Clone, Debug, Default)]
pub struct ListVersionsQuery {
    pub bucket: String,
    pub prefix: String,
    pub delimiter: Option<String>,
    pub key_marker: Option<String>,
    pub version_marker: Option<VersionId>,
    pub limit: usize,
}

#[derive(Clone, Debug, Default)]
pub struct ListVersionsPage {
    pub entries: Vec<ListVersionsEntry>,
    pub next: Option<(String, Option<VersionId>)>,
}

#[derive(Clone, Debug)]
pub enum ListVersionsEntry {
    Version { key: String, version: Version, latest: bool },
    CommonPrefix(String),
}

#[derive(Clone, Debug, Default)]
pub struct ListUploadsQuery {
    pub bucket: String,
    pub prefix: String,
    pub delimiter: Option<String>,
    pub key_marker: Option<String>,
    pub upload_marker: Option<UploadId>,
    pub limit: usize,
}

#[derive(Clone, Debug, Default)]
pub struct ListUploadsPage {
    pub uploads: Vec<Upload>,
    pub common_prefixes: Vec<String>,
    pub next: Option<(String, Option<UploadId>)>,
}

#[derive(Clone, Debug)]
pub struct PartsPage {
    pub upload: Upload,
    pub parts: Vec<UploadedPart>,
    pub next: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct PutPart {
    pub attempt: AttemptId,
    pub upload: UploadId,
    pub bucket: String,
    pub key: String,
    pub number: u16,
    pub md5: [u8; 16],
    pub checksum: Option<StoredChecksum>,
    pub length: u64,
    pub blob: Option<NewBlob>,
}

#[derive(Clone, Debug)]
pub struct CompleteUpload {
    pub attempt: AttemptId,
    pub upload: UploadId,
    pub bucket: String,
    pub key: String,
    pub parts: Vec<CompletedPart>,
    /// The object's checksum as the caller worked it out from the parts' checksums (those in `parts`, which the verb compares
    /// with what was uploaded); kept with the version. The ETag is the verb's own work.
    pub checksum: Option<StoredChecksum>,
    /// 5 MiB; every part but the last must have as many bytes.
    pub min_part_bytes: u64,
    pub precondition: Precondition,
}

/// What the cluster is, written once at its birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    pub id: ClusterId,
    pub created_ms: u64,
}

impl Meta {
    // -- cluster ------------------------------------------------------------------------------------------------
    /// The cluster's identity; created by the first caller.
    pub async fn cluster(&self) -> Result<ClusterInfo> {
        todo!()
    }
    /// A cheap read of the store, for readiness.
    pub async fn ping(&self) -> Result<()> {
        todo!()
    }

    // -- buckets ------------------------------------------------------------------------------------------------
    /// Err(BucketExists) when the same owner has it, Err(BucketOwnedByOther) otherwise.
    pub async fn create_bucket(&self, bucket: Bucket) -> Result<()> {
        todo!()
    }
    pub async fn bucket(&self, name: &str) -> Result<Bucket> {
        todo!()
    }
    /// Err(BucketNotEmpty) while it has a version, a delete marker or an upload.
    pub async fn delete_bucket(&self, name: &str) -> Result<()> {
        todo!()
    }
    pub async fn list_buckets(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Bucket>> {
        todo!()
    }
    pub async fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<()> {
        todo!()
    }
    pub async fn bucket_document(&self, bucket: &str, document: BucketDocument) -> Result<Option<Vec<u8>>> {
        todo!()
    }
    /// None removes it.
    pub async fn set_bucket_document(
        &self,
        bucket: &str,
        document: BucketDocument,
        body: Option<Vec<u8>>,
    ) -> Result<()> {
        todo!()
    }
    pub async fn usage(&self, bucket: &str) -> Result<Usage> {
        todo!()
    }

    // -- objects ------------------------------------------------------------------------------------------------
    pub async fn commit_object(&self, request: CommitObject) -> Result<Committed> {
        todo!()
    }
    /// A delete marker as the current version gives NoSuchKey; named by id gives IsDeleteMarker.
    pub async fn locate(
        &self,
        bucket: &str,
        key: &str,
        selector: VersionSelector,
        range: RangeRequest,
    ) -> Result<Located> {
        todo!()
    }
    pub async fn delete_object(&self, request: DeleteObject) -> Result<Deleted> {
        todo!()
    }
    /// Each on its own: one may fail without the others. Same order as given. At most 1000.
    pub async fn delete_objects(&self, requests: Vec<DeleteObject>) -> Vec<Result<Deleted>> {
        todo!()
    }
    pub async fn copy_object(&self, request: CopyObject) -> Result<Committed> {
        todo!()
    }
    /// Replaces the tags (or other attributes) of a version in place.
    pub async fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        selector: VersionSelector,
        tags: Vec<(String, String)>,
    ) -> Result<VersionId> {
        todo!()
    }

    // -- listings -----------------------------------------------------------------------------------------------
    pub async fn list_objects(&self, query: &ListQuery) -> Result<ListPage> {
        todo!()
    }
    pub async fn list_versions(&self, query: &ListVersionsQuery) -> Result<ListVersionsPage> {
        todo!()
    }

    // -- multipart ----------------------------------------------------------------------------------------------
    pub async fn create_upload(&self, upload: Upload) -> Result<()> {
        todo!()
    }
    pub async fn upload(&self, bucket: &str, key: &str, id: UploadId) -> Result<Upload> {
        todo!()
    }
    /// A part uploaded again replaces the one before, whose blob is reclaimed.
    pub async fn put_part(&self, request: PutPart) -> Result<UploadedPart> {
        todo!()
    }
    pub async fn list_parts(
        &self,
        bucket: &str,
        key: &str,
        id: UploadId,
        after: u16,
        limit: usize,
    ) -> Result<PartsPage> {
        todo!()
    }
    pub async fn list_uploads(&self, query: &ListUploadsQuery) -> Result<ListUploadsPage> {
        todo!()
    }
    /// One transaction. Repeating it after success answers the same.
    pub async fn complete_upload(&self, request: CompleteUpload) -> Result<Committed> {
        todo!()
    }
    pub async fn abort_upload(&self, bucket: &str, key: &str, id: UploadId) -> Result<()> {
        todo!()
    }

    // -- placement ----------------------------------------------------------------------------------------------
    /// Creates or replaces the node's row.
    pub async fn register_node(&self, node: Node) -> Result<()> {
        todo!()
    }
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        todo!()
    }
    /// Creates the disk as Up, or updates where it is and its capacity, keeping its state.
    pub async fn register_disk(&self, disk: Disk) -> Result<Disk> {
        todo!()
    }
    pub async fn disks(&self) -> Result<Vec<Disk>> {
        todo!()
    }
    /// Changes the state if it still is `from`; Err(Stale) otherwise. Returns the disk as it is now.
    pub async fn set_disk_state(&self, disk: DiskId, from: DiskState, to: DiskState) -> Result<Disk> {
        todo!()
    }
    /// Creates a group with epoch 1 and the next free id. Err(Stale) when a member is not Up.
    pub async fn create_group(&self, scheme: Scheme, members: Vec<DiskId>) -> Result<Group> {
        todo!()
    }
    pub async fn group(&self, id: GroupId) -> Result<Option<Group>> {
        todo!()
    }
    pub async fn groups(&self) -> Result<Vec<Group>> {
        todo!()
    }
    /// Replaces members or state if the epoch still is `epoch`; the new epoch is one more when the members changed.
    pub async fn update_group(
        &self,
        id: GroupId,
        epoch: u64,
        members: Vec<DiskId>,
        state: GroupState,
    ) -> Result<Group> {
        todo!()
    }
    /// A number that grows with every change of nodes, disks or groups: poll it to know when to read them again.
    pub async fn placement_revision(&self) -> Result<u64> {
        todo!()
    }

    // -- ledger -------------------------------------------------------------------------------------------------
    /// Adds rows for fragments found missing; those of blobs that no longer exist are skipped.
    pub async fn ledger_add(&self, entries: &[LedgerEntry]) -> Result<()> {
        todo!()
    }
    /// In order of fragment name.
    pub async fn ledger(&self, after: Option<FragmentName>, limit: usize) -> Result<Vec<LedgerEntry>> {
        todo!()
    }
    pub async fn ledger_len(&self) -> Result<u64> {
        todo!()
    }
    /// Removes a row once its fragment is verified to be durable, if the group's epoch still is `epoch`.
    pub async fn ledger_clear(&self, fragment: FragmentName, epoch: u64) -> Result<()> {
        todo!()
    }

    // -- blobs and reclaim --------------------------------------------------------------------------------------
    /// None for those with no row (never committed, or reclaimed).
    pub async fn blobs(&self, ids: &[BlobId]) -> Result<Vec<Option<Blob>>> {
        todo!()
    }
    /// Blobs with stripes in the group, in id order: what scrub expects to find.
    pub async fn group_blobs(&self, group: GroupId, after: Option<BlobId>, limit: usize) -> Result<Vec<Blob>> {
        todo!()
    }
    /// Blobs queued before `before_ms`, from one of `RECLAIM_BUCKETS` buckets of the queue.
    pub async fn reclaimable(&self, bucket: u8, before_ms: u64, limit: usize) -> Result<Vec<Reclaim>> {
        todo!()
    }
    /// Forgets a blob whose fragments are deleted, with its ledger rows.
    pub async fn reclaimed(&self, reclaim: &Reclaim) -> Result<()> {
        todo!()
    }

    // -- leases -------------------------------------------------------------------------------------------------
    /// Takes or renews; None when another holds it.
    pub async fn lease(&self, name: &str, holder: &str, ttl_ms: u64) -> Result<Option<Lease>> {
        todo!()
    }
    pub async fn release(&self, lease: &Lease) -> Result<()> {
        todo!()
    }

    // -- credentials --------------------------------------------------------------------------------------------
    pub async fn put_credential(&self, credential: Credential) -> Result<()> {
        todo!()
    }
    pub async fn credential(&self, access_key: &str) -> Result<Option<Credential>> {
        todo!()
    }
    pub async fn credentials(&self) -> Result<Vec<Credential>> {
        todo!()
    }
    pub async fn delete_credential(&self, access_key: &str) -> Result<()> {
        todo!()
    }
}

/// Buckets of the reclaim queue, so that deletes do not all write to one place.
pub const RECLAIM_BUCKETS: u8 = 16;
