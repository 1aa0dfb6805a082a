//! Whether a row is one that this program can read.

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    keyspace::{self, Space},
    kv::Row,
    record::{document, rows::*, *},
};

pub(crate) fn row((key, value): &Row) -> Result<()> {
    let unknown = |why: String| MetaError::Corrupt { what: "metadata export", why };
    let space = key.first().and_then(|byte| Space::from_byte(*byte));
    let space = space.ok_or_else(|| unknown(format!("unknown row {}", hex::encode(key))))?;
    match space {
        Space::Cluster if *key == keyspace::cluster() => ClusterRow::read(key, value).map(drop),
        Space::Cluster if *key == keyspace::policy() => ClusterPolicy::read(key, value).map(drop),
        Space::Cluster if *key == keyspace::rates() => ClusterRates::read(key, value).map(drop),
        Space::Cluster if *key == keyspace::maintenance() => ClusterMaintenance::read(key, value).map(drop),
        Space::Cluster => Err(unknown(format!("unknown row {}", hex::encode(key)))),
        Space::Bucket => Bucket::read(key, value).map(drop),
        Space::Head => HeadRow::read(key, value).map(drop),
        Space::Version => VersionRow::read(key, value).map(drop),
        Space::Upload => Upload::read(key, value).map(drop),
        Space::Part => PartRow::read(key, value).map(drop),
        Space::Blob => Blob::read(key, value).map(drop),
        Space::Reclaim => ReclaimRow::read(key, value).map(drop),
        Space::Ledger => LedgerRow::read(key, value).map(drop),
        Space::Node => Node::read(key, value).map(drop),
        Space::Disk => Disk::read(key, value).map(drop),
        Space::Group => Group::read(key, value).map(drop),
        Space::PlacementRevision | Space::NextGroup => u64::read(key, value).map(drop),
        Space::Lease => Lease::read(key, value).map(drop),
        Space::AccessKey => AccessKey::read(key, value).map(drop),
        Space::User => User::read(key, value).map(drop),
        Space::UserGroup => UserGroup::read(key, value).map(drop),
        Space::AccessPolicy => AccessPolicy::read(key, value).map(drop),
        Space::AccessLink if value.is_empty() && keyspace::split_link(key).is_some() => Ok(()),
        Space::Attempt => AttemptRow::read(key, value).map(drop),
        Space::Completed => CompletedRow::read(key, value).map(drop),
        Space::Document if keyspace::is_document_chunk(key) => document::chunk(key, value).map(drop),
        Space::Document => document::First::read(key, value).map(drop),
        Space::Usage | Space::BlobExtra | Space::ListExtra | Space::LedgerCount if value.len() == 8 => Ok(()),
        Space::GroupBlob => GroupBlobRow::noted(key, value).map(drop),
        Space::GroupRepair => GroupRepair::read(key, value).map(drop),
        Space::Job => Job::read(key, value).map(drop),
        Space::GroupMove => GroupMove::read(key, value).map(drop),
        Space::MoveTail if value.is_empty() && keyspace::move_tail_id(key).is_some() => Ok(()),
        Space::Event if keyspace::split_event(key).is_some() => Event::read(key, value).map(drop),
        Space::DeadEvent if keyspace::split_event(key).is_some() => DeadEvent::read(key, value).map(drop),
        Space::EventCount if value.len() == 8 && keyspace::split_event_count(key).is_some() => Ok(()),
        Space::CompletedTime if value.is_empty() => Ok(()),
        Space::Usage
        | Space::BlobExtra
        | Space::ListExtra
        | Space::LedgerCount
        | Space::CompletedTime
        | Space::MoveTail
        | Space::Event
        | Space::DeadEvent
        | Space::EventCount
        | Space::AccessLink => Err(unknown(format!("row {} has {} bytes", hex::encode(key), value.len()))),
        Space::Importing => Err(unknown("the mark of an unfinished import".to_owned())),
        Space::EventEra => Err(unknown("when a store was filled from another".to_owned())),
        Space::Proof => Err(unknown("a proof that a store takes commits".to_owned())),
        Space::Condemned => Err(unknown("a blob that was given up before it was committed".to_owned())),
        Space::GroupStripes => Err(unknown("a counter of stripes, which an import counts itself".to_owned())),
    }
}
