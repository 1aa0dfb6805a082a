//! What the disk holds of each group, in digests that are kept with every change and written down with every
//! checkpoint: so they are as current as the index, and asking for them reads nothing.

use std::collections::{BTreeMap, BTreeSet};

use cairn_fragment::{BlobRange, NameDigest, PARTS};
use cairn_schema::ids::{FragmentName, GroupId};

/// A group, and a position in it.
pub(crate) type Place = (GroupId, u8);
/// Of the parts that all blobs are divided into.
pub(crate) type Parts = [NameDigest; PARTS];

/// What is to be written down of a place; None where nothing is held any more.
pub(crate) type Changed = (Place, Option<Box<Parts>>);

/// Groups and positions that are kept, 2 KiB each: a disk is in some hundred. Of what is over that, nothing is known.
const MOST_PLACES: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Digests {
    held: BTreeMap<Place, Box<Parts>>,
    /// Changed since they were last written down.
    dirty: BTreeSet<Place>,
    /// There were too many, so what is held is not all.
    overflown: bool,
}

impl Digests {
    /// None if they were too many to be kept.
    pub(crate) fn of(&self, place: Place) -> Option<Parts> {
        let held = self.held.get(&place).map(|parts| **parts);
        held.or((!self.overflown).then_some([NameDigest::default(); PARTS]))
    }

    pub(crate) fn add(&mut self, name: &FragmentName) {
        if let Some(part) = self.part(name) {
            part.add(name.blob, name.stripe);
        }
    }

    pub(crate) fn take(&mut self, name: &FragmentName) {
        if let Some(part) = self.part(name) {
            part.take(name.blob, name.stripe);
        }
    }

    fn part(&mut self, name: &FragmentName) -> Option<&mut NameDigest> {
        let place = (name.group, name.position);
        if self.held.len() >= MOST_PLACES && !self.held.contains_key(&place) {
            self.overflown = true;
            return None;
        }
        self.dirty.insert(place);
        let parts = self.held.entry(place).or_insert_with(|| Box::new([NameDigest::default(); PARTS]));
        parts.get_mut(BlobRange::ALL.part_of(name.blob))
    }

    /// As it was written down.
    pub(crate) fn insert(&mut self, place: Place, parts: Parts) {
        self.held.insert(place, Box::new(parts));
    }

    /// What was written down of it is not true any more.
    pub(crate) fn forget(&mut self, place: Place) {
        self.dirty.insert(place);
    }

    /// What has changed since this was last asked, None where nothing is held any more. False if it is not all that the
    /// disk holds, and must not be believed when it is read back.
    pub(crate) fn take_dirty(&mut self) -> (Vec<Changed>, bool) {
        let mut changed = Vec::with_capacity(self.dirty.len());
        for place in std::mem::take(&mut self.dirty) {
            let parts = self.held.get(&place).filter(|parts| parts.iter().any(|part| *part != NameDigest::default()));
            changed.push((place, parts.cloned()));
            if parts.is_none() {
                self.held.remove(&place);
            }
        }
        (changed, !self.overflown)
    }
}

#[cfg(test)]
mod tests {
    use cairn_schema::ids::BlobId;

    use super::*;

    fn name(group: u32, blob: u8) -> FragmentName {
        FragmentName { group: GroupId(group), blob: BlobId([blob; 16]), stripe: 1, position: 2 }
    }

    #[test]
    fn what_changed_is_told_once_and_what_is_empty_goes() {
        let mut digests = Digests::default();
        digests.add(&name(1, 7));
        digests.add(&name(2, 7));
        let (changed, all) = digests.take_dirty();
        assert!(changed.len() == 2 && changed.iter().all(|(_, parts)| parts.is_some()) && all);
        assert_eq!(digests.of((GroupId(1), 2)), digests.of((GroupId(2), 2)));
        digests.take(&name(1, 7));
        assert_eq!(digests.take_dirty(), (vec![((GroupId(1), 2), None)], true));
        assert_eq!(digests.of((GroupId(1), 2)), Some([NameDigest::default(); PARTS]));
        assert!(digests.held.len() == 1 && digests.take_dirty().0.is_empty());
    }

    #[test]
    fn bnd_1_of_what_is_too_much_nothing_is_said() {
        let mut digests = Digests::default();
        (0..=MOST_PLACES as u32).for_each(|group| digests.add(&name(group, 7)));
        assert_eq!(digests.held.len(), MOST_PLACES);
        assert!(digests.of((GroupId(0), 2)).is_some() && digests.of((GroupId(MOST_PLACES as u32), 2)).is_none());
        assert!(!digests.take_dirty().1);
    }
}
