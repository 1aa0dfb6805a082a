//! The writer's segments: tidied at the start, begun, sealed, thinned out, removed.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use super::{
    DiskError,
    file::{disk_error, preallocate, punch_hole, sync_dir},
    format::SEGMENT_HEADER_BYTES,
    identity::DiskLock,
    index::Freed,
    recover::Leftovers,
    segment::{self, Active, segments_dir},
    state::Core,
    writer::{TOMBSTONE_ROOM, Writer},
};

/// A segment made on a nearly full disk for tombstones only.
const SMALL_SEGMENT: u64 = 1 << 20;
/// Units are counted in 32 bits.
const LARGEST_SEGMENT: u64 = 1 << 37;

impl Writer {
    /// Makes the recovered state durable and tidy, and finds the segment to go on with.
    pub fn prepare(core: Arc<Core>, lock: DiskLock, leftovers: Leftovers) -> Result<Self, DiskError> {
        let Leftovers { ghosts, empty, stale, scanned } = leftovers;
        let (last_segment, _, next_batch) = *core.position.lock();
        let mut writer = Self {
            core,
            _lock: lock,
            active: None,
            batch: None,
            next_batch,
            last_segment,
            ghosts,
            failures: 0,
            touched: BTreeSet::new(),
            finished: false,
        };
        match writer.settle(&stale, empty, &scanned) {
            Ok(()) => Ok(writer),
            // A disk that can only be read is better than none.
            Err(error @ DiskError::ReadOnly(_)) => {
                writer.core.failed.store(Some(Arc::new(error.to_string())));
                Ok(writer)
            }
            Err(error) => Err(error),
        }
    }

    fn settle(&mut self, stale: &BTreeSet<u32>, empty: Option<u32>, scanned: &[u32]) -> Result<(), DiskError> {
        let core = self.core.clone();
        let mounted =
            rustix::fs::statvfs(&core.dir).map_err(|errno| disk_error("stat file system", &core.dir, errno))?;
        if mounted.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Err(DiskError::ReadOnly(format!("{} is mounted read-only", core.dir.display())));
        }
        if let Some(number) = empty {
            let path = core.files.path(number);
            core.files.forget(number);
            std::fs::remove_file(&path).map_err(|error| disk_error("remove empty segment", &path, error))?;
            sync_dir(&segments_dir(&core.dir))?;
        }
        // A record that a crashed process left in the page cache is as good as any other only once it is synced.
        for number in scanned {
            let (file, path) = (core.files.get(*number)?, core.files.path(*number));
            file.sync_all().map_err(|error| disk_error("sync segment", &path, error))?;
        }
        let last =
            core.index.read().segments.iter().next_back().map(|(number, state)| (*number, state.without_extents()));
        let unsealed = last.filter(|(_, state)| !state.sealed).map(|(number, state)| (number, state.salt, state.end));
        if let Some((number, salt, end)) = unsealed {
            self.resume(number, salt, end)?;
        }
        if let Some((number, state)) = core.index.read().segments.iter().next_back() {
            *core.position.lock() = (*number, state.end, self.next_batch);
        }
        for number in stale {
            let gaps = core.index.read().segments.get(number).map(|state| state.gaps()).unwrap_or_default();
            self.punch(gaps.into_iter().map(|bytes| Freed { segment: *number, bytes }).collect());
        }
        self.touched.extend(core.index.read().segments.keys());
        self.remove_empty();
        Ok(())
    }

    /// Goes on with the last segment: what a crash left behind its end is cut off, what is in it is made durable.
    fn resume(&mut self, number: u32, salt: u64, end: u64) -> Result<(), DiskError> {
        let core = self.core.clone();
        let (file, path) = (core.files.get(number)?, core.files.path(number));
        let fail = |error| disk_error("cut off the torn tail", &path, error);
        file.set_len(end).map_err(fail)?;
        let capacity = core.options.segment_bytes.min(LARGEST_SEGMENT);
        if end + TOMBSTONE_ROOM < capacity {
            match preallocate(&file, &path, capacity) {
                Ok(()) => {}
                Err(DiskError::Full { .. }) => return self.retire(number, &file),
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
        self.core.index.write().seal(number);
        Ok(())
    }

    /// How large a new segment may be that must take `needed` bytes of records.
    pub(super) fn segment_capacity(&self, needed: u64, data: bool) -> Result<u64, DiskError> {
        let core = &self.core;
        core.refresh_space();
        let needed = (SEGMENT_HEADER_BYTES + needed).next_multiple_of(4096);
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
                core.index.write().add_segment(number, active.salt);
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
        let Some(active) = self.active.take() else { return };
        self.core.index.write().seal(active.number);
        // Gives the rest of the preallocated space back. If that fails the space is merely wasted.
        if let Err(error) = active.file.set_len(active.end) {
            tracing::warn!(path = %active.path.display(), %error, "a sealed segment keeps its preallocated space");
        }
        self.touched.insert(active.number);
        self.note_preallocated();
        self.remove_empty();
    }

    pub(super) fn note_preallocated(&self) {
        let rest = self.active.as_ref().map_or(0, |active| active.capacity.saturating_sub(active.end));
        self.core.space.preallocated.store(rest, Ordering::Relaxed);
    }

    /// Gives pages back. Their tombstones are durable; failing is only a waste of space.
    pub(super) fn punch(&self, freed: Vec<Freed>) {
        if !self.core.can_punch.load(Ordering::Relaxed) {
            return;
        }
        for Freed { segment, bytes } in freed {
            let path = self.core.files.path(segment);
            let punched = self
                .core
                .files
                .get(segment)
                .and_then(|file| punch_hole(&file, &path, bytes.start, bytes.end - bytes.start));
            match punched {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(disk = %self.core.identity.disk, "the file system cannot punch holes: only whole segments are given back");
                    return self.core.can_punch.store(false, Ordering::Relaxed);
                }
                Err(error) => tracing::warn!(%error, "pages not given back"),
            }
        }
    }

    /// Removes the touched segments that hold nothing any more, and those that only held tombstones about them.
    pub(super) fn remove_empty(&mut self) {
        while let Some(number) = self.touched.pop_first() {
            if !self.core.index.read().is_removable(number) {
                continue;
            }
            let path = self.core.files.path(number);
            let killers = self.core.index.write().remove_segment(number);
            self.core.files.forget(number);
            let removed = std::fs::remove_file(&path)
                .map_err(|error| disk_error("remove segment", &path, error))
                .and_then(|()| sync_dir(&segments_dir(&self.core.dir)));
            if let Err(error) = removed {
                // The file may come back, so its tombstones stay; the next opening tries again.
                tracing::warn!(%error, "an empty segment was not removed");
                continue;
            }
            self.touched.extend(killers.iter().map(|place| place.segment));
            let freed = self.core.index.write().removed(killers);
            self.core.changes.fetch_add(1, Ordering::Release);
            self.punch(freed);
        }
    }
}
