//! `cairn admin metadata placement`: where every fragment should be, for whoever wants to compare that with what disks
//! hold.

use cairn_schema::{
    ids::{BlobId, DiskId, GroupId},
    record::{Blob, Disk, Group, GroupState, StripeRun},
};
use serde::Serialize;

use crate::{failure::Failure, metadata::Opened};

/// Where the lines go.
pub(crate) type Print = fn(&str) -> Result<(), Failure>;

const BLOBS_PER_PAGE: usize = 1000;

/// One line of the output.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Disk(Disk),
    Group(GroupLine),
    Blob(BlobLine),
}

#[derive(Serialize)]
struct GroupLine {
    id: GroupId,
    scheme: String,
    /// Fragments that suffice to read a stripe, and those of a stripe that may be lost.
    data: usize,
    parity: usize,
    epoch: u64,
    state: GroupState,
    members: Vec<DiskId>,
}

#[derive(Serialize)]
struct BlobLine {
    id: BlobId,
    scheme: String,
    length: u64,
    stripe_bytes: u32,
    runs: Vec<StripeRun>,
}

/// Prints all of it, a page at a time.
pub(crate) async fn tell(opened: &Opened, print: Print) -> Result<(), Failure> {
    let meta = opened.meta();
    let wrong = |error| opened.failure(error);
    let disks = meta.disks().await.map_err(wrong)?;
    print(&lines(disks.into_iter().map(Line::Disk))?)?;
    let groups = meta.groups().await.map_err(wrong)?;
    print(&lines(groups.iter().map(group_line))?)?;
    for group in groups {
        let mut after = None;
        loop {
            let blobs = meta.group_blobs(group.id, after, BLOBS_PER_PAGE).await.map_err(wrong)?;
            let Some(last) = blobs.last() else { break };
            after = Some(last.id);
            // One of several groups is told with its first.
            let begins_here = |blob: &Blob| blob.runs.first().is_some_and(|run| run.group == group.id);
            print(&lines(blobs.into_iter().filter(begins_here).map(blob_line))?)?;
        }
    }
    Ok(())
}

fn group_line(group: &Group) -> Line {
    Line::Group(GroupLine {
        id: group.id,
        scheme: group.scheme.to_string(),
        data: group.scheme.data(),
        parity: group.scheme.parity(),
        epoch: group.epoch,
        state: group.state,
        members: group.members.clone(),
    })
}

fn blob_line(blob: Blob) -> Line {
    let Blob { id, scheme, length, stripe_bytes, runs, .. } = blob;
    Line::Blob(BlobLine { id, scheme: scheme.to_string(), length, stripe_bytes, runs })
}

fn lines(lines: impl Iterator<Item = Line>) -> Result<String, Failure> {
    let one = |line| serde_json::to_string(&line).map(|text| text + "\n");
    lines.map(one).collect::<Result<_, _>>().map_err(|error| Failure::Encode(error.to_string()))
}
