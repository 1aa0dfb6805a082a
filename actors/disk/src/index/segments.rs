//! How much of each segment is still needed, and by what. A few numbers a segment, whatever it holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use cairn_fragment::FragmentInfo;
use cairn_schema::ids::FragmentName;

use crate::format::{Place, SEGMENT_HEADER_BYTES, UNIT, fragment_units};

/// Space is given back in pages of this size.
pub(crate) const PAGE: u64 = 4096;

/// A fragment that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub place: Place,
    pub length: u32,
    pub written_ms: u64,
}

impl Entry {
    /// What the disk says of the fragment, whose name is `name`.
    pub(crate) fn info(self, name: FragmentName) -> FragmentInfo {
        FragmentInfo { name, length: self.length, written_ms: self.written_ms }
    }
}

/// A run of 64-byte units of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Extent {
    pub unit: u32,
    pub units: u32,
}

/// What a segment holds that another segment's file, while it exists, makes necessary: without it a rebuilt index would
/// resurrect records of that file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Tombstones for its records.
    pub tombstones: u32,
    /// Newer records of fragments that it also holds.
    pub successors: u32,
}

/// One segment file as the index sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentState {
    pub salt: u64,
    /// Bytes up to which records have been accepted.
    pub end: u64,
    pub sealed: bool,
    /// Fragments that the index has here,
    pub fragments: u32,
    /// the units of their records,
    pub units: u64,
    /// and their payload bytes.
    pub payload: u64,
    /// By segment, this one included: why records here that are no live fragments must stay.
    pub needs: BTreeMap<u32, Needs>,
    /// Tombstones among them.
    pub tombstones: u64,
    /// Regions that could not be read as records; kept as they are for whoever wants to look, as long as anything else
    /// needs the segment.
    pub damaged: Vec<Extent>,
    /// Bytes it takes from the file system. Measured, not stored.
    pub occupied: u64,
    /// Differs from its row in the index.
    pub dirty: bool,
}

impl SegmentState {
    pub(crate) fn new(salt: u64, end: u64) -> Self {
        Self { salt, end, occupied: end, dirty: true, ..Self::default() }
    }

    /// Bytes of records that are needed, and of damage.
    pub(crate) fn held(&self) -> u64 {
        let damaged: u64 = self.damaged.iter().map(|extent| u64::from(extent.units)).sum();
        (self.units + self.tombstones + damaged) * UNIT
    }

    /// Bytes it takes for nothing.
    pub(crate) fn dead(&self) -> u64 {
        self.occupied.saturating_sub(SEGMENT_HEADER_BYTES + self.held())
    }

    /// A file of which not even the header could be read: nobody knows that it is not needed.
    pub(crate) fn unreadable(&self) -> bool {
        self.damaged.iter().any(|extent| extent.unit == 0)
    }
}

/// The pages that only the record at `place` lies on.
pub(crate) fn whole_pages(place: Place, units: u32) -> Option<Range<u64>> {
    let start = place.offset().next_multiple_of(PAGE);
    let end = (place.offset() + u64::from(units) * UNIT) / PAGE * PAGE;
    (start < end).then_some(start..end)
}

/// Sums over all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub fragments: u64,
    /// Bytes of records that are needed, their heads and padding included.
    pub held: u64,
    /// Bytes the segments take from the file system: what was written less what was given back.
    pub occupied: u64,
    /// Payload bytes of the fragments.
    pub payload: u64,
    /// Bytes the segments take for nothing.
    pub dead: u64,
}

/// All segments of a disk, with running totals.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    map: BTreeMap<u32, SegmentState>,
    totals: Totals,
    /// Those whose files are being removed. They are forgotten only when that is durable, which takes a sync.
    leaving: BTreeSet<u32>,
}

impl Segments {
    pub(crate) fn get(&self, number: u32) -> Option<&SegmentState> {
        self.map.get(&number)
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.map.contains_key(&number)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &SegmentState)> + DoubleEndedIterator {
        self.map.iter().map(|(number, state)| (*number, state))
    }

    pub(crate) fn last(&self) -> Option<u32> {
        self.map.keys().next_back().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Its file is going to be removed.
    pub(crate) fn leave(&mut self, number: u32) {
        self.leaving.insert(number);
    }

    /// Its file could not be removed.
    pub(crate) fn stay(&mut self, number: u32) {
        self.leaving.remove(&number);
    }

    /// Whether its file may be gone, and rightly: nobody needs anything of it any more.
    pub(crate) fn is_leaving(&self, number: u32) -> bool {
        self.leaving.contains(&number) || !self.contains(number)
    }

    /// Changes one segment and the totals with it. Nothing happens to a segment that is not there.
    fn change<T>(&mut self, number: u32, change: impl FnOnce(&mut SegmentState) -> T) -> Option<T> {
        let state = self.map.get_mut(&number)?;
        self.totals.leave(state);
        let result = change(state);
        state.dirty = true;
        self.totals.enter(state);
        Some(result)
    }

    pub(crate) fn insert(&mut self, number: u32, state: SegmentState) {
        self.remove(number);
        self.totals.enter(&state);
        self.map.insert(number, state);
    }

    /// Forgets a segment whose file is gone, and with it what others held only because of it.
    pub(crate) fn remove(&mut self, number: u32) -> Option<SegmentState> {
        self.leaving.remove(&number);
        let state = self.map.remove(&number)?;
        self.totals.leave(&state);
        let holders: Vec<u32> =
            self.map.iter().filter(|(_, state)| state.needs.contains_key(&number)).map(|(number, _)| *number).collect();
        for holder in holders {
            self.change(holder, |state| {
                let gone = state.needs.remove(&number).unwrap_or_default();
                state.tombstones -= u64::from(gone.tombstones);
            });
        }
        Some(state)
    }

    /// A record of a fragment has become the one that counts; `replaces` is the one that did.
    pub(crate) fn put(&mut self, entry: Entry, replaces: Option<Entry>) {
        self.change(entry.place.segment, |state| {
            state.fragments += 1;
            state.units += u64::from(fragment_units(entry.length));
            state.payload += u64::from(entry.length);
        });
        let Some(old) = replaces else { return };
        if old.place == entry.place {
            return self.let_go(old); // seen twice
        }
        self.let_go(old);
        if self.contains(old.place.segment) && old.place.segment != entry.place.segment {
            let needs = |state: &mut SegmentState| state.needs.entry(old.place.segment).or_default().successors += 1;
            self.change(entry.place.segment, needs);
        }
    }

    /// A tombstone at `at` for a record of `kills` counts; `live` is that record if it was the one of its fragment.
    pub(crate) fn kill(&mut self, at: Place, kills: Place, live: Option<Entry>) {
        if self.contains(kills.segment) {
            self.change(at.segment, |state| {
                state.needs.entry(kills.segment).or_default().tombstones += 1;
                state.tombstones += 1;
            });
        }
        let Some(entry) = live else { return };
        self.let_go(entry);
        let (killed, older) = (kills.segment, entry.place.segment);
        if killed != older && self.contains(older) {
            // A rebuilt index met this tombstone without the record that it names: that one, a newer copy of `entry`,
            // is unreadable by now. The tombstone must outlive the older copy's file, and stays only as long as the
            // segment that it names.
            let holder = if self.contains(killed) { killed } else { at.segment };
            self.change(holder, |state| state.needs.entry(older).or_default().successors += 1);
        }
    }

    fn let_go(&mut self, entry: Entry) {
        self.change(entry.place.segment, |state| {
            state.fragments = state.fragments.saturating_sub(1);
            state.units = state.units.saturating_sub(u64::from(fragment_units(entry.length)));
            state.payload = state.payload.saturating_sub(u64::from(entry.length));
        });
    }

    /// Records up to `end` of a segment are durable.
    pub(crate) fn advance(&mut self, number: u32, end: u64) {
        self.change(number, |state| {
            state.occupied += end.saturating_sub(state.end);
            state.end = state.end.max(end);
        });
    }

    /// Its tombstones have been written again elsewhere.
    pub(crate) fn tombstones_moved(&mut self, number: u32) {
        self.change(number, |state| {
            state.needs.values_mut().for_each(|needs| needs.tombstones = 0);
            state.needs.retain(|_, needs| needs.successors > 0);
            state.tombstones = 0;
        });
    }

    pub(crate) fn seal(&mut self, number: u32) {
        self.change(number, |state| state.sealed = true);
    }

    pub(crate) fn add_damage(&mut self, number: u32, extent: Extent) {
        self.change(number, |state| state.damaged.push(extent));
    }

    /// What the file was found to take from the file system.
    pub(crate) fn measured(&mut self, number: u32, allocated: u64) {
        self.change(number, |state| state.occupied = allocated.min(state.end));
    }

    /// Pages of a segment were given back.
    pub(crate) fn gave_back(&mut self, number: u32, bytes: u64) {
        self.change(number, |state| state.occupied = state.occupied.saturating_sub(bytes));
    }

    /// The rows that are out of date, which from now on count as written.
    pub(crate) fn take_dirty(&mut self) -> Vec<(u32, SegmentState)> {
        let dirty = self.map.iter_mut().filter(|(_, state)| state.dirty);
        let taken = dirty.map(|(number, state)| {
            state.dirty = false;
            (*number, state.clone())
        });
        taken.collect()
    }

    /// Sealed segments that hold no fragment. Never the newest one: its number must not be given out again.
    pub(crate) fn empty(&self) -> Vec<u32> {
        let last = self.last();
        let empty = |number: u32, state: &SegmentState| {
            state.sealed && state.fragments == 0 && !state.unreadable() && Some(number) != last
        };
        self.iter().filter(|(number, state)| empty(*number, state)).map(|(number, _)| number).collect()
    }

    /// Those of [`Segments::empty`] that hold nothing else anyone needs.
    pub(crate) fn removable(&self) -> Vec<u32> {
        let unneeded = |number: &u32| self.map[number].needs.keys().all(|about| about == number);
        self.empty().into_iter().filter(unneeded).collect()
    }
}

impl Totals {
    fn enter(&mut self, state: &SegmentState) {
        self.fragments += u64::from(state.fragments);
        self.held += state.held();
        self.occupied += state.occupied;
        self.payload += state.payload;
        self.dead += state.dead();
    }

    fn leave(&mut self, state: &SegmentState) {
        self.fragments -= u64::from(state.fragments);
        self.held -= state.held();
        self.occupied -= state.occupied;
        self.payload -= state.payload;
        self.dead -= state.dead();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(segment: u32, unit: u32) -> Entry {
        Entry { place: Place { segment, unit }, length: 4096, written_ms: 0 }
    }

    fn three() -> Segments {
        let mut segments = Segments::default();
        for number in 1..=3 {
            segments.insert(number, SegmentState::new(7, SEGMENT_HEADER_BYTES));
        }
        segments
    }

    #[test]
    fn only_whole_pages_of_a_record_are_given_back() {
        let at = |unit| Place { segment: 1, unit };
        assert_eq!(whole_pages(at(128), 64), Some(8192..12_288));
        assert_eq!(whole_pages(at(129), 64), None);
        assert_eq!(whole_pages(at(129), 128), Some(12_288..16_384));
        assert_eq!(whole_pages(at(128), 63), None);
    }

    #[test]
    fn a_tombstone_stays_until_the_segment_it_is_about_is_gone() {
        let mut segments = three();
        segments.put(entry(1, 128), None);
        segments.advance(1, 20_000);
        segments.kill(Place { segment: 2, unit: 128 }, entry(1, 128).place, Some(entry(1, 128)));
        segments.seal(1);
        assert_eq!(segments.totals().fragments, 0);
        assert_eq!(segments.removable(), [1]);
        segments.seal(2);
        assert_eq!(segments.removable(), [1], "2 holds the tombstone of 1");
        assert_eq!(segments.totals().held, UNIT);
        segments.remove(1);
        assert_eq!(segments.removable(), [2]);
        assert_eq!(segments.totals().held, 0);
        segments.seal(3);
        assert_eq!(segments.removable(), [2], "the newest stays");
    }

    #[test]
    fn a_moved_fragment_stays_until_the_segment_it_came_from_is_gone() {
        let mut segments = three();
        segments.put(entry(1, 128), None);
        segments.put(entry(2, 128), Some(entry(1, 128)));
        segments.kill(Place { segment: 3, unit: 128 }, entry(2, 128).place, Some(entry(2, 128)));
        segments.seal(1);
        segments.seal(2);
        assert_eq!(segments.removable(), [1], "without 2, a rebuilt index would believe 1");
        segments.remove(1);
        assert_eq!(segments.removable(), [2]);
    }

    #[test]
    fn a_tombstone_met_without_its_record_stays_until_the_older_copy_is_gone() {
        let mut segments = three();
        segments.insert(4, SegmentState::new(7, SEGMENT_HEADER_BYTES));
        segments.put(entry(1, 128), None);
        // It was moved to 2, where a hole has taken it, and killed there.
        segments.kill(Place { segment: 3, unit: 128 }, entry(2, 128).place, Some(entry(1, 128)));
        segments.put(entry(1, 512), None);
        (1..=3).for_each(|number| segments.seal(number));
        assert_eq!(segments.removable(), [], "1 holds a fragment, 2 is needed by the tombstone for it, which 3 holds");
        segments.kill(Place { segment: 4, unit: 128 }, entry(1, 512).place, Some(entry(1, 512)));
        assert_eq!(segments.removable(), [1]);
        segments.remove(1);
        assert_eq!(segments.removable(), [2]);
        segments.remove(2);
        assert_eq!(segments.removable(), [3]);
    }

    #[test]
    fn totals_are_the_sum_of_the_segments() {
        let mut segments = three();
        let mut dice = 1u32;
        let mut live: Vec<Entry> = Vec::new();
        for step in 0..2000u32 {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = Place { segment: 1 + dice % 3, unit: 200 + step };
            match (dice >> 8) % 3 {
                0 => {
                    live.push(Entry { place: at, ..entry(1, 1) });
                    segments.put(Entry { place: at, ..entry(1, 1) }, None);
                }
                1 if !live.is_empty() => {
                    let old = live.swap_remove(dice as usize / 7 % live.len());
                    segments.kill(at, old.place, Some(old));
                }
                _ => segments.advance(at.segment, 8192 + u64::from(step) * 64),
            }
        }
        let mut sum = Totals::default();
        segments.iter().for_each(|(_, state)| sum.enter(state));
        assert_eq!(segments.totals(), sum);
        assert_eq!(sum.fragments, live.len() as u64);
        for number in 1..=3 {
            segments.remove(number);
        }
        assert_eq!(segments.totals(), Totals::default());
    }
}
