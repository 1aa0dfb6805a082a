//! The verbs: every rule about metadata, written once over [`crate::kv`], so that the backends cannot differ.

mod access_keys;
mod access_policies;
mod attached;
mod attempts;
mod blobs;
mod buckets;
mod by_policy;
mod cluster;
mod condemn;
mod covered;
mod deletes;
mod documents;
mod events;
mod expire;
mod gc;
mod group_moves;
mod group_repair;
mod jobs;
mod leases;
mod ledger;
mod list;
mod list_uploads;
mod list_versions;
mod locate;
mod locks;
mod maintenance;
mod multipart;
mod named_policies;
mod noted;
mod objects;
mod outbox;
mod placement;
mod policy;
mod rates;
mod rewrap;
pub(crate) mod tx;
mod usage;
mod user_groups;
mod users;
pub(crate) mod version_rows;
mod watched;

pub use access_keys::{AccessKeyChange, ReplacedKey};
pub use blobs::most_absent;
pub use by_policy::POLICY;
pub use events::{MAX_DEAD_EVENTS, MAX_EVENTS_AT_ONCE, MAX_RULE_BYTES};
pub use expire::EndVersion;
pub use multipart::{MAX_PARTS, MAX_REFERENCES, MAX_SLICES};
pub use named_policies::NamedPolicies;
pub use rewrap::{Rewrap, RewrapOf};
pub use user_groups::UserGroupChange;
pub use users::UserChange;

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use crate::{
    error::{MetaError, Result},
    ids::*,
    kv::{
        self, SharedKv,
        embedded::{EmbeddedOptions, JournalError, OpenError},
        remote::MetaTransport,
    },
    record::*,
};

/// The metadata of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    pub(crate) kv: SharedKv,
    pub(crate) clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub(crate) watched: Arc<watched::Watched>,
    deadline: Duration,
    event_limits: (u64, u64),
}

/// How long a verb may take, retries included, unless [`Meta::with_deadline`] says otherwise.
const DEADLINE: Duration = Duration::from_secs(10);

impl Meta {
    /// Over any store.
    pub fn new(kv: SharedKv) -> Self {
        Self {
            kv,
            clock: Arc::new(crate::clock::now_ms),
            watched: Arc::default(),
            deadline: DEADLINE,
            event_limits: (noted::MAX_OF_BUCKET, noted::MAX_OF_TARGET),
        }
    }

    /// Over a new store in memory, for tests.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(kv::mem::kv()))
    }

    /// Over the embedded store in a directory, which is created if needed and must not be open elsewhere. Blocks while
    /// the store recovers.
    pub fn open_embedded(path: &Path) -> Result<Self> {
        Self::open_embedded_with(path, EmbeddedOptions::default())
    }

    /// [`Meta::open_embedded`] within other bounds of memory.
    pub fn open_embedded_with(path: &Path, options: EmbeddedOptions) -> Result<Self> {
        Ok(Self::new(Arc::new(kv::embedded::open(path, options)?)))
    }

    /// With another clock: milliseconds since the Unix epoch.
    pub fn with_clock(self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// With another clock for leases: the time since any moment, which never goes back.
    pub fn with_steady_clock(self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { watched: Arc::new(watched::Watched::by(clock)), ..self }
    }

    /// With another bound on the time of each verb.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// With other bounds on how many events may wait, of a bucket and of a target: the same for all of a store.
    pub fn with_event_limits(self, of_bucket: u64, of_target: u64) -> Self {
        Self { event_limits: (of_bucket, of_target), ..self }
    }

    /// What the clock shows, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    /// Waits until the store has failed for good, as [`kv::Kv::failed`] says, and tells why.
    pub async fn failed(&self) -> String {
        self.kv.failed().await
    }

    /// Over a [`crate::kv::remote::RemoteServer`].
    pub fn remote(transport: Arc<dyn MetaTransport>) -> Self {
        Self::new(Arc::new(kv::remote::kv(transport)))
    }
}

/// What a verb returns. Boxed, so that its transaction is compiled here, once: the body of an `async fn` is compiled in
/// every crate that awaits it, and the transactions are most of this crate. One allocation beside an exchange with a
/// store is nothing.
pub type Verb<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

impl From<OpenError> for MetaError {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::NewerFormat { .. } | OpenError::OlderFormat { .. } | OpenError::NotOurs { .. } => {
                Self::Corrupt { what: "metadata directory", why: error.to_string() }
            }
            OpenError::Journal(JournalError::Damaged { .. } | JournalError::Foreign { .. }) => {
                Self::Corrupt { what: "metadata journal", why: error.to_string() }
            }
            OpenError::Journal(_) | OpenError::Locked(_) | OpenError::Io { .. } | OpenError::Store { .. } => {
                Self::Storage(error.to_string())
            }
        }
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

/// Some of the parts that a version was made of.
#[derive(Clone, Debug)]
pub struct ObjectParts {
    pub version: Version,
    /// Their numbers are their places in the object, from 1, as [`RangeRequest::Part`] counts them.
    pub parts: Vec<UploadedPart>,
    /// Whether there are parts after these.
    pub more: bool,
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
    pub cause: Cause,
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
    /// Whether whoever asks may remove what a retention of mode Governance keeps.
    pub bypass_governance: bool,
    pub origin: Origin,
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
    /// None keeps the source's, but for its lock.
    pub attributes: Option<Attributes>,
    /// How the source's bytes, which the copy shares, are sealed: if they are sealed otherwise by then, it is Stale.
    pub encryption: Option<Encryption>,
    pub owner: String,
    pub precondition: Precondition,
    pub origin: Origin,
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
// A page holds mostly versions: boxing them would spare nothing.
#[allow(clippy::large_enum_variant)]
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
pub struct CopyPart {
    pub attempt: AttemptId,
    pub source: (String, String, VersionSelector),
    /// Bytes of the source; empty for a source of 0 bytes.
    pub range: std::ops::Range<u64>,
    /// What the digests are of: [`Located::slices`] of the range, by name.
    pub slices: Vec<SliceName>,
    pub upload: UploadId,
    pub bucket: String,
    pub key: String,
    pub number: u16,
    pub md5: [u8; 16],
    pub checksum: Option<StoredChecksum>,
}

#[derive(Clone, Debug)]
pub struct CompleteUpload {
    pub attempt: AttemptId,
    pub upload: UploadId,
    pub bucket: String,
    pub key: String,
    pub parts: Vec<CompletedPart>,
    /// The object's checksum as the caller worked it out from the parts' checksums (those in `parts`, which the verb
    /// compares with what was uploaded); kept with the version. The ETag is the verb's own work.
    pub checksum: Option<StoredChecksum>,
    /// 5 MiB; every part but the last must have as many bytes.
    pub min_part_bytes: u64,
    pub precondition: Precondition,
    pub origin: Origin,
}

/// What the cluster is: its identity, written once at its birth, and how data is kept in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    pub id: ClusterId,
    pub created_ms: u64,
    pub policy: ClusterPolicy,
}
