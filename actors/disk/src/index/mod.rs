//! What is where: fragments by name in a tree on the disk, and in memory a few numbers for each segment.
//!
//! The segments are the truth and the index can be made again from them. Changes go to the tree's memory; a
//! *checkpoint* writes the changed segment rows and the head among them, seals all of that at one instant and flushes
//! it: so what is durable of the index is always exactly the state at one position of the log, and opening a disk
//! replays the log from there.

pub(crate) mod digests;
pub(crate) mod rows;
pub(crate) mod segments;
pub(crate) mod tree;

use std::path::{Path, PathBuf};

use cairn_fragment::{BlobRange, DiskError, NameDigest, PARTS};
use cairn_schema::{
    clock::now_ms,
    ids::{BlobId, DiskId, FragmentName, GroupId},
};
use parking_lot::RwLock;

use self::{
    digests::Digests,
    rows::Head,
    segments::{Entry, SegmentState, Segments, Totals},
    tree::{IndexError, Tree},
};
use super::{format::Place, memory::IndexMemory};

pub(crate) fn index_path(dir: &Path) -> PathBuf {
    dir.join("index")
}

/// The position in the log up to which the index knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub segment: u32,
    pub end: u64,
    pub next_batch: u64,
}

/// What becomes true with a record that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// `replaces`: the record that counted until now.
    Put { name: FragmentName, entry: Entry, replaces: Option<Entry> },
    /// `live`: the killed record, if it is the one that counts.
    Kill { at: Place, name: FragmentName, kills: Place, live: Option<Entry> },
}

/// What is known of the segments, and up to which position of the log.
#[derive(Debug, Default)]
struct State {
    segments: Segments,
    digests: Digests,
    position: Position,
    /// Changes since the last checkpoint.
    changed: bool,
}

/// Where every fragment of a disk lies, and how much of each segment is needed.
#[derive(Debug)]
pub(crate) struct Index {
    tree: Tree,
    disk: DiskId,
    /// Also held while rows change: a checkpoint sees all of a batch or nothing.
    state: RwLock<State>,
}

impl From<IndexError> for DiskError {
    fn from(error: IndexError) -> Self {
        Self::Io { operation: "read the index", why: error.to_string() }
    }
}

impl Index {
    /// Opens what is at `path`; the segments are as its last checkpoint knew them.
    pub(crate) fn open(path: &Path, disk: DiskId, memory: &IndexMemory) -> Result<Self, IndexError> {
        let tree = Tree::open(path, memory)?;
        let written = tree.get(&rows::HEAD_KEY)?.ok_or(IndexError::Missing)?;
        let head = rows::decode_head(&written)?;
        if head.disk != disk {
            return Err(IndexError::OtherDisk(head.disk.to_string()));
        }
        let mut segments = Segments::default();
        tree.range(&rows::SEGMENT_KEYS.0, false, &rows::SEGMENT_KEYS.1, |(key, row)| {
            segments.insert(rows::decode_segment_key(&key)?, rows::decode_segment(&row)?);
            Ok(true)
        })?;
        let position = Position { segment: head.segment, end: head.end, next_batch: head.next_batch };
        // Builds that know nothing of digests write heads alone.
        let digests = match tree.get(&rows::DIGESTS_KEY)? {
            Some(of) if of == written => read_digests(&tree)?,
            _ => count_digests(&tree)?,
        };
        Ok(Self { tree, disk, state: RwLock::new(State { segments, digests, position, changed: false }) })
    }

    /// An empty one at `path`, whatever was there.
    pub(crate) fn create(path: &Path, disk: DiskId, memory: &IndexMemory) -> Result<Self, IndexError> {
        Ok(Self { tree: Tree::create(path, memory)?, disk, state: RwLock::default() })
    }

    pub(crate) fn get(&self, name: &FragmentName) -> Result<Option<Entry>, IndexError> {
        let Some(row) = self.tree.get(&rows::name_key(name))? else { return Ok(None) };
        let entry = rows::decode_entry(&row)?;
        // A row may outlive the segment it points to, if that vanished.
        Ok(self.state.read().segments.contains(entry.place.segment).then_some(entry))
    }

    /// Fragments in name order from after `after`, of one group if given, at most `limit`.
    pub(crate) fn list(
        &self,
        group: Option<GroupId>,
        after: Option<FragmentName>,
        limit: usize,
    ) -> Result<Vec<(FragmentName, Entry)>, IndexError> {
        let first = |group| FragmentName { group, blob: BlobId([0; 16]), stripe: 0, position: 0 };
        let begin = first(group.unwrap_or(GroupId(0)));
        let (from, excluded) = match after {
            Some(after) if after >= begin => (after, true),
            _ => (begin, false),
        };
        let to = match group.and_then(|group| group.0.checked_add(1)) {
            Some(next) => rows::name_key(&first(GroupId(next))).to_vec(),
            None => vec![0xff],
        };
        let mut entries = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        self.tree.range(&rows::name_key(&from), excluded, &to, |(key, row)| {
            let entry = rows::decode_entry(&row)?;
            if self.state.read().segments.contains(entry.place.segment) {
                entries.push((rows::decode_name(&key)?, entry));
            }
            Ok(entries.len() < limit)
        })?;
        Ok(entries)
    }

    /// The digests of the parts of a range of blobs, of the fragments in one position of a group. Of all blobs they are
    /// kept; within a part the rows are looked through.
    pub(crate) fn digests(
        &self,
        group: GroupId,
        position: u8,
        range: BlobRange,
    ) -> Result<[NameDigest; PARTS], IndexError> {
        if range == BlobRange::ALL
            && let Some(parts) = self.state.read().digests.of((group, position))
        {
            return Ok(parts);
        }
        let mut parts = [NameDigest::default(); PARTS];
        let name = |blob, stripe, position| rows::name_key(&FragmentName { group, blob, stripe, position });
        let (from, to) = (name(range.first(), 0, 0), name(range.last(), u32::MAX, u8::MAX));
        // No blob has so many stripes that the last of these names could be one's.
        self.tree.range(&from, false, &to, |(key, _)| {
            let name = rows::decode_name(&key)?;
            if name.position == position {
                parts[range.part_of(name.blob)].add(name.blob, name.stripe);
            }
            Ok(true)
        })?;
        Ok(parts)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.state.read().segments.totals()
    }

    pub(crate) fn position(&self) -> Position {
        self.state.read().position
    }

    /// Looks at the segments.
    pub(crate) fn segments<T>(&self, look: impl FnOnce(&Segments) -> T) -> T {
        look(&self.state.read().segments)
    }

    /// Changes the segments, with no change to any fragment.
    pub(crate) fn change_segments<T>(&self, change: impl FnOnce(&mut Segments) -> T) -> T {
        let mut state = self.state.write();
        state.changed = true;
        change(&mut state.segments)
    }

    pub(crate) fn salt(&self, segment: u32) -> Option<u64> {
        self.state.read().segments.get(segment).map(|state| state.salt)
    }

    pub(crate) fn set_position(&self, position: Position) {
        self.state.write().position = position;
    }

    /// Makes a batch true, all of it at once for whoever takes a checkpoint.
    pub(crate) fn apply(&self, position: Position, effects: impl IntoIterator<Item = Effect>) {
        let mut state = self.state.write();
        state.segments.advance(position.segment, position.end);
        state.position = position;
        state.changed = true;
        for effect in effects {
            self.one(&mut state, effect);
        }
    }

    /// Makes one record true that a recovery has read.
    pub(crate) fn replay(&self, effect: Effect) {
        let mut state = self.state.write();
        state.changed = true;
        self.one(&mut state, effect);
    }

    fn one(&self, State { segments, digests, .. }: &mut State, effect: Effect) {
        let number = self.tree.next();
        match effect {
            Effect::Put { name, entry, replaces } => {
                self.tree.insert(number, &rows::name_key(&name), &rows::encode_entry(&entry));
                if replaces.is_none() {
                    digests.add(&name);
                }
                segments.put(entry, replaces);
            }
            Effect::Kill { at, name, kills, live } => {
                if live.is_some() {
                    self.tree.remove(number, &rows::name_key(&name));
                    digests.take(&name);
                }
                segments.kill(at, kills, live);
            }
        }
    }

    pub(crate) fn unflushed(&self) -> u64 {
        self.tree.unflushed()
    }

    pub(crate) fn has_changed(&self) -> bool {
        self.state.read().changed
    }

    /// Makes room in memory while the index is made anew: without a head, what is flushed is not believed by anyone.
    pub(crate) fn spill(&self) -> Result<(), IndexError> {
        self.tree.rotate();
        self.tree.flush()?;
        match self.tree.merge() {
            Err(IndexError::Full) => Ok(()),
            merged => merged,
        }
    }

    /// Makes the index durable as it is now. Returns the sealed segments that held no fragment at that instant, and so
    /// never will.
    pub(crate) fn checkpoint(&self) -> Result<Vec<u32>, IndexError> {
        let empty = self.seal_changes();
        if let Err(error) = self.tree.flush() {
            self.state.write().changed = true;
            return Err(error);
        }
        match self.tree.merge() {
            Ok(()) => {}
            // What was flushed is durable all the same, and removing what is empty now may give the space.
            Err(IndexError::Full) => {
                tracing::debug!("the tables of an index are not merged: there is too little space")
            }
            Err(error) => return Err(error),
        }
        Ok(empty)
    }

    fn seal_changes(&self) -> Vec<u32> {
        let mut state = self.state.write();
        let Position { segment, end, next_batch } = state.position;
        let head = Head { disk: self.disk, written_ms: now_ms(), next_batch, segment, end };
        let number = self.tree.next();
        for (segment, state) in state.segments.take_dirty() {
            self.tree.insert(number, &rows::segment_key(segment), &rows::encode_segment(&state));
        }
        let (digests, are_all) = state.digests.take_dirty();
        for ((group, position), parts) in digests {
            let key = rows::digest_key(group, position);
            match parts {
                Some(parts) => self.tree.insert(number, &key, &rows::encode_digests(&parts)),
                None => self.tree.remove(number, &key),
            }
        }
        let head = rows::encode_head(&head);
        if are_all {
            self.tree.insert(number, &rows::DIGESTS_KEY, &head);
        }
        self.tree.insert(number, &rows::HEAD_KEY, &head);
        self.tree.rotate();
        state.changed = false;
        state.segments.empty()
    }

    /// Forgets a segment whose file is gone.
    pub(crate) fn forget_segment(&self, segment: u32) -> Option<SegmentState> {
        let mut state = self.state.write();
        state.changed = true;
        self.tree.remove(self.tree.next(), &rows::segment_key(segment));
        state.segments.remove(segment)
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.tree.is_damaged()
    }

    pub(crate) fn close(&self) {
        self.tree.close();
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.tree.disk_bytes()
    }

    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.tree.pinned_bytes()
    }
}

fn read_digests(tree: &Tree) -> Result<Digests, IndexError> {
    let mut digests = Digests::default();
    tree.range(&rows::DIGEST_KEYS.0, false, &rows::DIGEST_KEYS.1, |(key, row)| {
        digests.insert(rows::decode_digest_key(&key)?, rows::decode_digests(&row)?);
        Ok(true)
    })?;
    Ok(digests)
}

/// By the names that there are, and whatever was written down before is replaced.
fn count_digests(tree: &Tree) -> Result<Digests, IndexError> {
    let mut digests = Digests::default();
    tree.range(&rows::DIGEST_KEYS.0, false, &rows::DIGEST_KEYS.1, |(key, _)| {
        digests.forget(rows::decode_digest_key(&key)?);
        Ok(true)
    })?;
    tree.range(&rows::NAME_KEYS.0, false, &rows::NAME_KEYS.1, |(key, _)| {
        digests.add(&rows::decode_name(&key)?);
        Ok(true)
    })?;
    Ok(digests)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(n: u8) -> FragmentName {
        FragmentName {
            group: GroupId(u32::from(n % 3)),
            blob: BlobId([n.wrapping_mul(37); 16]),
            stripe: n.into(),
            position: n % 2,
        }
    }

    fn put(index: &Index, n: u8) {
        let entry = Entry { place: Place { segment: 1, unit: u32::from(n) * 10 }, length: 7, written_ms: 1 };
        index.replay(Effect::Put { name: name(n), entry, replaces: None });
    }

    fn digests(index: &Index) -> Vec<[NameDigest; PARTS]> {
        let places = (0..3).flat_map(|group| [(GroupId(group), 0), (GroupId(group), 1)]);
        places.map(|(group, position)| index.digests(group, position, BlobRange::ALL).unwrap()).collect()
    }

    fn expected(names: impl Iterator<Item = u8> + Clone) -> Vec<[NameDigest; PARTS]> {
        let places = (0..3).flat_map(|group| [(GroupId(group), 0), (GroupId(group), 1)]);
        let of = |place| {
            let mut parts = [NameDigest::default(); PARTS];
            let names = names.clone().map(name).filter(|name| (name.group, name.position) == place);
            names.for_each(|name| parts[BlobRange::ALL.part_of(name.blob)].add(name.blob, name.stripe));
            parts
        };
        places.map(of).collect()
    }

    /// A build without digests writes a head and leaves the digests of before as they were.
    #[test]
    fn digests_that_another_build_left_behind_are_counted_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, disk, memory) = (folder.path().join("index"), DiskId([1; 16]), IndexMemory::default());
        let index = Index::create(&path, disk, &memory).unwrap();
        index.change_segments(|segments| segments.insert(1, SegmentState::new(3, 8192)));
        (0..50).for_each(|n| put(&index, n));
        index.checkpoint().unwrap();
        assert_eq!(digests(&index), expected(0..50));
        drop(index);
        let index = Index::open(&path, disk, &memory).unwrap();
        assert_eq!(digests(&index), expected(0..50));
        // One more fragment, and only the fragment and a head are written.
        index.tree.insert(
            index.tree.next(),
            &rows::name_key(&name(50)),
            &rows::encode_entry(&Entry { place: Place { segment: 1, unit: 7 }, length: 7, written_ms: 1 }),
        );
        let head = Head { disk, written_ms: 77, next_batch: 9, segment: 1, end: 8192 };
        index.tree.insert(index.tree.next(), &rows::HEAD_KEY, &rows::encode_head(&head));
        index.tree.rotate();
        index.tree.flush().unwrap();
        drop(index);
        let index = Index::open(&path, disk, &memory).unwrap();
        assert_eq!(digests(&index), expected(0..51));
        // From then on they are written down again.
        index.checkpoint().unwrap();
        drop(index);
        let index = Index::open(&path, disk, &memory).unwrap();
        assert_eq!(index.tree.get(&rows::DIGESTS_KEY).unwrap(), index.tree.get(&rows::HEAD_KEY).unwrap());
        assert_eq!(digests(&index), expected(0..51));
    }
}
