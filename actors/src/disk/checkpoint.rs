//! The index written down now and then, so that opening a disk reads one file and the tail of the log instead of every segment.
//! A checkpoint that is missing, damaged or of another version costs time, never data.
//!
//! ```text
//!  0  magic "CAIRNCKP"        8  version = 1, 7 zero bytes     16  disk id, 16 bytes
//! 32  written, ms, u64       40  next batch u64                48  tail: segment u32, end u64
//! 60  segments u32, then for each: number u32, sealed u8, salt u64, end u64,
//!                                  damaged u32 and that many (unit u32, units u32),
//!                                  tombstones about it u32 and that many (segment u32, unit u32)
//!  …  fragments in name order, in runs: count u32 and that many (group u32, blob 16, stripe u32, position u8,
//!                                  segment u32, unit u32, length u32, written u64); a run of 0 ends them
//!  …  xxh3-64 of all before it
//! ```
//!
//! It is written while the disk goes on serving: the segments and the tail's position are taken at one instant, the fragments a
//! little later, run by run. Replaying the log from the tail brings both to the same end, because tombstones name exactly what they kill.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
};

use cairn_schema::ids::{BlobId, DiskId, FragmentName, GroupId};
use xxhash_rust::xxh3::Xxh3;

use super::{
    DiskError,
    file::{disk_error, replace_file},
    format::Place,
    index::{Entry, Extent, SegmentState},
};

const MAGIC: &[u8; 8] = b"CAIRNCKP";
const VERSION: u8 = 1;
/// Fragments per run: how much of the index is locked at once.
pub const RUN: usize = 4096;
const ENTRY_BYTES: usize = 45;

pub fn checkpoint_path(dir: &Path) -> PathBuf {
    dir.join("checkpoint")
}

/// All but the fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub disk: Option<DiskId>,
    pub written_ms: u64,
    pub next_batch: u64,
    /// Everything before this position of the log is covered.
    pub tail_segment: u32,
    pub tail_end: u64,
}

#[derive(Debug, Default)]
pub struct Checkpoint {
    pub head: Head,
    /// `extents`, `keepers` and `punched` not worked out; `killers` as they were.
    pub segments: BTreeMap<u32, SegmentState>,
    pub fragments: BTreeMap<FragmentName, Entry>,
}

/// Why a checkpoint is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("there is none")]
    Missing,
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("its version is {0}")]
    Version(u8),
    #[error("it is of disk {0}")]
    OtherDisk(DiskId),
}

struct Hashing<T> {
    inner: T,
    hash: Xxh3,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    out.extend(place.segment.to_le_bytes());
    out.extend(place.unit.to_le_bytes());
}

fn encode_segment(out: &mut Vec<u8>, number: u32, segment: &SegmentState) {
    out.extend(number.to_le_bytes());
    out.push(u8::from(segment.sealed));
    out.extend(segment.salt.to_le_bytes());
    out.extend(segment.end.to_le_bytes());
    out.extend((segment.damaged.len() as u32).to_le_bytes());
    for extent in &segment.damaged {
        out.extend(extent.unit.to_le_bytes());
        out.extend(extent.units.to_le_bytes());
    }
    out.extend((segment.killers.len() as u32).to_le_bytes());
    for place in &segment.killers {
        put_place(out, *place);
    }
}

fn encode_entry(out: &mut Vec<u8>, name: &FragmentName, entry: &Entry) {
    out.extend(name.group.0.to_le_bytes());
    out.extend(name.blob.0);
    out.extend(name.stripe.to_le_bytes());
    out.push(name.position);
    put_place(out, entry.place);
    out.extend(entry.length.to_le_bytes());
    out.extend(entry.written_ms.to_le_bytes());
}

/// Writes a checkpoint in place of the last one. `run` gives the next fragments after a name, at most [`RUN`], none at the end.
/// Returns how many fragments it holds.
pub fn write<'a>(
    dir: &Path,
    disk: DiskId,
    head: &Head,
    segments: impl ExactSizeIterator<Item = (&'a u32, &'a SegmentState)>,
    mut run: impl FnMut(Option<FragmentName>) -> Vec<(FragmentName, Entry)>,
) -> Result<u64, DiskError> {
    let mut count = 0;
    replace_file(&checkpoint_path(dir), |file| {
        let mut out = Hashing { inner: file, hash: Xxh3::new() };
        let mut buffer = Vec::with_capacity(64 * 1024);
        buffer.extend(MAGIC);
        buffer.extend([VERSION, 0, 0, 0, 0, 0, 0, 0]);
        buffer.extend(disk.0);
        buffer.extend(head.written_ms.to_le_bytes());
        buffer.extend(head.next_batch.to_le_bytes());
        buffer.extend(head.tail_segment.to_le_bytes());
        buffer.extend(head.tail_end.to_le_bytes());
        buffer.extend((segments.len() as u32).to_le_bytes());
        for (number, segment) in segments {
            encode_segment(&mut buffer, *number, segment);
            out.write_all(&buffer)?;
            buffer.clear();
        }
        let mut after = None;
        loop {
            let entries = run(after);
            buffer.extend((entries.len() as u32).to_le_bytes());
            for (name, entry) in &entries {
                encode_entry(&mut buffer, name, entry);
            }
            out.write_all(&buffer)?;
            buffer.clear();
            count += entries.len() as u64;
            let Some((last, _)) = entries.last() else { break };
            after = Some(*last);
        }
        let sum = out.hash.digest();
        out.inner.write_all(&sum.to_le_bytes())
    })?;
    Ok(count)
}

struct Source {
    inner: BufReader<File>,
    hash: Xxh3,
    left: u64,
}

impl Source {
    fn bytes(&mut self, out: &mut [u8]) -> Result<(), Unusable> {
        self.left = self.left.checked_sub(out.len() as u64).ok_or(Unusable::Damaged("it ends early"))?;
        self.inner.read_exact(out)?;
        self.hash.update(out);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unusable> {
        let mut out = [0; N];
        self.bytes(&mut out)?;
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, Unusable> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Unusable> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things of at least `each` bytes: never more than the file can hold, whatever damage says.
    fn count(&mut self, each: u64) -> Result<usize, Unusable> {
        let count = self.u32()?;
        if u64::from(count) * each > self.left {
            return Err(Unusable::Damaged("a count exceeds the file"));
        }
        Ok(count as usize)
    }

    fn place(&mut self) -> Result<Place, Unusable> {
        Ok(Place { segment: self.u32()?, unit: self.u32()? })
    }

    fn segment(&mut self) -> Result<(u32, SegmentState), Unusable> {
        let number = self.u32()?;
        let [sealed] = self.array()?;
        let mut segment =
            SegmentState { sealed: sealed != 0, salt: self.u64()?, end: self.u64()?, ..SegmentState::default() };
        for _ in 0..self.count(8)? {
            segment.damaged.push(Extent { unit: self.u32()?, units: self.u32()? });
        }
        for _ in 0..self.count(8)? {
            segment.killers.push(self.place()?);
        }
        Ok((number, segment))
    }

    fn entry(&mut self) -> Result<(FragmentName, Entry), Unusable> {
        let raw: [u8; ENTRY_BYTES] = self.array()?;
        let u32_at = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let (mut blob, mut written) = ([0; 16], [0; 8]);
        blob.copy_from_slice(&raw[4..20]);
        written.copy_from_slice(&raw[37..45]);
        let name =
            FragmentName { group: GroupId(u32_at(0)), blob: BlobId(blob), stripe: u32_at(20), position: raw[24] };
        let place = Place { segment: u32_at(25), unit: u32_at(29) };
        Ok((name, Entry { place, length: u32_at(33), written_ms: u64::from_le_bytes(written) }))
    }
}

/// Reads the checkpoint of `disk`, verified as a whole before anything of it is believed.
pub fn read(dir: &Path, disk: DiskId) -> Result<Checkpoint, Unusable> {
    let file = match File::open(checkpoint_path(dir)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Unusable::Missing),
        Err(error) => return Err(error.into()),
    };
    let left = file.metadata()?.len();
    let mut source = Source { inner: BufReader::with_capacity(1 << 20, file), hash: Xxh3::new(), left };
    if &source.array::<8>()? != MAGIC {
        return Err(Unusable::Damaged("wrong magic"));
    }
    let version = source.array::<8>()?[0];
    if version != VERSION {
        return Err(Unusable::Version(version));
    }
    let owner = DiskId(source.array()?);
    if owner != disk {
        return Err(Unusable::OtherDisk(owner));
    }
    let head = Head {
        disk: Some(owner),
        written_ms: source.u64()?,
        next_batch: source.u64()?,
        tail_segment: source.u32()?,
        tail_end: source.u64()?,
    };
    let mut segments = BTreeMap::new();
    for _ in 0..source.count(29)? {
        let (number, segment) = source.segment()?;
        segments.insert(number, segment);
    }
    let mut entries = Vec::new();
    loop {
        let count = source.count(ENTRY_BYTES as u64)?;
        if count == 0 {
            break;
        }
        entries.reserve(count);
        for _ in 0..count {
            entries.push(source.entry()?);
        }
    }
    let sum = source.hash.digest();
    if source.u64()? != sum {
        return Err(Unusable::Damaged("checksum mismatch"));
    }
    if source.left != 0 {
        return Err(Unusable::Damaged("bytes follow its end"));
    }
    Ok(Checkpoint { head, segments, fragments: entries.into_iter().collect() })
}

/// Removes the checkpoint, so that the next opening reads every segment.
pub fn remove(dir: &Path) -> Result<(), DiskError> {
    let path = checkpoint_path(dir);
    match std::fs::remove_file(&path) {
        Ok(()) => super::file::sync_dir(dir),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(disk_error("remove checkpoint", &path, error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample(dir: &Path) -> (Head, BTreeMap<u32, SegmentState>, BTreeMap<FragmentName, Entry>) {
        let disk = DiskId([3; 16]);
        let head = Head { disk: Some(disk), written_ms: 5, next_batch: 6, tail_segment: 2, tail_end: 9000 };
        let mut segments = BTreeMap::new();
        segments.insert(1, SegmentState { sealed: true, ..SegmentState::new(11, 8192) });
        let second = SegmentState {
            damaged: vec![Extent { unit: 128, units: 2 }],
            killers: vec![Place { segment: 1, unit: 130 }],
            ..SegmentState::new(12, 9000)
        };
        segments.insert(2, second);
        let mut fragments = BTreeMap::new();
        for n in 0..10_000 {
            let name = FragmentName { group: GroupId(n), blob: BlobId([n as u8; 16]), stripe: 1, position: 2 };
            fragments.insert(name, Entry { place: Place { segment: 1, unit: n }, length: n, written_ms: u64::from(n) });
        }
        let count = write(dir, disk, &head, segments.iter(), |after| {
            let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            fragments.range((from, std::ops::Bound::Unbounded)).take(RUN).map(|(n, e)| (*n, *e)).collect()
        });
        assert_eq!(count.unwrap(), 10_000);
        (head, segments, fragments)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path(), DiskId([3; 16])), Err(Unusable::Missing)));
        let (head, segments, fragments) = sample(dir.path());
        let back = read(dir.path(), DiskId([3; 16])).unwrap();
        assert_eq!(back.head, head);
        assert_eq!(back.fragments, fragments);
        assert_eq!(back.segments.len(), 2);
        assert_eq!(back.segments[&2].damaged, segments[&2].damaged);
        assert_eq!(back.segments[&2].killers, segments[&2].killers);
        assert!(back.segments[&1].sealed && !back.segments[&2].sealed);
        assert!(matches!(read(dir.path(), DiskId([4; 16])), Err(Unusable::OtherDisk(_))));
    }

    #[test]
    fn any_damage_makes_it_unusable() {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path());
        let path = checkpoint_path(dir.path());
        let good = std::fs::read(&path).unwrap();
        for step in 0..400 {
            let at = if step < 200 { step } else { step * 1117 % good.len() };
            let mut bad = good.clone();
            bad[at] ^= 1 << (step % 8);
            std::fs::write(&path, &bad).unwrap();
            assert!(read(dir.path(), DiskId([3; 16])).is_err(), "byte {at}");
        }
        for end in [0, 7, 40, 60, 100, good.len() - 1] {
            std::fs::write(&path, &good[..end]).unwrap();
            assert!(read(dir.path(), DiskId([3; 16])).is_err(), "cut at {end}");
        }
    }
}
