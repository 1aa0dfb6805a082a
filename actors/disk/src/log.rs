//! The log of a disk: the segment that records are appended to, and the batch that is planned for it.
//!
//! A batch is written with one vectored write and one fdatasync, and only then made true in the index. One that failed
//! is cut off before anything else is written, and its segment sealed. Nothing but this changes a segment.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::MetadataExt,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use cairn_fragment::DiskError;
use cairn_schema::clock::now_ms;

use super::{
    batch::Batch,
    file::{disk_error, preallocate, sync_dir},
    format::{Place, RecordHeader, SEGMENT_HEADER_BYTES},
    holes::Holes,
    index::{
        Position,
        segments::{Extent, SegmentState},
    },
    recover::Leftovers,
    segment::{self, Active, segments_dir},
    state::Core,
};

/// Kept free at the end of every segment for tombstones, so that a delete rarely needs a new segment on a full disk.
const TOMBSTONE_ROOM: u64 = 64 << 10;
/// This many batches in a row fail before the disk is called failed.
const FAILURES: u32 = 3;

/// A segment made on a nearly full disk for tombstones only.
const SMALL_SEGMENT: u64 = 1 << 20;
/// Units are counted in 32 bits.
const LARGEST_SEGMENT: u64 = 1 << 37;

/// The size of a segment that takes `needed` bytes of records and nothing more.
fn least_segment(needed: u64) -> u64 {
    (SEGMENT_HEADER_BYTES + needed).next_multiple_of(4096)
}

/// The segments as their writer sees them: the one that takes records, the batch that gathers, and what failed.
pub(super) struct Log {
    core: Arc<Core>,
    active: Option<Active>,
    batch: Option<Batch>,
    next_batch: u64,
    last_segment: u32,
    /// Batches in a row that failed,
    failures: u32,
    /// and all that ever did.
    failed_batches: u64,
    holes: Holes,
}

impl Log {
    /// Makes the recovered state durable and tidy, and finds the segment to go on with.
    pub(crate) fn resume(core: Arc<Core>, last_segment: u32, leftovers: Leftovers) -> Result<Self, DiskError> {
        let Leftovers { torn, empty, dead, scanned } = leftovers;
        let mut log = Self {
            holes: Holes::begin(core.clone())?,
            next_batch: core.index.position().next_batch,
            core,
            active: None,
            batch: None,
            last_segment,
            failures: 0,
            failed_batches: 0,
        };
        // Of a disk whose log could not be read nothing is tidied up.
        if log.core.failed.load().is_some() {
            return Ok(log);
        }
        match log.settle(&torn, dead, empty, &scanned) {
            Ok(()) => Ok(log),
            // A disk that can only be read is better than none.
            Err(error @ DiskError::ReadOnly(_)) => {
                log.core.failed.store(Some(Arc::new(error.to_string())));
                Ok(log)
            }
            Err(error) => Err(error),
        }
    }

    /// The batch that is planned now.
    pub(crate) fn batch(&self) -> Option<&Batch> {
        self.batch.as_ref()
    }

    pub(crate) fn batch_mut(&mut self) -> Option<&mut Batch> {
        self.batch.as_mut()
    }

    /// How many batches have failed since the disk was opened.
    pub(crate) fn failed_batches(&self) -> u64 {
        self.failed_batches
    }

    /// Nothing more will be appended.
    pub(crate) fn finish(&self) {
        self.give_back_preallocated();
    }

    fn settle(
        &mut self,
        torn: &[(Place, RecordHeader)],
        dead: HashMap<u32, Vec<Extent>>,
        empty: Option<u32>,
        scanned: &[u32],
    ) -> Result<(), DiskError> {
        let core = self.core.clone();
        if core.aside.is_some() {
            return Err(DiskError::ReadOnly(format!("{} is mounted read-only", core.dir.display())));
        }
        if let Some(number) = empty {
            let path = core.files.path(number);
            core.files.forget(number);
            std::fs::remove_file(&path).map_err(|error| disk_error("remove empty segment", &path, error))?;
            sync_dir(&segments_dir(&core.dir))?;
        }
        for (place, header) in torn {
            let (file, path) = (core.files.get(place.segment)?, core.files.path(place.segment));
            let Some(salt) = core.index.salt(place.segment) else { continue };
            let void = header.voided().encode(&[], salt, place.unit);
            core.io.write_all_at(&file, &path, &[&void], place.offset())?;
        }
        // A record that a crashed process left in the page cache is as good as any other only once it is synced.
        for number in scanned {
            let (file, path) = (core.files.get(*number)?, core.files.path(*number));
            file.sync_all().map_err(|error| disk_error("sync segment", &path, error))?;
        }
        let last = core.index.segments(|segments| {
            let newest = segments.iter().next_back();
            newest.map(|(number, state)| (number, state.sealed, state.salt, state.end))
        });
        self.measure()?;
        if let Some((number, false, salt, end)) = last {
            self.go_on_with(number, salt, end)?;
        }
        for (segment, extents) in dead {
            let places = extents.into_iter().map(|extent| (Place { segment, unit: extent.unit }, extent.units));
            self.holes.punch(places);
        }
        Ok(())
    }

    /// What each segment takes from the file system is asked once; from then on it is counted.
    fn measure(&self) -> Result<(), DiskError> {
        let core = &self.core;
        let numbers: Vec<u32> = core.index.segments(|segments| segments.iter().map(|(number, _)| number).collect());
        for number in numbers {
            let path = core.files.path(number);
            let file = std::fs::metadata(&path).map_err(|error| disk_error("stat segment", &path, error))?;
            core.index.change_segments(|segments| segments.measured(number, file.blocks() * 512));
        }
        Ok(())
    }

    /// Goes on with the last segment: what a crash left behind its end is cut off, what is in it is made durable.
    fn go_on_with(&mut self, number: u32, salt: u64, end: u64) -> Result<(), DiskError> {
        let core = self.core.clone();
        let (file, path) = (core.files.get(number)?, core.files.path(number));
        let fail = |error| disk_error("cut off the torn tail", &path, error);
        file.set_len(end).map_err(fail)?;
        core.refresh_space();
        // No more than what new data may take: the reserve is for deletes.
        let spendable = core.space.free.load(Ordering::Relaxed).saturating_sub(core.options.reserved_bytes);
        let wanted = core.options.segment_bytes.min(LARGEST_SEGMENT);
        let capacity = wanted.min(end.saturating_add(spendable / 4096 * 4096)).max(end);
        if end + TOMBSTONE_ROOM < capacity {
            match preallocate(&file, &path, end..capacity) {
                Ok(()) => {}
                Err(DiskError::Full { .. }) => {
                    // Some file systems keep what they had allocated until then.
                    file.set_len(end).map_err(fail)?;
                    return self.retire(number, &file);
                }
                Err(error) => return Err(error),
            }
        }
        file.sync_all().map_err(|error| disk_error("sync segment", &path, error))?;
        self.active = Some(Active { number, file, path, salt, end, capacity });
        self.note_preallocated();
        Ok(())
    }

    fn retire(&mut self, number: u32, file: &File) -> Result<(), DiskError> {
        file.sync_all().map_err(|error| disk_error("sync segment", &self.core.files.path(number), error))?;
        self.core.index.change_segments(|segments| segments.seal(number));
        Ok(())
    }

    /// Jobs may have been gathered before the disk failed, and wait behind the batch that made it fail.
    pub(crate) fn still_takes(&self) -> Result<(), DiskError> {
        match self.core.failed.load().as_deref() {
            Some(why) => Err(DiskError::ReadOnly(why.clone())),
            None => Ok(()),
        }
    }

    /// The batch, with room for `bytes` more in its segment; begins a new segment when the active one has none.
    pub(crate) fn room(&mut self, bytes: u64, data: bool) -> Result<&mut Batch, DiskError> {
        let spare = if data { TOMBSTONE_ROOM } else { 0 };
        let planned = self.batch.as_ref().map_or(0, |batch| batch.bytes);
        let fits = self.active.as_ref().is_some_and(|active| active.end + planned + bytes + spare <= active.capacity);
        if !fits {
            // Before anything is sealed: on a full disk the active segment still has room for tombstones.
            let needed = bytes + TOMBSTONE_ROOM;
            let capacity = self.segment_capacity(needed, data)?;
            self.commit();
            self.still_takes()?;
            self.seal();
            match self.begin_segment(capacity) {
                // Somebody else took the reserve: a delete makes do with the least that serves.
                Err(DiskError::Full { .. }) if !data => self.begin_segment(least_segment(needed))?,
                begun => begun?,
            }
        }
        if self.batch.is_none() {
            self.batch = self.new_batch();
        }
        self.batch.as_mut().ok_or_else(|| DiskError::Gone("no segment to write to".into()))
    }

    fn new_batch(&mut self) -> Option<Batch> {
        let active = self.active.as_ref()?;
        let batch = Batch::new(self.next_batch, active.number, active.salt, active.end, now_ms());
        self.next_batch += 1;
        Some(batch)
    }

    /// Writes the batch, syncs it, makes it true and tells everyone.
    pub(crate) fn commit(&mut self) {
        let Some(mut batch) = self.batch.take() else { return };
        if batch.records() == 0 {
            return batch.answer(&Ok(()));
        }
        match self.write(&batch) {
            Ok(()) => {
                self.failures = 0;
                let dead = self.apply(&mut batch);
                self.core.refresh_space();
                batch.answer(&Ok(()));
                self.holes.punch(dead);
            }
            Err(error) => {
                tracing::error!(disk = %self.core.identity.disk, segment = batch.segment, %error, "a write failed, and those who asked for it are told so");
                self.failed_batches += 1;
                self.cut_off();
                // Never trusted again for appends: what the kernel kept of it is unknown.
                self.seal();
                self.failed_once(&error);
                self.core.refresh_space();
                batch.answer(&Err(error));
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<(), DiskError> {
        let Some(active) = &mut self.active else { return Err(DiskError::Gone("no segment to write to".into())) };
        let core = &self.core;
        core.io.write_all_at(&active.file, &active.path, &batch.slices(), batch.start)?;
        let started = Instant::now();
        core.io.sync_data(&active.file, &active.path, batch.start..batch.start + batch.bytes)?;
        core.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        core.metrics.batch_records.observe(batch.records() as f64);
        core.metrics.batch_bytes.observe(batch.bytes as f64);
        core.metrics.written_bytes.inc_by(batch.bytes);
        active.end = batch.start + batch.bytes;
        self.note_preallocated();
        Ok(())
    }

    /// Returns the records that are dead now.
    fn apply(&mut self, batch: &mut Batch) -> Vec<(Place, u32)> {
        let position = Position { segment: batch.segment, end: batch.start + batch.bytes, next_batch: self.next_batch };
        self.core.index.apply(position, batch.effects.drain(..));
        std::mem::take(&mut batch.dead)
    }

    /// Counts a failure; the disk is given up after several in a row, at once when it is gone or read-only.
    fn failed_once(&mut self, error: &DiskError) {
        match error {
            DiskError::Full { .. } => return,
            DiskError::ReadOnly(_) | DiskError::Gone(_) => self.failures = FAILURES,
            _ => self.failures += 1,
        }
        if self.failures >= FAILURES {
            tracing::error!(disk = %self.core.identity.disk, %error, "the disk takes no more writes");
            self.core.failed.store(Some(Arc::new(error.to_string())));
        }
    }

    /// How large a new segment may be that must take `needed` bytes of records.
    fn segment_capacity(&self, needed: u64, data: bool) -> Result<u64, DiskError> {
        let core = &self.core;
        core.refresh_space();
        let needed = least_segment(needed);
        let (free, reserved) = (core.space.free.load(Ordering::Relaxed), core.options.reserved_bytes);
        let wanted = core.options.segment_bytes.min(LARGEST_SEGMENT).max(needed);
        let spendable = free.saturating_sub(reserved);
        if spendable >= wanted {
            Ok(wanted)
        } else if data && spendable < needed {
            Err(DiskError::Full { free, reserved })
        } else if data {
            Ok(spendable / 4096 * 4096)
        } else {
            Ok(needed.max(SMALL_SEGMENT.min(wanted)))
        }
    }

    fn begin_segment(&mut self, capacity: u64) -> Result<(), DiskError> {
        let core = self.core.clone();
        let number =
            self.last_segment.checked_add(1).ok_or_else(|| DiskError::ReadOnly("out of segment numbers".into()))?;
        match segment::create(&core.io, &core.dir, core.identity.disk, number, capacity) {
            Ok(active) => {
                self.last_segment = number;
                let state = SegmentState::new(active.salt, SEGMENT_HEADER_BYTES);
                core.index.change_segments(|segments| segments.insert(number, state));
                core.files.insert(number, active.file.clone());
                self.active = Some(active);
                self.note_preallocated();
                Ok(())
            }
            Err(error) => {
                // The number may be on the disk already: it is not used again.
                self.last_segment = number;
                self.failed_once(&error);
                Err(error)
            }
        }
    }

    fn seal(&mut self) {
        self.give_back_preallocated();
        let Some(active) = self.active.take() else { return };
        self.core.index.change_segments(|segments| segments.seal(active.number));
        self.note_preallocated();
    }

    /// Cuts off what a failed batch may have left, before anything is written after it: a replay would take a move or a
    /// tombstone of that batch for true. A disk that cannot even do that takes no more writes; its next opening finds
    /// that batch to be the last.
    fn cut_off(&self) {
        let Some(active) = &self.active else { return };
        if let Err(error) = self.core.io.cut_off(&active.file, &active.path, active.end) {
            self.core.fail(format!("what a failed batch left cannot be cut off: {error}"));
        }
    }

    /// Cuts the active segment off where its records end. If that fails the space is merely wasted.
    fn give_back_preallocated(&self) {
        if let Some(active) = &self.active
            && let Err(error) = active.file.set_len(active.end)
        {
            tracing::warn!(path = %active.path.display(), %error, "a segment keeps its preallocated space");
        }
    }

    fn note_preallocated(&self) {
        let rest = self.active.as_ref().map_or(0, |active| active.capacity.saturating_sub(active.end));
        self.core.space.preallocated.store(rest, Ordering::Relaxed);
    }
}
