//! Whether a row is one that this program can read.

use crate::{
    codec::Stored,
    error::{MetaError, Result},
    keyspace::Space,
    kv::Row,
    record::{rows::*, *},
};

pub fn row((key, value): &Row) -> Result<()> {
    let unknown = |why: String| MetaError::Corrupt { what: "metadata export", why };
    let space = key.first().and_then(|byte| Space::from_byte(*byte));
    let space = space.ok_or_else(|| unknown(format!("unknown row {}", hex::encode(key))))?;
    match space {
        Space::Cluster => ClusterRow::read(value).map(drop),
        Space::Bucket => Bucket::read(value).map(drop),
        Space::Head => HeadRow::read(value).map(drop),
        Space::Version => VersionRow::read(value).map(drop),
        Space::Upload => Upload::read(value).map(drop),
        Space::Part => PartRow::read(value).map(drop),
        Space::Blob => Blob::read(value).map(drop),
        Space::Reclaim => ReclaimRow::read(value).map(drop),
        Space::Ledger => LedgerRow::read(value).map(drop),
        Space::Node => Node::read(value).map(drop),
        Space::Disk => Disk::read(value).map(drop),
        Space::Group => Group::read(value).map(drop),
        Space::PlacementRevision | Space::NextGroup => u64::read(value).map(drop),
        Space::Lease => Lease::read(value).map(drop),
        Space::Credential => Credential::read(value).map(drop),
        Space::Attempt => AttemptRow::read(value).map(drop),
        Space::Completed => CompletedRow::read(value).map(drop),
        Space::Document => match value.first() {
            Some(1) => Ok(()),
            _ => Err(unknown("a bucket document of an unknown format version".to_owned())),
        },
        Space::Usage | Space::BlobExtra | Space::ListExtra | Space::LedgerCount if value.len() == 8 => Ok(()),
        Space::GroupBlob | Space::CompletedTime if value.is_empty() => Ok(()),
        Space::Usage
        | Space::BlobExtra
        | Space::ListExtra
        | Space::LedgerCount
        | Space::GroupBlob
        | Space::CompletedTime => Err(unknown(format!("row {} has {} bytes", hex::encode(key), value.len()))),
        Space::Importing => Err(unknown("the mark of an unfinished import".to_owned())),
    }
}
