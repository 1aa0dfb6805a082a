//! What is where: fragments by name, and which extents of each segment are still needed. Holds no file and does no I/O; the
//! segments are the truth and this can be made again from them.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
};

use cairn_schema::ids::{BlobId, FragmentName, GroupId};

use super::{
    FragmentInfo,
    format::{Place, SEGMENT_HEADER_BYTES, UNIT, fragment_units},
};

/// Space is given back in pages of this size.
pub const PAGE: u64 = 4096;

/// A fragment that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub place: Place,
    pub length: u32,
    pub written_ms: u64,
}

/// A run of 64-byte units that must not be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    pub unit: u32,
    pub units: u32,
}

impl Extent {
    fn end(self) -> u32 {
        self.unit + self.units
    }
}

/// One segment file as the index sees it.
#[derive(Clone, Debug, Default)]
pub struct SegmentState {
    pub salt: u64,
    /// Bytes up to which records have been accepted.
    pub end: u64,
    pub sealed: bool,
    /// Fragments, needed tombstones and damaged regions, in order.
    pub extents: Vec<Extent>,
    /// Fragments here, and tombstones here that other segments still need: with none, the file may go.
    pub keepers: u32,
    /// Tombstones, anywhere, that kill records of this segment: needed for as long as this file exists.
    pub killers: Vec<Place>,
    /// Regions that could not be read as records; kept as they are for whoever wants to look, as long as anything else needs the
    /// segment.
    pub damaged: Vec<Extent>,
    /// Bytes given back to the file system.
    pub punched: u64,
}

impl SegmentState {
    pub fn new(salt: u64, end: u64) -> Self {
        Self { salt, end, ..Self::default() }
    }

    /// What a checkpoint keeps: the rest follows from the fragments.
    pub fn without_extents(&self) -> Self {
        Self {
            salt: self.salt,
            end: self.end,
            sealed: self.sealed,
            killers: self.killers.clone(),
            damaged: self.damaged.clone(),
            ..Self::default()
        }
    }

    fn hold(&mut self, extent: Extent) {
        match self.extents.last() {
            Some(last) if last.unit >= extent.unit => {
                if let Err(at) = self.extents.binary_search_by_key(&extent.unit, |held| held.unit) {
                    self.extents.insert(at, extent);
                }
            }
            _ => self.extents.push(extent),
        }
    }

    /// Lets go of the extent that begins at `unit`; returns the whole pages that nothing needs any more because of it.
    fn release(&mut self, unit: u32) -> Option<Range<u64>> {
        let at = self.extents.binary_search_by_key(&unit, |held| held.unit).ok()?;
        let gone = self.extents.remove(at);
        let before = at.checked_sub(1).and_then(|i| self.extents.get(i));
        let gap_start = before.map_or(SEGMENT_HEADER_BYTES, |held| u64::from(held.end()) * UNIT);
        let gap_end = self.extents.get(at).map_or(self.end, |held| u64::from(held.unit) * UNIT);
        // A page at the edge may be shared with a neighbour: it goes with whichever of them leaves last.
        let start = (u64::from(gone.unit) * UNIT / PAGE * PAGE).max(gap_start.next_multiple_of(PAGE));
        let end = (u64::from(gone.end()) * UNIT).next_multiple_of(PAGE).min(gap_end / PAGE * PAGE);
        (start < end).then(|| {
            self.punched += end - start;
            start..end
        })
    }

    /// All whole pages that nothing needs: what a new index assumes to have been given back.
    pub fn gaps(&self) -> Vec<Range<u64>> {
        let mut from = SEGMENT_HEADER_BYTES;
        let mut gaps = Vec::new();
        let mut gap = |from: u64, to: u64| {
            let (start, end) = (from.next_multiple_of(PAGE), to / PAGE * PAGE);
            if start < end {
                gaps.push(start..end);
            }
        };
        for held in &self.extents {
            gap(from, u64::from(held.unit) * UNIT);
            from = u64::from(held.end()) * UNIT;
        }
        gap(from, self.end);
        gaps
    }

    pub fn held_bytes(&self) -> u64 {
        self.extents.iter().map(|held| u64::from(held.units) * UNIT).sum()
    }
}

/// Pages to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freed {
    pub segment: u32,
    pub bytes: Range<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of records that are needed, their heads and padding included.
    pub held: u64,
    /// Bytes the segments take from the file system: what was written less what was given back.
    pub occupied: u64,
    /// Payload bytes of the fragments.
    pub payload: u64,
}

#[derive(Debug, Default)]
pub struct Index {
    fragments: BTreeMap<FragmentName, Entry>,
    pub segments: BTreeMap<u32, SegmentState>,
    totals: Totals,
}

impl Index {
    /// From fragments in any order and segments whose `extents`, `keepers` and `punched` are not yet worked out; `tombstones` are
    /// (where it is, the segment it is about).
    pub fn build(
        fragments: BTreeMap<FragmentName, Entry>,
        mut segments: BTreeMap<u32, SegmentState>,
        mut tombstones: Vec<(Place, u32)>,
    ) -> Self {
        let mut totals = Totals::default();
        for entry in fragments.values() {
            if let Some(segment) = segments.get_mut(&entry.place.segment) {
                segment.extents.push(Extent { unit: entry.place.unit, units: fragment_units(entry.length) });
                segment.keepers += 1;
                totals.payload += u64::from(entry.length);
            }
        }
        tombstones.sort_unstable();
        tombstones.dedup();
        for (place, target) in tombstones {
            if !segments.contains_key(&target) || !segments.contains_key(&place.segment) {
                continue;
            }
            if let Some(home) = segments.get_mut(&place.segment) {
                home.extents.push(Extent { unit: place.unit, units: 1 });
                home.keepers += u32::from(place.segment != target);
            }
            if let Some(killed) = segments.get_mut(&target) {
                killed.killers.push(place);
            }
        }
        for segment in segments.values_mut() {
            // A file of which not even the header could be read: nobody knows that it is not needed.
            segment.keepers += u32::from(segment.damaged.iter().any(|region| region.unit == 0));
            segment.extents.extend(segment.damaged.iter().copied());
            segment.extents.sort_unstable();
            segment.extents.dedup_by_key(|held| held.unit);
            segment.punched = segment.gaps().iter().map(|gap| gap.end - gap.start).sum();
            totals.held += segment.held_bytes();
            totals.occupied += segment.end - segment.punched;
        }
        Self { fragments, segments, totals }
    }

    pub fn get(&self, name: &FragmentName) -> Option<Entry> {
        self.fragments.get(name).copied()
    }

    pub fn len(&self) -> u64 {
        self.fragments.len() as u64
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Fragments after `after` (from the first if None), in name order.
    pub fn after(&self, after: Option<FragmentName>) -> impl Iterator<Item = (&FragmentName, &Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.fragments.range((from, Bound::Unbounded))
    }

    pub fn list(&self, group: Option<GroupId>, after: Option<FragmentName>, limit: usize) -> Vec<FragmentInfo> {
        let first = group.map(|group| FragmentName { group, blob: BlobId([0; 16]), stripe: 0, position: 0 });
        let from = match (first, after) {
            (Some(first), Some(after)) if after >= first => Bound::Excluded(after),
            (Some(first), _) => Bound::Included(first),
            (None, Some(after)) => Bound::Excluded(after),
            (None, None) => Bound::Unbounded,
        };
        self.fragments
            .range((from, Bound::Unbounded))
            .take_while(|(name, _)| group.is_none_or(|group| name.group == group))
            .take(limit)
            .map(|(name, entry)| FragmentInfo { name: *name, length: entry.length, written_ms: entry.written_ms })
            .collect()
    }

    pub fn add_segment(&mut self, number: u32, salt: u64) {
        self.segments.insert(number, SegmentState::new(salt, SEGMENT_HEADER_BYTES));
        self.totals.occupied += SEGMENT_HEADER_BYTES;
    }

    /// Records up to `end` of a segment are durable.
    pub fn advance(&mut self, number: u32, end: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            self.totals.occupied += end.saturating_sub(segment.end);
            segment.end = segment.end.max(end);
        }
    }

    pub fn seal(&mut self, number: u32) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.sealed = true;
        }
    }

    /// Returns the entry that was there; the caller decides about its extent.
    pub fn insert(&mut self, name: FragmentName, entry: Entry) -> Option<Entry> {
        let units = fragment_units(entry.length);
        if let Some(segment) = self.segments.get_mut(&entry.place.segment) {
            segment.hold(Extent { unit: entry.place.unit, units });
            segment.keepers += 1;
            self.totals.held += u64::from(units) * UNIT;
            self.totals.payload += u64::from(entry.length);
        }
        self.fragments.insert(name, entry)
    }

    /// A tombstone at `at` for the record at `kills` has become durable. If the index had that record under `name`, the name goes
    /// with it. Returns whether it did, and the pages nobody needs now.
    pub fn kill(&mut self, at: Place, name: &FragmentName, kills: Place) -> (bool, Option<Freed>) {
        if self.segments.contains_key(&kills.segment) {
            if let Some(home) = self.segments.get_mut(&at.segment) {
                home.hold(Extent { unit: at.unit, units: 1 });
                home.keepers += u32::from(at.segment != kills.segment);
                self.totals.held += UNIT;
            }
            if let Some(killed) = self.segments.get_mut(&kills.segment) {
                killed.killers.push(at);
            }
        }
        match self.fragments.get(name) {
            Some(entry) if entry.place == kills => {
                let entry = *entry;
                self.fragments.remove(name);
                (true, self.let_go(entry))
            }
            _ => (false, None),
        }
    }

    /// The fragment's record was superseded by one elsewhere: its extent is free (its tombstone must be durable, or its file about to
    /// go).
    pub fn let_go(&mut self, entry: Entry) -> Option<Freed> {
        let segment = self.segments.get_mut(&entry.place.segment)?;
        segment.keepers = segment.keepers.saturating_sub(1);
        self.totals.payload -= u64::from(entry.length);
        self.release(entry.place, fragment_units(entry.length))
    }

    fn release(&mut self, place: Place, units: u32) -> Option<Freed> {
        let segment = self.segments.get_mut(&place.segment)?;
        let bytes = segment.release(place.unit);
        self.totals.held -= u64::from(units) * UNIT;
        let bytes = bytes?;
        self.totals.occupied -= bytes.end - bytes.start;
        Some(Freed { segment: place.segment, bytes })
    }

    /// Whether a segment is sealed and holds nothing anyone needs.
    pub fn is_removable(&self, number: u32) -> bool {
        let segment = self.segments.get(&number);
        segment.is_some_and(|segment| segment.sealed && segment.keepers == 0)
    }

    /// Forgets a segment whose file is about to be removed; hand the result to [`Index::removed`] when that is durable.
    pub fn remove_segment(&mut self, number: u32) -> Vec<Place> {
        let Some(segment) = self.segments.remove(&number) else { return Vec::new() };
        self.totals.occupied -= segment.end - segment.punched;
        self.totals.held -= segment.held_bytes();
        segment.killers
    }

    /// A segment's file is durably gone: the tombstones about its records have done their work.
    pub fn removed(&mut self, killers: Vec<Place>) -> Vec<Freed> {
        let mut freed = Vec::new();
        for place in killers {
            if let Some(home) = self.segments.get_mut(&place.segment) {
                home.keepers = home.keepers.saturating_sub(1);
                freed.extend(self.release(place, 1));
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(n: u32) -> FragmentName {
        FragmentName { group: GroupId(n / 100), blob: BlobId([1; 16]), stripe: n, position: 0 }
    }

    fn entry(segment: u32, unit: u32, length: u32) -> Entry {
        Entry { place: Place { segment, unit }, length, written_ms: 1 }
    }

    /// Fragments of 4096 bytes at units 128, 194, …: each 66 units, so pages are shared between neighbours.
    fn three() -> Index {
        let mut index = Index::default();
        index.add_segment(1, 7);
        for n in 0..3 {
            index.insert(name(n), entry(1, 128 + n * 66, 4096));
        }
        index.advance(1, 8192 + 3 * 66 * 64);
        index
    }

    #[test]
    fn a_shared_page_is_freed_by_the_last_to_leave() {
        let mut index = three();
        index.add_segment(2, 8);
        let at = |unit| Place { segment: 2, unit };
        // 8192..12416, 12416..16640, 16640..20864
        assert_eq!(index.kill(at(128), &name(1), entry(1, 194, 0).place), (true, None));
        let freed = index.kill(at(129), &name(0), entry(1, 128, 0).place).1.unwrap();
        assert_eq!(freed, Freed { segment: 1, bytes: 8192..16384 });
        let freed = index.kill(at(130), &name(2), entry(1, 260, 0).place).1.unwrap();
        assert_eq!(freed, Freed { segment: 1, bytes: 16384..20480 });
        assert_eq!(index.segments[&1].punched, 12288);
        assert_eq!(index.segments[&1].gaps(), vec![8192..20480]);
        assert_eq!(index.totals().payload, 0);
    }

    #[test]
    fn tombstones_stay_until_the_segment_they_are_about_is_gone() {
        let mut index = three();
        index.add_segment(2, 8);
        for n in 0..3 {
            let kills = index.get(&name(n)).unwrap().place;
            assert!(index.kill(Place { segment: 2, unit: 128 + n }, &name(n), kills).0);
        }
        index.seal(1);
        index.seal(2);
        assert!(index.is_removable(1));
        assert!(!index.is_removable(2), "2 holds the tombstones of 1");
        let killers = index.remove_segment(1);
        assert_eq!(killers.len(), 3);
        index.removed(killers);
        assert!(index.is_removable(2));
        index.remove_segment(2);
        assert_eq!(index.totals(), Totals::default());
    }

    #[test]
    fn a_group_is_a_range() {
        let mut index = Index::default();
        index.add_segment(1, 7);
        for n in 0..300 {
            index.insert(name(n), entry(1, 128 + n, 0));
        }
        let all = index.list(Some(GroupId(1)), None, 1000);
        assert_eq!(all.len(), 100);
        assert_eq!(all[0].name, name(100));
        let rest = index.list(Some(GroupId(1)), Some(name(150)), 7);
        assert_eq!(rest.first().map(|info| info.name), Some(name(151)));
        assert_eq!(rest.len(), 7);
        assert_eq!(index.list(None, Some(name(298)), 10).len(), 1);
        assert_eq!(index.list(Some(GroupId(1)), Some(name(5)), 1)[0].name, name(100));
    }
}
