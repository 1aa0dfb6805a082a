//! The rows that count nothing and refer to nothing that is counted: each is one that this program can read.

use xxhash_rust::xxh3::xxh3_64;

use super::{
    Audit, Problem,
    source::{Scan, Source},
};
use crate::{
    codec::Stored,
    error::Result,
    keyspace::{self, Space},
    record::Group,
    transfer::check,
};

const SPACES: [Space; 16] = [
    Space::Cluster,
    Space::Bucket,
    Space::Document,
    Space::Head,
    Space::Node,
    Space::Disk,
    Space::PlacementRevision,
    Space::NextGroup,
    Space::Group,
    Space::Lease,
    Space::Attempt,
    Space::Completed,
    Space::CompletedTime,
    Space::Job,
    Space::GroupMove,
    Space::MoveTail,
];

pub(super) async fn audit(source: &mut Source<'_>, audit: &mut Audit) -> Result<()> {
    let mut next_group = 1;
    // Sums of hashes, equal whatever the order of the rows.
    let (mut completed, mut timed) = (0u64, 0u64);
    for space in SPACES {
        let mut scan = Scan::of(space);
        while let Some(rows) = source.next(&mut scan).await? {
            for row in &rows {
                if audit.readable(check::row(row)).is_none() {
                    continue;
                }
                let (key, value) = row;
                match space {
                    Space::NextGroup => next_group = u64::read(key, value)?,
                    Space::Group => {
                        let id = Group::read(key, value)?.id;
                        if u64::from(id.0) >= next_group {
                            audit.report(Problem::NextGroup(id));
                        }
                    }
                    Space::Completed => completed = completed.wrapping_add(xxh3_64(key)),
                    Space::CompletedTime => {
                        let upload = keyspace::completed_time_upload(key).map(keyspace::completed);
                        timed = timed.wrapping_add(xxh3_64(&upload.unwrap_or_default()));
                    }
                    _ => {}
                }
            }
        }
    }
    if completed != timed {
        audit.report(Problem::Completed);
    }
    Ok(())
}
