//! Makes the index of a disk current: from its last checkpoint and the tail of the log, or from all segments when it
//! cannot be trusted.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde::Serialize;

use cairn_fragment::DiskError;

use super::{
    file::{Io, disk_error},
    format::{Place, RecordBody, RecordHeader, SEGMENT_HEADER_BYTES, UNIT},
    identity::{Identity, refused},
    index::{
        Effect, Index, Position, index_path,
        segments::{Entry, Extent, SegmentState},
        tree::{self, IndexError},
    },
    memory::IndexMemory,
    reader::Record,
    scan::{Found, Gap, HeaderError, Scan, read_segment_header},
    segment::{Files, list_segments},
};

/// What an opening found, for logs and `cairn disk inspect`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecoveryReport {
    /// None: the index was used as it was and only the tail of the log was read.
    pub index_unusable: Option<String>,
    /// There is no index because the disk ended before its first checkpoint: it has only its first segment.
    pub index_not_yet_written: bool,
    pub segments: u64,
    pub segments_scanned: u64,
    pub records_replayed: u64,
    pub fragments: u64,
    /// Regions of segments that are no records: (segment, first byte, byte after the last).
    pub damaged: Vec<(u32, u64, u64)>,
    /// Segment files whose header is unreadable.
    pub unreadable_segments: Vec<u32>,
    /// Segment files that had to be read and could not be in part: what the log says there is not known now.
    pub partly_unreadable: Vec<u32>,
    /// Fragments of the last batch cut short by a crash. They were never acknowledged.
    pub torn: Vec<String>,
    /// Bytes after the last record of the log that are no record.
    pub torn_tail: bool,
    /// Fragments the index knew in segment files that are gone.
    pub lost_with_segments: u64,
}

/// What an opening has to tidy up.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Records of the last batch that a crash cut short: to be made voids.
    pub torn: Vec<(Place, RecordHeader)>,
    /// A segment file whose creation was cut short: to be removed.
    pub empty: Option<u32>,
    /// By segment, records that were found dead and whose pages may not have been given back yet.
    pub dead: HashMap<u32, Vec<Extent>>,
    /// Segments that were scanned: what was read of them may still be only in the page cache.
    pub scanned: Vec<u32>,
}

/// A disk that can be opened: its index is current, and the log goes on where it says.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub index: Index,
    /// The highest segment number there is; 0 if none.
    pub last_segment: u32,
    pub leftovers: Leftovers,
    pub report: RecoveryReport,
}

/// Where the index is kept while the disk is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IndexAt<'a> {
    /// On the disk itself.
    Disk,
    /// In this empty directory elsewhere: nothing on the disk changes.
    Aside(&'a Path),
}

/// The log being read into the index.
struct Replay<'a> {
    io: &'a Io,
    files: &'a Files,
    index: Index,
    /// Changes in memory at which an index that is made anew is written down.
    most_unflushed: u64,
    /// Made from nothing: may be flushed while it grows, because no checkpoint makes anyone believe it.
    anew: bool,
    gaps: Vec<(u32, Gap)>,
    /// Records of the newest batch so far: applied when a newer one proves that it was synced.
    newest: Vec<(Place, RecordHeader)>,
    newest_batch: u64,
    leftovers: Leftovers,
    report: RecoveryReport,
}

/// Reads what is needed of the disk at `dir`. Changes nothing on it but the index, and that only if it is kept there.
pub(crate) fn recover(
    io: &Io,
    dir: &Path,
    identity: &Identity,
    files: &Files,
    at: IndexAt<'_>,
    memory: &IndexMemory,
) -> Result<Recovered, DiskError> {
    let numbers = list_segments(dir)?;
    let mut report = RecoveryReport { segments: numbers.len() as u64, ..RecoveryReport::default() };
    let path = place_index(dir, at);
    let usable = Index::open(&path, identity.disk, memory).and_then(|index| fits(index, &numbers, &mut report));
    let anew = usable.is_err();
    let index = match usable {
        Ok(index) => index,
        Err(why) => {
            report.index_not_yet_written = matches!(why, IndexError::Missing) && numbers.len() <= 1;
            report.index_unusable = Some(why.to_string());
            Index::create(&path, identity.disk, memory).map_err(|error| refused(&path, error.to_string()))?
        }
    };
    let (newest, gaps, leftovers) = (Vec::new(), Vec::new(), Leftovers::default());
    let most_unflushed = memory.unflushed();
    let mut replay =
        Replay { io, files, index, most_unflushed, anew, gaps, newest, newest_batch: 0, leftovers, report };
    let last = numbers.last().copied().unwrap_or(0);
    let tail = replay.index.position();
    for number in numbers {
        let known = replay.index.segments(|segments| segments.contains(number));
        let from = match known {
            true if number < tail.segment => {
                // Only the newest is ever appended to.
                replay.index.change_segments(|segments| segments.seal(number));
                continue;
            }
            true if number == tail.segment => tail.end.max(SEGMENT_HEADER_BYTES),
            _ => SEGMENT_HEADER_BYTES,
        };
        replay.scan(identity, number, known, from, number == last)?;
    }
    replay.finish(tail.next_batch, last)
}

/// The directory of the index; aside, a copy of what is on the disk if that can be had.
fn place_index(dir: &Path, at: IndexAt<'_>) -> PathBuf {
    let home = index_path(dir);
    match at {
        IndexAt::Disk => home,
        IndexAt::Aside(elsewhere) => {
            let path = index_path(elsewhere);
            if let Err(error) = tree::copy(&home, &path) {
                tracing::info!(%error, "the index is made anew from the segments");
            }
            path
        }
    }
}

/// Whether the index knows the segments that are there. It may know some that are gone, if nothing was in them.
fn fits(index: Index, numbers: &[u32], report: &mut RecoveryReport) -> Result<Index, IndexError> {
    let tail = index.position().segment;
    let gone: Vec<(u32, u32)> = index.segments(|segments| {
        let gone = segments.iter().filter(|(number, _)| numbers.binary_search(number).is_err());
        gone.map(|(number, state)| (number, state.fragments)).collect()
    });
    if let Some(unknown) = numbers.iter().find(|number| **number < tail && !index.segments(|s| s.contains(**number))) {
        return Err(IndexError::Segments(format!("it does not know segment {unknown}")));
    }
    let lost: u64 = gone.iter().map(|(_, fragments)| u64::from(*fragments)).sum();
    if lost > 0 {
        report.lost_with_segments = lost;
        let (number, _) = gone.iter().find(|(_, fragments)| *fragments > 0).copied().unwrap_or_default();
        return Err(IndexError::Segments(format!("segment {number} is gone with {lost} fragments")));
    }
    for (number, _) in gone {
        index.forget_segment(number);
    }
    Ok(index)
}

impl Replay<'_> {
    fn scan(&mut self, identity: &Identity, number: u32, known: bool, from: u64, last: bool) -> Result<(), DiskError> {
        let path = self.files.path(number);
        let file = self.files.get(number)?;
        let salt = match (read_segment_header(self.io, &file, &path), self.index.salt(number)) {
            (Ok(Some(header)), _) if header.disk != identity.disk || header.number != number => {
                let why = format!("it is segment {} of disk {}, not of this one", header.number, header.disk);
                return Err(refused(&path, why));
            }
            (Ok(Some(header)), _) => header.salt,
            (Err(HeaderError::Wrong(refusal @ DiskError::Refused { .. })), _) => return Err(refusal),
            (_, Some(salt)) => salt,
            (Ok(None), None) if last => {
                // Its creation was cut short: nothing was ever in it.
                self.leftovers.empty = Some(number);
                return Ok(());
            }
            (Err(HeaderError::Unread(error)), None) => {
                tracing::error!(path = %path.display(), %error, "a segment's header cannot be read now");
                self.report.partly_unreadable.push(number);
                return self.unreadable(number);
            }
            (Ok(None) | Err(HeaderError::Wrong(_)), None) => return self.unreadable(number),
        };
        self.report.segments_scanned += 1;
        self.leftovers.scanned.push(number);
        if !known {
            let state = SegmentState::new(salt, SEGMENT_HEADER_BYTES);
            self.index.change_segments(|segments| segments.insert(number, state));
        }
        let io = self.io;
        let mut failed = None;
        let scanned =
            Scan { io, file: &file, path: &path, number, salt }.run(from, u64::MAX, &mut |found| match found {
                Found::Record { place, header } if failed.is_none() => failed = self.record(place, header).err(),
                Found::Record { .. } => {}
                Found::Gap(gap) => self.gaps.push((number, gap)),
            })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if scanned.unreadable {
            self.report.partly_unreadable.push(number);
        }
        self.index.change_segments(|segments| {
            segments.advance(number, scanned.end);
            // Nothing is appended to a file of which parts cannot be read.
            if !last || scanned.unreadable {
                segments.seal(number);
            }
        });
        Ok(())
    }

    /// Tells the gaps that deletes have left from those that nobody can explain.
    fn explain_gaps(&mut self, last_segment: u32) {
        for dead in self.leftovers.dead.values_mut() {
            dead.sort_unstable();
        }
        for (number, gap) in std::mem::take(&mut self.gaps) {
            // Zeros are no damage: they were given back with whatever died there, or preallocated and never written.
            let dead = self.leftovers.dead.get(&number).map(Vec::as_slice).unwrap_or_default();
            let units = gap.strange.iter().map(|(start, end)| (start / UNIT) as u32..(end / UNIT) as u32);
            let regions: Vec<Extent> = units.flat_map(|units| unexplained(units, dead)).collect();
            let (sealed, accepted) = self.index.segments(|segments| {
                let state = segments.get(number);
                (state.is_some_and(|state| state.sealed), state.map_or(0, |state| state.end))
            });
            for region in regions {
                if gap.last && number == last_segment && !sealed {
                    self.report.torn_tail = true;
                    continue;
                }
                let start = u64::from(region.unit) * UNIT;
                let end = start + u64::from(region.units) * UNIT;
                self.report.damaged.push((number, start, end));
                if end <= accepted {
                    self.index.change_segments(|segments| segments.add_damage(number, region));
                }
            }
        }
    }

    fn unreadable(&mut self, number: u32) -> Result<(), DiskError> {
        let path = self.files.path(number);
        let length = std::fs::metadata(&path).map_err(|error| disk_error("stat segment", &path, error))?.len();
        tracing::error!(path = %path.display(), "a segment's header is unreadable; what it holds is lost here");
        self.report.unreadable_segments.push(number);
        let mut state = SegmentState { sealed: true, ..SegmentState::new(0, length) };
        state.damaged.push(Extent { unit: 0, units: (length / UNIT) as u32 });
        self.index.change_segments(|segments| segments.insert(number, state));
        Ok(())
    }

    fn record(&mut self, place: Place, header: RecordHeader) -> Result<(), IndexError> {
        self.report.records_replayed += 1;
        if header.batch != self.newest_batch {
            self.newest_batch = self.newest_batch.max(header.batch);
            for (place, header) in std::mem::take(&mut self.newest) {
                self.apply(place, &header)?;
            }
        }
        self.newest.push((place, header));
        Ok(())
    }

    fn apply(&mut self, place: Place, header: &RecordHeader) -> Result<(), IndexError> {
        let name = header.name;
        let counts = self.index.get(&name)?;
        match header.body {
            RecordBody::Fragment { length } => {
                let entry = Entry { place, length, written_ms: header.written_ms };
                self.index.replay(Effect::Put { name, entry, replaces: counts });
            }
            RecordBody::Tombstone { kills, units } => {
                self.dead(kills, units);
                // What it killed may itself not be readable any more: an older record must not take its place.
                let live = counts.filter(|entry| entry.place <= kills);
                self.index.replay(Effect::Kill { at: place, name, kills, live });
            }
            RecordBody::Void { .. } => {}
        }
        if self.anew && self.index.unflushed() > self.most_unflushed {
            self.index.spill()?;
        }
        Ok(())
    }

    fn dead(&mut self, place: Place, units: u32) {
        self.leftovers.dead.entry(place.segment).or_default().push(Extent { unit: place.unit, units });
    }

    /// Whether a record of the newest batch arrived on the disk whole.
    fn whole(&self, place: Place, header: &RecordHeader) -> bool {
        let RecordBody::Fragment { length } = header.body else { return true };
        let entry = Entry { place, length, written_ms: header.written_ms };
        let Some(salt) = self.index.salt(place.segment) else { return false };
        let path = self.files.path(place.segment);
        let Ok(file) = self.files.get(place.segment) else { return false };
        let record = Record { io: self.io, file: &file, path: &path, salt, name: header.name, entry };
        // An I/O error is no proof of a torn write: such a fragment stays, and reads of it fail.
        !matches!(record.verify(), Err(DiskError::Corrupt { .. }))
    }

    fn finish(mut self, next_batch: u64, last_segment: u32) -> Result<Recovered, DiskError> {
        for (place, header) in std::mem::take(&mut self.newest) {
            if self.whole(place, &header) {
                self.apply(place, &header)?;
            } else {
                self.report.torn.push(header.name.to_string());
                self.leftovers.torn.push((place, header));
            }
        }
        self.explain_gaps(last_segment);
        self.report.fragments = self.index.totals().fragments;
        let newest =
            self.index.segments(|segments| segments.iter().next_back().map(|(number, state)| (number, state.end)));
        let (segment, end) = newest.unwrap_or_default();
        let next_batch = next_batch.max(self.newest_batch + 1);
        self.index.set_position(Position { segment, end, next_batch });
        Ok(Recovered { last_segment, index: self.index, leftovers: self.leftovers, report: self.report })
    }
}

/// Says in the log what an opening found.
pub(crate) fn log_report(identity: &Identity, report: &RecoveryReport) {
    let disk = identity.disk;
    if let Some(why) = &report.index_unusable
        && report.segments > 0
    {
        if report.index_not_yet_written {
            tracing::info!(%disk, "the disk ended before it wrote its index for the first time: it is made from the segment");
        } else {
            tracing::warn!(%disk, %why, segments = report.segments, "the index was made anew from the segments");
        }
    }
    if !report.damaged.is_empty() || !report.unreadable_segments.is_empty() || report.lost_with_segments > 0 {
        tracing::error!(%disk, damaged_regions = report.damaged.len(), unreadable_segments = report.unreadable_segments.len(),
            fragments_lost = report.lost_with_segments, "damage met while opening: repair makes anew what is missing");
    }
    if report.torn_tail || !report.torn.is_empty() {
        tracing::info!(%disk, torn = report.torn.len(), "the last batch was cut short and is dropped: it was never acknowledged");
    }
    tracing::info!(%disk, fragments = report.fragments, replayed = report.records_replayed, "disk opened");
}

/// The parts of `units` that no dead record explains. `dead` in order.
fn unexplained(units: std::ops::Range<u32>, dead: &[Extent]) -> Vec<Extent> {
    debug_assert!(dead.is_sorted_by_key(|extent| extent.unit));
    let mut from = units.start;
    let mut parts = Vec::new();
    let begin = dead.partition_point(|extent| extent.unit + extent.units <= units.start);
    for extent in dead[begin..].iter().take_while(|extent| extent.unit < units.end) {
        if extent.unit > from {
            parts.push(Extent { unit: from, units: extent.unit - from });
        }
        from = from.max(extent.unit.saturating_add(extent.units));
    }
    if from < units.end {
        parts.push(Extent { unit: from, units: units.end - from });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_explained_by_what_died_in_them() {
        let extent = |unit, units| Extent { unit, units };
        let dead = [extent(10, 5), extent(20, 10), extent(30, 2)];
        assert_eq!(unexplained(10..15, &dead), vec![]);
        assert_eq!(unexplained(12..14, &dead), vec![]);
        assert_eq!(unexplained(8..22, &dead), vec![extent(8, 2), extent(15, 5)]);
        assert_eq!(unexplained(20..40, &dead), vec![extent(32, 8)]);
        assert_eq!(unexplained(0..5, &dead), vec![extent(0, 5)]);
    }
}
