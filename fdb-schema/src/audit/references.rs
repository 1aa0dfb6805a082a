//! References against their counts, the reclaim queue, the rows of groups' blobs and the ledger.

use std::collections::{BTreeMap, HashMap};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    Audit, Problem,
    source::{Scan, Source},
};
use crate::{
    codec::{Stored, corrupt},
    error::Result,
    ids::{BlobId, GroupId, UploadId},
    keyspace::{self, ReclaimKind, Space},
    kv::{Row, counter},
    record::{
        Blob, Upload,
        rows::{PartList, PartRow, VersionRow},
    },
};

#[derive(Default)]
struct BlobCount {
    exists: bool,
    references: i64,
    extra: i64,
    queued: i64,
}

#[derive(Default)]
struct ListCount {
    /// Versions, or the upload under way.
    owners: i64,
    /// The parts that a version has in it; an upload may have any number.
    wanted: Option<i64>,
    parts: i64,
    extra: i64,
    queued: i64,
}

#[derive(Default)]
struct StripeCount {
    held: i64,
    counted: i64,
}

/// One pass: of all blobs and lists, those whose ids fall to it.
pub(super) struct References {
    pass: u64,
    passes: u64,
    blobs: HashMap<BlobId, BlobCount>,
    lists: HashMap<UploadId, ListCount>,
    /// Sums of hashes, equal whatever the order of the rows.
    groups_of_blobs: u64,
    group_rows: u64,
    stripes: BTreeMap<GroupId, StripeCount>,
    /// Whether the store is one that counts stripes.
    stripes_are_counted: bool,
    ledger_rows: i64,
    ledger_counted: i64,
}

/// What holds rows that refer, and what is referred to, in the order in which they are read.
const SPACES: [Space; 11] = [
    Space::Version,
    Space::Upload,
    Space::Part,
    Space::Blob,
    Space::BlobExtra,
    Space::ListExtra,
    Space::GroupBlob,
    Space::GroupStripes,
    Space::Reclaim,
    Space::Ledger,
    Space::LedgerCount,
];

fn id_of(key: &[u8]) -> Option<[u8; 16]> {
    key.get(1..17)?.try_into().ok()
}

fn group_row(group: GroupId, blob: BlobId) -> u64 {
    xxh3_64(&keyspace::group_blob(group, blob))
}

impl References {
    /// `under_repair` fragments are in the ledger by the rows of groups' repairs.
    pub(super) fn new(pass: u64, passes: u64, under_repair: i64) -> Self {
        Self {
            pass,
            passes,
            blobs: HashMap::new(),
            lists: HashMap::new(),
            groups_of_blobs: 0,
            group_rows: 0,
            stripes: BTreeMap::new(),
            stripes_are_counted: false,
            ledger_rows: under_repair,
            ledger_counted: 0,
        }
    }

    pub(super) async fn audit(mut self, source: &mut Source<'_>, audit: &mut Audit) -> Result<()> {
        for space in SPACES {
            let mut scan = Scan::of(space);
            while let Some(rows) = source.next(&mut scan).await? {
                for row in &rows {
                    let taken = self.take(space, row, audit);
                    if let Some(None) = audit.readable(taken) {
                        audit.report(Problem::Unreadable(corrupt("row", &row.0, &"its key is not one of its kind")));
                    }
                }
            }
        }
        self.judge(audit);
        Ok(())
    }

    fn is_mine(&self, id: &[u8; 16]) -> bool {
        // Ids are random.
        let mut number = [0; 8];
        number.copy_from_slice(&id[8..]);
        u64::from_be_bytes(number) % self.passes == self.pass
    }

    fn blob(&mut self, id: BlobId) -> Option<&mut BlobCount> {
        self.is_mine(&id.0).then(|| self.blobs.entry(id).or_default())
    }

    fn list(&mut self, id: UploadId) -> Option<&mut ListCount> {
        self.is_mine(&id.0).then(|| self.lists.entry(id).or_default())
    }

    fn refer(&mut self, part: &PartRow) {
        for id in part.references() {
            if let Some(blob) = self.blob(id) {
                blob.references += 1;
            }
        }
    }

    /// None for a key that is not of its space.
    fn take(&mut self, space: Space, (key, value): &Row, audit: &mut Audit) -> Result<Option<()>> {
        match space {
            Space::Version => match VersionRow::read(key, value)?.parts {
                PartList::Inline(parts) => parts.iter().for_each(|part| self.refer(part)),
                PartList::Listed { list, runs } => {
                    if let Some(list) = self.list(list) {
                        list.owners += 1;
                        list.wanted = Some(runs.iter().map(|run| i64::from(run.count)).sum());
                    }
                }
            },
            Space::Upload => {
                let upload = Upload::read(key, value)?;
                if let Some(list) = self.list(upload.id) {
                    list.owners += 1;
                }
            }
            Space::Part => {
                self.refer(&PartRow::read(key, value)?);
                let Some(id) = id_of(key) else { return Ok(None) };
                if let Some(list) = self.list(UploadId(id)) {
                    list.parts += 1;
                }
            }
            Space::Blob => {
                let blob = Blob::read(key, value)?;
                for (group, stripes) in blob.stripes_by_group() {
                    self.groups_of_blobs = self.groups_of_blobs.wrapping_add(group_row(group, blob.id));
                    self.stripes.entry(group).or_default().held += i64::try_from(stripes).unwrap_or(i64::MAX);
                }
                if let Some(blob) = self.blob(blob.id) {
                    blob.exists = true;
                }
            }
            Space::BlobExtra => {
                let Some(id) = id_of(key) else { return Ok(None) };
                if let Some(blob) = self.blob(BlobId(id)) {
                    blob.extra = counter(Some(value));
                }
            }
            Space::ListExtra => {
                let Some(id) = id_of(key) else { return Ok(None) };
                if let Some(list) = self.list(UploadId(id)) {
                    list.extra = counter(Some(value));
                }
            }
            Space::GroupBlob => self.group_rows = self.group_rows.wrapping_add(xxh3_64(key)),
            Space::GroupStripes if *key == keyspace::stripes_are_counted() => self.stripes_are_counted = true,
            Space::GroupStripes => {
                let Some(group) = keyspace::group_of_stripes(key) else { return Ok(None) };
                self.stripes.entry(group).or_default().counted = counter(Some(value));
            }
            Space::Reclaim => return Ok(self.take_queued(key)),
            Space::Ledger => return Ok(self.take_ledger(key, audit)),
            Space::LedgerCount => {
                self.ledger_counted = self.ledger_counted.wrapping_add(counter(Some(value)));
            }
            _ => {}
        }
        Ok(Some(()))
    }

    fn take_queued(&mut self, key: &[u8]) -> Option<()> {
        match keyspace::split_reclaim(key)? {
            (_, ReclaimKind::Blob, id) => {
                if let Some(blob) = self.blob(BlobId(id)) {
                    blob.queued += 1;
                }
            }
            (_, ReclaimKind::List, id) => {
                if let Some(list) = self.list(UploadId(id)) {
                    list.queued += 1;
                }
            }
        }
        Some(())
    }

    fn take_ledger(&mut self, key: &[u8], audit: &mut Audit) -> Option<()> {
        let id = keyspace::ledger_fragment(key)?.blob;
        self.ledger_rows += 1;
        if self.is_mine(&id.0) && !self.blobs.get(&id).is_some_and(|blob| blob.exists) {
            audit.report(Problem::LedgerBlob(id));
        }
        Some(())
    }

    fn judge(self, audit: &mut Audit) {
        for (blob, BlobCount { exists, references, extra, queued }) in self.blobs {
            // GC-1: nothing that is referenced is queued. GC-2: what is not, is.
            let right = match references {
                0 => exists && extra == 0 && queued == 1,
                _ => exists && extra == references - 1 && queued == 0,
            };
            if !right {
                audit.report(Problem::Blob { blob, exists, references, extra, queued });
            }
        }
        for (list, ListCount { owners, wanted, parts, extra, queued }) in self.lists {
            let right = match owners {
                0 => extra == 0 && queued == i64::from(parts > 0 || queued > 0),
                _ => extra == owners - 1 && queued == 0 && wanted.is_none_or(|wanted| wanted == parts),
            };
            if !right {
                audit.report(Problem::List { list, parts, owners, extra, queued });
            }
        }
        // The same in each pass.
        if self.pass == 0 && self.groups_of_blobs != self.group_rows {
            audit.report(Problem::GroupBlobs);
        }
        if self.pass == 0 && self.stripes_are_counted {
            for (group, StripeCount { held, counted }) in
                self.stripes.into_iter().filter(|(_, count)| count.held != count.counted)
            {
                audit.report(Problem::GroupStripes { group, stripes: held, counted });
            }
        }
        if self.pass == 0 && self.ledger_rows != self.ledger_counted {
            audit.report(Problem::Ledger { rows: self.ledger_rows, counted: self.ledger_counted });
        }
    }
}
