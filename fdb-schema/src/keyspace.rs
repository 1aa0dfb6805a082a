//! Every key of the store, in one table. The first byte names the row's kind.
//!
//! | Byte | Key | Value |
//! |---|---|---|
//! | 01 | | the cluster |
//! | 01 | `01` | [`ClusterPolicy`](crate::record::ClusterPolicy) |
//! | 01 | `02` | [`ClusterRates`](crate::record::ClusterRates) |
//! | 01 | `03` | [`ClusterMaintenance`](crate::record::ClusterMaintenance) |
//! | 02 | bucket | [`Bucket`](crate::record::Bucket) |
//! | 03 | bucket, `00`, document | the document's bytes, or their length ([`document`](crate::record::document)) |
//! | 03 | bucket, `00`, document, chunk | bytes of a long document |
//! | 04 | bucket, `00`, stripe, field | counter: [`Usage`](crate::record::Usage) is the sum over the stripes |
//! | 05 | bucket, `00`, key | [`HeadRow`] |
//! | 06 | bucket, `00`, key escaped, `00 01`, version row | [`VersionRow`] |
//! | 07 | bucket, `00`, key escaped, `00 01`, upload | [`Upload`](crate::record::Upload) |
//! | 08 | upload, part number | [`PartRow`] |
//! | 09 | blob | [`Blob`](crate::record::Blob) |
//! | 0a | blob | counter: references to the blob beyond the first |
//! | 0b | upload | counter: references to the list of parts beyond the first |
//! | 0c | group, blob | [`GroupBlobRow`]: the blob has stripes in the group |
//! | 0d | queue bucket, queued ms, kind, blob or upload | [`ReclaimRow`] |
//! | 0e | group, blob, stripe, position | [`LedgerRow`] |
//! | 0f | stripe | counter: the ledger's length is the sum over the stripes |
//! | 10 | node | [`Node`](crate::record::Node) |
//! | 11 | disk | [`Disk`](crate::record::Disk) |
//! | 12 | group | [`Group`](crate::record::Group) |
//! | 13 | | the revision of nodes, disks, groups, the policy, the rates and maintenance |
//! | 14 | | the next group's id |
//! | 15 | name | [`Lease`](crate::record::Lease) |
//! | 16 | access key | [`AccessKey`](crate::record::AccessKey) |
//! | 17 | shard, minute, attempt | [`AttemptRow`] |
//! | 18 | upload | [`CompletedRow`] |
//! | 19 | shard, completed ms, upload | empty: when to forget the row above |
//! | 1a | | 16 random bytes that name the import that is not finished |
//! | 1b | name | 16 random bytes: what a process of that name wrote last to see that the store takes commits |
//! | 1c | | empty: the rows below have counted since there were blobs |
//! | 1c | group | counter: stripes of all blobs in the group |
//! | 1e | group | [`GroupRepair`](crate::record::GroupRepair): what the group's new members lack |
//! | 1f | user | [`User`](crate::record::User) |
//! | 20 | user group | [`UserGroup`](crate::record::UserGroup) |
//! | 21 | policy | [`AccessPolicy`](crate::record::AccessPolicy) |
//! | 22 | kind, policy or user group, `00`, user or user group | empty: whom it is attached to, or has as a member |
//! | 28 | job | [`Job`](crate::record::Job) |
//! | 29 | group | [`GroupMove`](crate::record::GroupMove): members that are being moved to other disks |
//! | 2a | group, blob | empty: committed in the group since it is being moved |
//! | 30 | target, `00`, [`EventPlace`](crate::record::EventPlace) | [`Event`](crate::record::Event) that waits |
//! | 31 | target, `00`, [`EventPlace`](crate::record::EventPlace) | [`DeadEvent`](crate::record::DeadEvent) |
//! | 32 | field, bucket or target | counter of events |
//! | 33 | | the second in which the store was filled from another; 0 for none |
//!
//! Numbers are big-endian, so that they sort. Counters are the little-endian integers of
//! [`crate::kv::Transaction::add`]. Object keys are arbitrary UTF-8 and sort by their bytes: at the end of a key they
//! stand as they are; before something else, a zero byte is escaped as `00 ff` and the end is `00 01`, which sorts
//! below every continuation. Bucket names have no zero byte.
//!
//! [`HeadRow`]: crate::record::rows::HeadRow
//! [`VersionRow`]: crate::record::rows::VersionRow
//! [`PartRow`]: crate::record::rows::PartRow
//! [`ReclaimRow`]: crate::record::rows::ReclaimRow
//! [`GroupBlobRow`]: crate::record::rows::GroupBlobRow
//! [`LedgerRow`]: crate::record::rows::LedgerRow
//! [`AttemptRow`]: crate::record::rows::AttemptRow
//! [`CompletedRow`]: crate::record::rows::CompletedRow

mod access;
mod events;
mod moves;

use bytes::Bytes;

pub use access::*;
pub use events::*;
pub use moves::*;

use crate::{ids::*, kv::prefix_end, record::BucketDocument};

/// Kinds of rows, by the first byte of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    Cluster = 0x01,
    Bucket = 0x02,
    Document = 0x03,
    Usage = 0x04,
    Head = 0x05,
    Version = 0x06,
    Upload = 0x07,
    Part = 0x08,
    Blob = 0x09,
    BlobExtra = 0x0a,
    ListExtra = 0x0b,
    GroupBlob = 0x0c,
    Reclaim = 0x0d,
    Ledger = 0x0e,
    LedgerCount = 0x0f,
    Node = 0x10,
    Disk = 0x11,
    Group = 0x12,
    PlacementRevision = 0x13,
    NextGroup = 0x14,
    Lease = 0x15,
    AccessKey = 0x16,
    Attempt = 0x17,
    Completed = 0x18,
    CompletedTime = 0x19,
    /// Not a row of the metadata: there while an import is under way.
    Importing = 0x1a,
    /// Not rows of the metadata: they tell nothing but that they could be written.
    Proof = 0x1b,
    /// No rows of the metadata either: they follow from the blobs.
    GroupStripes = 0x1c,
    /// Blobs that were never committed and must not be any more. Not part of an export: nobody writes to a store while
    /// it is imported.
    Condemned = 0x1d,
    /// Part of the ledger: what stands for many fragments at once.
    GroupRepair = 0x1e,
    User = 0x1f,
    UserGroup = 0x20,
    AccessPolicy = 0x21,
    AccessLink = 0x22,
    Job = 0x28,
    GroupMove = 0x29,
    MoveTail = 0x2a,
    Event = 0x30,
    DeadEvent = 0x31,
    EventCount = 0x32,
    /// Not a row of the metadata: it tells events of one store from those of the store before.
    EventEra = 0x33,
}

impl Space {
    const ALL: [Self; 41] = [
        Self::Cluster,
        Self::Bucket,
        Self::Document,
        Self::Usage,
        Self::Head,
        Self::Version,
        Self::Upload,
        Self::Part,
        Self::Blob,
        Self::BlobExtra,
        Self::ListExtra,
        Self::GroupBlob,
        Self::Reclaim,
        Self::Ledger,
        Self::LedgerCount,
        Self::Node,
        Self::Disk,
        Self::Group,
        Self::PlacementRevision,
        Self::NextGroup,
        Self::Lease,
        Self::AccessKey,
        Self::Attempt,
        Self::Completed,
        Self::CompletedTime,
        Self::Importing,
        Self::Proof,
        Self::GroupStripes,
        Self::Condemned,
        Self::GroupRepair,
        Self::User,
        Self::UserGroup,
        Self::AccessPolicy,
        Self::AccessLink,
        Self::Job,
        Self::GroupMove,
        Self::MoveTail,
        Self::Event,
        Self::DeadEvent,
        Self::EventCount,
        Self::EventEra,
    ];

    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|space| *space as u8 == byte)
    }
}

/// All rows that are the metadata, as ranges in order: import and export work on these.
pub const METADATA: [(&[u8], &[u8]); 2] = [
    (&[Space::Cluster as u8], &[Space::CompletedTime as u8 + 1]),
    (&[Space::GroupRepair as u8], &[Space::EventCount as u8 + 1]),
];

/// Counters that every commit touches are spread over so many rows.
pub const USAGE_STRIPES: u8 = 8;
/// Shards of the attempts, so that those of one minute do not all go to one place.
pub const ATTEMPT_SHARDS: u8 = 16;
/// Buckets of the reclaim queue, so that deletes do not all write to one place.
pub const RECLAIM_BUCKETS: u8 = 16;

const DIVIDER: u8 = 0x00;
const ESCAPED: u8 = 0xff;
const END: u8 = 0x01;

struct Key(Vec<u8>);

impl Key {
    fn of(space: Space) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(space as u8);
        Self(bytes)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// A bucket's name and what divides it from the rest.
    fn bucket(self, name: &str) -> Self {
        self.raw(name.as_bytes()).byte(DIVIDER)
    }

    fn escaped(mut self, key: &str) -> Self {
        for &byte in key.as_bytes() {
            self.0.push(byte);
            if byte == DIVIDER {
                self.0.push(ESCAPED);
            }
        }
        self
    }

    fn terminated(self, key: &str) -> Self {
        self.escaped(key).byte(DIVIDER).byte(END)
    }

    fn done(self) -> Bytes {
        self.0.into()
    }
}

/// All rows of a kind: begin and end.
pub fn space(space: Space) -> (Bytes, Bytes) {
    let begin = Key::of(space).done();
    let end = prefix_end(&begin);
    (begin, end)
}

pub fn cluster() -> Bytes {
    Key::of(Space::Cluster).done()
}

/// After the key of [`cluster`], which older programs take for the first of all.
pub fn policy() -> Bytes {
    Key::of(Space::Cluster).byte(1).done()
}

pub fn rates() -> Bytes {
    Key::of(Space::Cluster).byte(2).done()
}

pub fn maintenance() -> Bytes {
    Key::of(Space::Cluster).byte(3).done()
}

pub fn bucket(name: &str) -> Bytes {
    Key::of(Space::Bucket).raw(name.as_bytes()).done()
}

pub fn bucket_name(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(1..)?).ok()
}

pub fn documents(bucket: &str) -> Bytes {
    Key::of(Space::Document).bucket(bucket).done()
}

/// All rows of a document start with this, which is also the key of its first.
pub fn document(bucket: &str, document: BucketDocument) -> Bytes {
    let number = match document {
        BucketDocument::Policy => 1,
        BucketDocument::Cors => 2,
        BucketDocument::Lifecycle => 3,
        BucketDocument::Tags => 4,
        BucketDocument::Encryption => 5,
        BucketDocument::Notification => 6,
        BucketDocument::Website => 7,
        BucketDocument::Logging => 8,
        BucketDocument::Acl => 9,
        BucketDocument::ObjectLock => 10,
        BucketDocument::PublicAccessBlock => 11,
        BucketDocument::OwnershipControls => 12,
    };
    Key::of(Space::Document).bucket(bucket).byte(number).done()
}

/// The rows of a document that is too long for one: from 1, after the key of [`document`].
pub fn document_chunk(bucket: &str, document: BucketDocument, chunk: u16) -> Bytes {
    Key(self::document(bucket, document).into()).raw(&chunk.to_be_bytes()).done()
}

/// Whether a key among the documents is that of a chunk.
pub fn is_document_chunk(key: &[u8]) -> bool {
    let name = key.iter().skip(1).position(|byte| *byte == DIVIDER);
    name.is_some_and(|name| key.len() == 1 + name + 1 + 1 + 2)
}

/// What a usage counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UsageField {
    Objects = 1,
    Bytes = 2,
}

pub fn usages(bucket: &str) -> Bytes {
    Key::of(Space::Usage).bucket(bucket).done()
}

pub fn usage(bucket: &str, stripe: u8, field: UsageField) -> Bytes {
    Key::of(Space::Usage).bucket(bucket).byte(stripe % USAGE_STRIPES).byte(field as u8).done()
}

/// Heads of the keys that start with `key_prefix` all start with this.
pub fn heads(bucket: &str, key_prefix: &str) -> Bytes {
    Key::of(Space::Head).bucket(bucket).raw(key_prefix.as_bytes()).done()
}

pub fn head(bucket: &str, key: &str) -> Bytes {
    heads(bucket, key)
}

/// The bucket of a key that begins with one, after its kind.
pub fn bucket_of(key: &[u8]) -> Option<&str> {
    let name = key.get(1..)?.split(|byte| *byte == DIVIDER).next()?;
    std::str::from_utf8(name).ok()
}

/// The object key of a head's key.
pub fn head_object_key<'a>(bucket: &str, key: &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(key.get(bucket.len() + 2..)?).ok()
}

/// Version rows of the object keys that start with `key_prefix` all start with this.
pub fn versions_prefix(bucket: &str, key_prefix: &str) -> Bytes {
    Key::of(Space::Version).bucket(bucket).escaped(key_prefix).done()
}

/// Rows of one object key, newest first.
pub fn versions(bucket: &str, key: &str) -> Bytes {
    Key::of(Space::Version).bucket(bucket).terminated(key).done()
}

pub fn version(bucket: &str, key: &str, row: VersionId) -> Bytes {
    Key::of(Space::Version).bucket(bucket).terminated(key).raw(&row.0).done()
}

pub fn uploads_prefix(bucket: &str, key_prefix: &str) -> Bytes {
    Key::of(Space::Upload).bucket(bucket).escaped(key_prefix).done()
}

pub fn uploads(bucket: &str, key: &str) -> Bytes {
    Key::of(Space::Upload).bucket(bucket).terminated(key).done()
}

pub fn upload(bucket: &str, key: &str, id: UploadId) -> Bytes {
    Key::of(Space::Upload).bucket(bucket).terminated(key).raw(&id.0).done()
}

/// The object key and the 16 bytes after it, of a version's or an upload's key.
pub fn split_keyed(bucket: &str, key: &[u8]) -> Option<(String, [u8; 16])> {
    let rest = key.get(bucket.len() + 2..)?;
    let (escaped, id) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
    let escaped = escaped.strip_suffix(&[DIVIDER, END])?;
    let mut object = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        object.push(byte);
        if byte == DIVIDER && bytes.next() != Some(&ESCAPED) {
            return None;
        }
    }
    Some((String::from_utf8(object).ok()?, id.try_into().ok()?))
}

pub fn parts(list: UploadId) -> Bytes {
    Key::of(Space::Part).raw(&list.0).done()
}

pub fn part(list: UploadId, number: u16) -> Bytes {
    Key::of(Space::Part).raw(&list.0).raw(&number.to_be_bytes()).done()
}

pub fn blob(id: BlobId) -> Bytes {
    Key::of(Space::Blob).raw(&id.0).done()
}

pub fn blob_extra(id: BlobId) -> Bytes {
    Key::of(Space::BlobExtra).raw(&id.0).done()
}

pub fn list_extra(list: UploadId) -> Bytes {
    Key::of(Space::ListExtra).raw(&list.0).done()
}

pub fn group_blobs(group: GroupId) -> Bytes {
    Key::of(Space::GroupBlob).raw(&group.0.to_be_bytes()).done()
}

pub fn group_blob(group: GroupId, blob: BlobId) -> Bytes {
    Key::of(Space::GroupBlob).raw(&group.0.to_be_bytes()).raw(&blob.0).done()
}

/// The blob of the key of a group's blob.
pub fn group_blob_id(key: &[u8]) -> Option<BlobId> {
    Some(BlobId(key.get(5..)?.try_into().ok()?))
}

/// What the id in a reclaim key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReclaimKind {
    Blob = 1,
    List = 2,
}

/// The bucket of the reclaim queue that an id belongs to.
pub fn reclaim_bucket(id: &[u8; 16]) -> u8 {
    id[0] % RECLAIM_BUCKETS
}

/// Everything in a bucket of the queue that was queued before a time.
pub fn reclaims_before(bucket: u8, before_ms: u64) -> (Bytes, Bytes) {
    let begin = Key::of(Space::Reclaim).byte(bucket).done();
    let end = Key::of(Space::Reclaim).byte(bucket).raw(&before_ms.to_be_bytes()).done();
    (begin, end)
}

pub fn reclaim(kind: ReclaimKind, queued_ms: u64, id: [u8; 16]) -> Bytes {
    Key::of(Space::Reclaim).byte(reclaim_bucket(&id)).raw(&queued_ms.to_be_bytes()).byte(kind as u8).raw(&id).done()
}

/// When it was queued, and what, of a reclaim key.
pub fn split_reclaim(key: &[u8]) -> Option<(u64, ReclaimKind, [u8; 16])> {
    let queued_ms = u64::from_be_bytes(key.get(2..10)?.try_into().ok()?);
    let kind = match key.get(10)? {
        1 => ReclaimKind::Blob,
        2 => ReclaimKind::List,
        _ => return None,
    };
    Some((queued_ms, kind, key.get(11..)?.try_into().ok()?))
}

pub fn ledger(name: FragmentName) -> Bytes {
    Key::of(Space::Ledger)
        .raw(&name.group.0.to_be_bytes())
        .raw(&name.blob.0)
        .raw(&name.stripe.to_be_bytes())
        .byte(name.position)
        .done()
}

/// The ledger's rows of one group.
pub fn ledger_group(group: GroupId) -> Bytes {
    Key::of(Space::Ledger).raw(&group.0.to_be_bytes()).done()
}

/// The ledger's rows of one blob in one group.
pub fn ledger_blob(group: GroupId, blob: BlobId) -> Bytes {
    Key::of(Space::Ledger).raw(&group.0.to_be_bytes()).raw(&blob.0).done()
}

pub fn ledger_fragment(key: &[u8]) -> Option<FragmentName> {
    Some(FragmentName {
        group: GroupId(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?)),
        blob: BlobId(key.get(5..21)?.try_into().ok()?),
        stripe: u32::from_be_bytes(key.get(21..25)?.try_into().ok()?),
        position: *key.get(25)?,
    })
}

pub fn ledger_count(stripe: u8) -> Bytes {
    Key::of(Space::LedgerCount).byte(stripe % USAGE_STRIPES).done()
}

pub fn node(id: &NodeId) -> Bytes {
    Key::of(Space::Node).raw(id.as_str().as_bytes()).done()
}

pub fn disk(id: DiskId) -> Bytes {
    Key::of(Space::Disk).raw(&id.0).done()
}

pub fn group(id: GroupId) -> Bytes {
    Key::of(Space::Group).raw(&id.0.to_be_bytes()).done()
}

pub fn group_repair(id: GroupId) -> Bytes {
    Key::of(Space::GroupRepair).raw(&id.0.to_be_bytes()).done()
}

/// There in a store whose counters of [`group_stripes`] are true: one that older programs wrote to has none, or false
/// ones.
pub fn stripes_are_counted() -> Bytes {
    Key::of(Space::GroupStripes).done()
}

pub fn group_stripes(id: GroupId) -> Bytes {
    Key::of(Space::GroupStripes).raw(&id.0.to_be_bytes()).done()
}

/// The group of a counter of stripes; None of the row that says that they are counted.
pub fn group_of_stripes(key: &[u8]) -> Option<GroupId> {
    Some(GroupId(u32::from_be_bytes(key.get(1..)?.try_into().ok()?)))
}

pub fn placement_revision() -> Bytes {
    Key::of(Space::PlacementRevision).done()
}

pub fn next_group() -> Bytes {
    Key::of(Space::NextGroup).done()
}

pub fn importing() -> Bytes {
    Key::of(Space::Importing).done()
}

pub fn proof(name: &str) -> Bytes {
    Key::of(Space::Proof).raw(name.as_bytes()).done()
}

pub fn lease(name: &str) -> Bytes {
    Key::of(Space::Lease).raw(name.as_bytes()).done()
}

/// An attempt's id has the minute of its birth after its first byte (see [`AttemptId::random`]): those of a shard sort
/// by age.
pub fn attempt(id: AttemptId) -> Bytes {
    Key::of(Space::Attempt).byte(id.0[0] % ATTEMPT_SHARDS).raw(&id.0[1..]).byte(id.0[0]).done()
}

/// The attempts of a shard that were made before a minute.
pub fn attempts_before(shard: u8, minute: u32) -> (Bytes, Bytes) {
    let begin = Key::of(Space::Attempt).byte(shard).done();
    let end = Key::of(Space::Attempt).byte(shard).raw(&minute.to_be_bytes()).done();
    (begin, end)
}

pub fn condemned(blob: BlobId) -> Bytes {
    Key::of(Space::Condemned).raw(&blob.0).done()
}

/// The blob of a key of the condemned.
pub fn condemned_blob(key: &[u8]) -> Option<BlobId> {
    Some(BlobId(key.get(1..)?.try_into().ok()?))
}

/// The minute of its birth, of an attempt's key.
pub fn attempt_minute(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(2..6)?.try_into().ok()?))
}

pub fn completed(upload: UploadId) -> Bytes {
    Key::of(Space::Completed).raw(&upload.0).done()
}

pub fn completed_time(completed_ms: u64, upload: UploadId) -> Bytes {
    let shard = upload.0[0] % ATTEMPT_SHARDS;
    Key::of(Space::CompletedTime).byte(shard).raw(&completed_ms.to_be_bytes()).raw(&upload.0).done()
}

pub fn completed_before(shard: u8, before_ms: u64) -> (Bytes, Bytes) {
    let begin = Key::of(Space::CompletedTime).byte(shard).done();
    let end = Key::of(Space::CompletedTime).byte(shard).raw(&before_ms.to_be_bytes()).done();
    (begin, end)
}

pub fn completed_time_upload(key: &[u8]) -> Option<UploadId> {
    Some(UploadId(key.get(10..)?.try_into().ok()?))
}
