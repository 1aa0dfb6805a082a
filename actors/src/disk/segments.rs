//! The writer's segments: tidied at the start, begun, sealed, thinned out.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{
    compact::Compaction,
    file::{disk_error, preallocate, sync_dir},
    format::{Place, RecordHeader, SEGMENT_HEADER_BYTES},
    holes::Holes,
    identity::DiskLock,
    index::segments::{Extent, SegmentState},
    recover::Leftovers,
    segment::{self, Active, segments_dir},
    state::Core,
    writer::{TOMBSTONE_ROOM, Writer},
};
use crate::fragment::DiskError;

/// A segment made on a nearly full disk for tombstones only.
const SMALL_SEGMENT: u64 = 1 << 20;
/// Units are counted in 32 bits.
const LARGEST_SEGMENT: u64 = 1 << 37;

/// The size of a segment that takes `needed` bytes of records and nothing more.
pub(super) fn least_segment(needed: u64) -> u64 {
    (SEGMENT_HEADER_BYTES + needed).next_multiple_of(4096)
}

impl Writer {
    /// Makes the recovered state durable and tidy, and finds the segment to go on with.
    pub fn prepare(
        core: Arc<Core>,
        lock: DiskLock,
        last_segment: u32,
        leftovers: Leftovers,
    ) -> Result<Self, DiskError> {
        let Leftovers { torn, empty, dead, scanned } = leftovers;
        let next_batch = core.index.position().next_batch;
        let mut writer = Self {
            holes: Holes::begin(core.clone())?,
            core,
            _lock: lock,
            active: None,
            batch: None,
            next_batch,
            last_segment,
            failures: 0,
            failed_batches: 0,
            checkpoint_begun: Instant::now(),
            compaction: Compaction::default(),
            finished: false,
        };
        match writer.settle(&torn, dead, empty, &scanned) {
            Ok(()) => Ok(writer),
            // A disk that can only be read is better than none.
            Err(error @ DiskError::ReadOnly(_)) => {
                writer.core.failed.store(Some(Arc::new(error.to_string())));
                Ok(writer)
            }
            Err(error) => Err(error),
        }
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
            self.resume(number, salt, end)?;
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
            let found = std::fs::metadata(&path).map_err(|error| disk_error("stat segment", &path, error))?;
            core.index.change_segments(|segments| segments.measured(number, found.blocks() * 512));
        }
        Ok(())
    }

    /// Goes on with the last segment: what a crash left behind its end is cut off, what is in it is made durable.
    fn resume(&mut self, number: u32, salt: u64, end: u64) -> Result<(), DiskError> {
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

    fn retire(&mut self, number: u32, file: &std::fs::File) -> Result<(), DiskError> {
        file.sync_all().map_err(|error| disk_error("sync segment", &self.core.files.path(number), error))?;
        self.core.index.change_segments(|segments| segments.seal(number));
        Ok(())
    }

    /// How large a new segment may be that must take `needed` bytes of records.
    pub(super) fn segment_capacity(&self, needed: u64, data: bool) -> Result<u64, DiskError> {
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

    pub(super) fn begin_segment(&mut self, capacity: u64) -> Result<(), DiskError> {
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

    pub(super) fn seal(&mut self) {
        self.give_back_preallocated();
        let Some(active) = self.active.take() else { return };
        self.core.index.change_segments(|segments| segments.seal(active.number));
        self.note_preallocated();
    }

    /// Cuts off what a failed batch may have left, before anything is written after it: a replay would take a move or a tombstone of
    /// that batch for true. A disk that cannot even do that takes no more writes; its next opening finds that batch to be the last.
    pub(super) fn cut_off(&self) {
        let Some(active) = &self.active else { return };
        if let Err(error) = self.core.io.cut_off(&active.file, &active.path, active.end) {
            self.core.fail(format!("what a failed batch left cannot be cut off: {error}"));
        }
    }

    /// Cuts the active segment off where its records end. If that fails the space is merely wasted.
    pub(super) fn give_back_preallocated(&self) {
        if let Some(active) = &self.active
            && let Err(error) = active.file.set_len(active.end)
        {
            tracing::warn!(path = %active.path.display(), %error, "a segment keeps its preallocated space");
        }
    }

    pub(super) fn note_preallocated(&self) {
        let rest = self.active.as_ref().map_or(0, |active| active.capacity.saturating_sub(active.end));
        self.core.space.preallocated.store(rest, Ordering::Relaxed);
    }
}
