//! Makes the index of a disk: from its checkpoint and the tail of the log, or from all segments when there is no checkpoint to trust.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use cairn_schema::ids::FragmentName;
use serde::Serialize;

use super::{
    DiskError,
    checkpoint::{self, Checkpoint},
    file::{Io, disk_error},
    format::{Place, RecordBody, RecordHeader, SEGMENT_HEADER_BYTES, UNIT, fragment_units},
    identity::{Identity, refused},
    index::{Entry, Extent, Index, SegmentState},
    reader::Record,
    scan::{Found, Gap, Scan, read_segment_header},
    segment::{Files, list_segments},
};

/// What an opening found, for logs and `cairn disk inspect`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecoveryReport {
    /// None: the checkpoint was used.
    pub checkpoint_unusable: Option<String>,
    pub segments: u64,
    pub segments_scanned: u64,
    pub records_replayed: u64,
    pub fragments: u64,
    /// Regions of segments that are no records: (segment, first byte, byte after the last).
    pub damaged: Vec<(u32, u64, u64)>,
    /// Segment files whose header is unreadable.
    pub unreadable_segments: Vec<u32>,
    /// Fragments of the last batch cut short by a crash. They were never acknowledged.
    pub torn: Vec<String>,
    /// Bytes after the last record of the log that are no record.
    pub torn_tail: bool,
    /// Fragments the checkpoint knew in segment files that are gone.
    pub lost_with_segments: u64,
}

/// A record that is in a segment but must not count: its tombstone has yet to be written.
#[derive(Clone, Copy, Debug)]
pub struct Ghost {
    pub name: FragmentName,
    pub place: Place,
    pub units: u32,
}

impl Ghost {
    pub fn of(name: FragmentName, entry: Entry) -> Self {
        Self { name, place: entry.place, units: fragment_units(entry.length) }
    }
}

/// What an opening has to tidy up.
#[derive(Debug, Default)]
pub struct Leftovers {
    pub ghosts: Vec<Ghost>,
    /// A segment file whose creation was cut short: to be removed.
    pub empty: Option<u32>,
    /// Segments in which something was found dead that may not have been given back yet.
    pub stale: BTreeSet<u32>,
    /// Segments that were scanned: what was read of them may still be only in the page cache.
    pub scanned: Vec<u32>,
}

#[derive(Debug)]
pub struct Recovered {
    pub index: Index,
    pub next_batch: u64,
    /// The highest segment number there is; 0 if none.
    pub last_segment: u32,
    pub leftovers: Leftovers,
    pub report: RecoveryReport,
}

struct Replay<'a> {
    io: &'a Io,
    files: &'a Files,
    fragments: BTreeMap<FragmentName, Entry>,
    segments: BTreeMap<u32, SegmentState>,
    tombstones: Vec<(Place, u32)>,
    gaps: Vec<(u32, Gap)>,
    /// By segment, what the tombstones that were read have killed.
    dead: HashMap<u32, Vec<Extent>>,
    /// Superseded records without a tombstone of their own.
    losers: HashMap<Place, Ghost>,
    /// Records of the newest batch so far: applied when a newer one proves that it was synced.
    newest: Vec<(Place, RecordHeader)>,
    newest_batch: u64,
    leftovers: Leftovers,
    report: RecoveryReport,
}

/// Reads everything about the disk at `dir` but changes nothing.
pub fn recover(io: &Io, dir: &Path, identity: &Identity, files: &Files) -> Result<Recovered, DiskError> {
    let numbers = list_segments(dir)?;
    let checkpoint = checkpoint::read(dir, identity.disk).map_err(|why| why.to_string()).and_then(|checkpoint| {
        let tail = checkpoint.head.tail_segment;
        match numbers.iter().find(|number| **number < tail && !checkpoint.segments.contains_key(number)) {
            Some(number) => Err(format!("it does not know segment {number}")),
            None => Ok(checkpoint),
        }
    });
    let mut report = RecoveryReport { segments: numbers.len() as u64, ..RecoveryReport::default() };
    let checkpoint = checkpoint.unwrap_or_else(|why| {
        report.checkpoint_unusable = Some(why);
        Checkpoint::default()
    });
    let mut replay = Replay {
        io,
        files,
        fragments: checkpoint.fragments,
        segments: BTreeMap::new(),
        tombstones: Vec::new(),
        gaps: Vec::new(),
        dead: HashMap::new(),
        losers: HashMap::new(),
        newest: Vec::new(),
        newest_batch: 0,
        leftovers: Leftovers::default(),
        report,
    };
    let (tail_segment, tail_end) = (checkpoint.head.tail_segment, checkpoint.head.tail_end);
    let last = numbers.last().copied().unwrap_or(0);
    for number in numbers {
        let known = checkpoint.segments.get(&number).cloned();
        let from = match &known {
            Some(state) if number < tail_segment => {
                replay.know(number, state.clone());
                continue;
            }
            Some(_) if number == tail_segment => tail_end.max(SEGMENT_HEADER_BYTES),
            _ => SEGMENT_HEADER_BYTES,
        };
        replay.scan(identity, number, known, from, number == last)?;
    }
    replay.finish(checkpoint.head.next_batch, last)
}

impl Replay<'_> {
    fn know(&mut self, number: u32, mut state: SegmentState) {
        self.tombstones.extend(state.killers.drain(..).map(|place| (place, number)));
        state.sealed = true;
        self.segments.insert(number, state);
    }

    fn scan(
        &mut self,
        identity: &Identity,
        number: u32,
        known: Option<SegmentState>,
        from: u64,
        last: bool,
    ) -> Result<(), DiskError> {
        let path = self.files.path(number);
        let file = self.files.get(number)?;
        let salt = match (read_segment_header(self.io, &file, &path), &known) {
            (Ok(Some(header)), _) if header.disk != identity.disk || header.number != number => {
                let why = format!("it is segment {} of disk {}, not of this one", header.number, header.disk);
                return Err(refused(&path, why));
            }
            (Ok(Some(header)), _) => header.salt,
            (Err(refusal @ DiskError::Refused { .. }), _) => return Err(refusal),
            (_, Some(state)) => state.salt,
            (Ok(None), None) if last => {
                // Its creation was cut short: nothing was ever in it.
                self.leftovers.empty = Some(number);
                return Ok(());
            }
            (Ok(None), None) | (Err(_), None) => return self.unreadable(number),
        };
        self.report.segments_scanned += 1;
        self.leftovers.scanned.push(number);
        self.know(number, known.unwrap_or_else(|| SegmentState::new(salt, SEGMENT_HEADER_BYTES)));
        let io = self.io;
        let scanned = Scan { io, file: &file, path: &path, number, salt }.run(from, &mut |found| match found {
            Found::Record { place, header } => self.record(place, header),
            Found::Gap(gap) => self.gaps.push((number, gap)),
        })?;
        if let Some(state) = self.segments.get_mut(&number) {
            state.end = scanned.end;
            // Nothing is appended to a file of which parts cannot be read.
            state.sealed = !last || scanned.unreadable;
        }
        Ok(())
    }

    /// Tells the gaps that deletes have left from those that nobody can explain.
    fn explain_gaps(&mut self, last_segment: u32) {
        for dead in self.dead.values_mut() {
            dead.sort_unstable();
        }
        for (number, gap) in std::mem::take(&mut self.gaps) {
            // Zeros are no damage: they were given back with whatever died there, or preallocated and never written.
            let dead = self.dead.get(&number).map(Vec::as_slice).unwrap_or_default();
            let units = gap.strange.iter().map(|(start, end)| (start / UNIT) as u32..(end / UNIT) as u32);
            let regions: Vec<Extent> = units.flat_map(|units| unexplained(units, dead)).collect();
            for region in regions {
                let Some(state) = self.segments.get_mut(&number) else { continue };
                if gap.last && number == last_segment && !state.sealed {
                    self.report.torn_tail = true;
                    continue;
                }
                let start = u64::from(region.unit) * UNIT;
                let end = start + u64::from(region.units) * UNIT;
                self.report.damaged.push((number, start, end));
                if end <= state.end {
                    state.damaged.push(region);
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
        self.segments.insert(number, state);
        Ok(())
    }

    fn record(&mut self, place: Place, header: RecordHeader) {
        self.report.records_replayed += 1;
        if header.batch != self.newest_batch {
            self.newest_batch = self.newest_batch.max(header.batch);
            for (place, header) in std::mem::take(&mut self.newest) {
                self.apply(place, &header);
            }
        }
        self.newest.push((place, header));
    }

    fn apply(&mut self, place: Place, header: &RecordHeader) {
        match header.body {
            RecordBody::Fragment { length } => {
                self.losers.remove(&place);
                let entry = Entry { place, length, written_ms: header.written_ms };
                if let Some(old) = self.fragments.insert(header.name, entry)
                    && old.place != place
                {
                    self.losers.insert(old.place, Ghost::of(header.name, old));
                }
            }
            RecordBody::Tombstone { kills, units } => {
                self.dead.entry(kills.segment).or_default().push(Extent { unit: kills.unit, units });
                self.tombstones.push((place, kills.segment));
                self.losers.remove(&kills);
                self.leftovers.stale.insert(kills.segment);
                if self.fragments.get(&header.name).is_some_and(|entry| entry.place == kills) {
                    self.fragments.remove(&header.name);
                }
            }
        }
    }

    /// Whether a record of the newest batch arrived on the disk whole.
    fn whole(&self, place: Place, header: &RecordHeader) -> bool {
        let RecordBody::Fragment { length } = header.body else { return true };
        let entry = Entry { place, length, written_ms: header.written_ms };
        let Some(state) = self.segments.get(&place.segment) else { return false };
        let path = self.files.path(place.segment);
        let Ok(file) = self.files.get(place.segment) else { return false };
        let record = Record { io: self.io, file: &file, path: &path, salt: state.salt, name: header.name, entry };
        // An I/O error is no proof of a torn write: such a fragment stays, and reads of it fail.
        !matches!(record.verify(), Err(DiskError::Corrupt { .. }))
    }

    fn finish(mut self, next_batch: u64, last_segment: u32) -> Result<Recovered, DiskError> {
        let mut ghosts: Vec<Ghost> = Vec::new();
        for (place, header) in std::mem::take(&mut self.newest) {
            // What a checkpoint knows was whole once: if it is not now, that is damage, to be seen as such.
            let known = self.fragments.get(&header.name).is_some_and(|entry| entry.place == place);
            if known || self.whole(place, &header) {
                self.apply(place, &header);
            } else {
                self.report.torn.push(header.name.to_string());
                ghosts.push(Ghost { name: header.name, place, units: header.units() });
            }
        }
        self.explain_gaps(last_segment);
        let before = self.fragments.len();
        let segments = &self.segments;
        self.fragments.retain(|_, entry| segments.contains_key(&entry.place.segment));
        self.report.lost_with_segments = (before - self.fragments.len()) as u64;
        for (name, entry) in &self.fragments {
            self.losers.remove(&entry.place);
            let end = (u64::from(entry.place.unit) + u64::from(fragment_units(entry.length))) * UNIT;
            if let Some(state) = self.segments.get_mut(&entry.place.segment) {
                if end > state.end {
                    tracing::warn!(fragment = %name, segment = entry.place.segment, "a fragment lies beyond its segment's last record");
                }
                state.end = state.end.max(end);
            }
        }
        let segments = &self.segments;
        ghosts.extend(self.losers.into_values());
        ghosts.retain(|ghost| segments.contains_key(&ghost.place.segment));
        self.report.fragments = self.fragments.len() as u64;
        if self.report.checkpoint_unusable.is_some() {
            self.leftovers.stale.extend(self.segments.keys());
        }
        Ok(Recovered {
            next_batch: next_batch.max(self.newest_batch + 1),
            last_segment,
            index: Index::build(self.fragments, self.segments, self.tombstones),
            leftovers: Leftovers { ghosts, ..self.leftovers },
            report: self.report,
        })
    }
}

/// Says in the log what an opening found.
pub fn log_report(identity: &Identity, report: &RecoveryReport) {
    let disk = identity.disk;
    if let Some(why) = &report.checkpoint_unusable
        && report.segments > 0
    {
        tracing::warn!(%disk, %why, segments = report.segments, "index rebuilt from the segments: the checkpoint is of no use");
    }
    if !report.damaged.is_empty() || !report.unreadable_segments.is_empty() || report.lost_with_segments > 0 {
        tracing::error!(%disk, damaged = ?report.damaged, unreadable = ?report.unreadable_segments,
            lost = report.lost_with_segments, "damage met while opening; repair will find what is missing");
    }
    if report.torn_tail || !report.torn.is_empty() {
        tracing::info!(%disk, torn = report.torn.len(), "the last batch was cut short and is dropped: it was never acknowledged");
    }
    tracing::info!(%disk, fragments = report.fragments, replayed = report.records_replayed, "disk opened");
}

/// The parts of `units` that no dead record explains. `dead` in order.
fn unexplained(units: std::ops::Range<u32>, dead: &[Extent]) -> Vec<Extent> {
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
