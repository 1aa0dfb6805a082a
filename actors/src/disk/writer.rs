//! The writer: one thread per disk that takes whatever has gathered, writes it with one vectored write and one fdatasync, and
//! only then tells those who wait (DUR-2). Nothing but this thread changes a segment or the index.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use cairn_schema::ids::FragmentName;

use super::{
    DiskError, NewFragment,
    batch::{Batch, Effect, Pending},
    engine::Core,
    file::{disk_error, preallocate, punch_hole, sync_dir},
    format::{Place, SEGMENT_HEADER_BYTES, UNIT, fragment_units},
    identity::DiskLock,
    index::{Entry, Freed},
    now_ms,
    queue::{Delete, Job, Put},
    recover::{Ghost, Leftovers},
    segment::{self, Active, segments_dir},
};

/// Bytes taken from the queue at once: bounds how long the first waits for the last.
const BATCH_BYTES: usize = 32 << 20;
/// Kept free at the end of every segment for tombstones, so that a delete rarely needs a new segment on a full disk.
const TOMBSTONE_ROOM: u64 = 64 << 10;
/// A segment made on a nearly full disk for tombstones only.
const SMALL_SEGMENT: u64 = 1 << 20;
/// Units are counted in 32 bits.
const LARGEST_SEGMENT: u64 = 1 << 37;
/// This many batches in a row fail before the disk is called failed.
const FAILURES: u32 = 3;

/// What to do about a fragment that is already here.
enum Existing {
    Same,
    Other,
    Damaged,
}

pub struct Writer {
    core: Arc<Core>,
    _lock: DiskLock,
    active: Option<Active>,
    batch: Option<Batch>,
    next_batch: u64,
    last_segment: u32,
    ghosts: Vec<Ghost>,
    failures: u32,
    /// Segments in which something died since they were last looked at.
    touched: BTreeSet<u32>,
    finished: bool,
}

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

    /// Until the queue is closed and empty.
    pub fn run(mut self) {
        self.begin_ghosts();
        self.commit();
        let core = self.core.clone();
        while let Some(jobs) = core.queue.take(BATCH_BYTES) {
            core.busy_since.store(now_ms(), Ordering::Relaxed);
            for job in jobs {
                match job {
                    Job::Put(put) => self.put(put),
                    Job::Delete(delete) => self.delete(delete),
                }
            }
            self.commit();
            core.busy_since.store(0, Ordering::Relaxed);
        }
        if core.failed.load().is_none()
            && let Err(error) = core.checkpoint()
        {
            tracing::warn!(disk = %core.identity.disk, %error, "no checkpoint at closing: the next opening replays more");
        }
        self.finished = true;
    }

    fn put(&mut self, job: Put) {
        let Put { fragment, reply, permit, .. } = job;
        if reply.is_closed() {
            return; // given up while it waited
        }
        let name = fragment.name;
        match self.plan_put(fragment) {
            Ok(true) => match &mut self.batch {
                Some(batch) => {
                    batch.puts.push(reply);
                    batch.permits.push(permit);
                }
                None => drop(reply.send(Err(DiskError::Gone("the write was lost".into())))),
            },
            Ok(false) => drop(reply.send(Ok(()))),
            Err(error) => {
                tracing::debug!(fragment = %name, %error, "write refused");
                drop(reply.send(Err(error)));
            }
        }
    }

    /// True: it is part of the batch. False: it is already here and durable.
    fn plan_put(&mut self, fragment: NewFragment) -> Result<bool, DiskError> {
        let core = self.core.clone();
        let name = fragment.name;
        let pending = self.batch.as_ref().and_then(|batch| batch.names.get(&name));
        let replaces = match pending {
            Some(Pending::Put { entry, block_checksums }) => {
                let same =
                    entry.length as usize == fragment.payload.len() && *block_checksums == fragment.block_checksums;
                return if same { Ok(true) } else { Err(DiskError::Conflict(name)) };
            }
            Some(Pending::Deleted) => None,
            None => match core.index.read().get(&name) {
                None => None,
                Some(entry) => Some(entry),
            },
        };
        if let Some(entry) = replaces {
            match self.existing(&fragment, entry) {
                Existing::Same => return Ok(false),
                Existing::Other => return Err(DiskError::Conflict(name)),
                Existing::Damaged => tracing::warn!(fragment = %name, "a damaged fragment is replaced"),
            }
        }
        let bytes = u64::from(fragment_units(fragment.payload.len() as u32)) * UNIT;
        let planned = self.batch.as_ref().map_or(0, |batch| batch.bytes);
        core.writable(planned + bytes)?;
        let batch = self.room(bytes + UNIT, true)?;
        batch.put(fragment);
        if let Some(old) = replaces {
            batch.kill(name, old.place, fragment_units(old.length));
            // The kill must not hide the new copy from later jobs of this batch.
        }
        Ok(true)
    }

    /// Compares with the copy that is here. Reads it whole: what is called durable must be readable.
    fn existing(&self, fragment: &NewFragment, entry: Entry) -> Existing {
        match self.core.on_record(fragment.name, entry, |record| record.verify()) {
            Ok(table) if entry.length as usize == fragment.payload.len() && table == fragment.block_checksums => {
                Existing::Same
            }
            Ok(_) => Existing::Other,
            Err(error) => {
                tracing::warn!(fragment = %fragment.name, %error, "the copy that is here is bad");
                Existing::Damaged
            }
        }
    }

    fn delete(&mut self, job: Delete) {
        let Delete { names, reply, permit } = job;
        let found = names.len() as u64;
        match self.plan_delete(names, found) {
            Ok((0, _)) => drop(reply.send(Ok(0))),
            Ok((count, batch)) => {
                batch.deletes.push((count, reply));
                batch.permits.push(permit);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn plan_delete(&mut self, names: Vec<FragmentName>, most: u64) -> Result<(u64, &mut Batch), DiskError> {
        if let Some(why) = self.core.failed.load().as_deref() {
            return Err(DiskError::ReadOnly(why.clone()));
        }
        let core = self.core.clone();
        let batch = self.room(most * UNIT, false)?;
        let mut count = 0;
        for name in names {
            let entry = match batch.names.get(&name) {
                Some(Pending::Put { entry, .. }) => Some(*entry),
                Some(Pending::Deleted) => None,
                None => core.index.read().get(&name),
            };
            if let Some(entry) = entry {
                batch.kill(name, entry.place, fragment_units(entry.length));
                batch.names.insert(name, Pending::Deleted);
                count += 1;
            }
        }
        Ok((count, batch))
    }

    /// The batch, with room for `bytes` more in its segment; begins a new segment when the active one has none.
    fn room(&mut self, bytes: u64, data: bool) -> Result<&mut Batch, DiskError> {
        let spare = if data { TOMBSTONE_ROOM } else { 0 };
        let planned = self.batch.as_ref().map_or(0, |batch| batch.bytes);
        let fits = self.active.as_ref().is_some_and(|active| active.end + planned + bytes + spare <= active.capacity);
        if !fits {
            // Before anything is sealed: on a full disk the active segment still has room for tombstones.
            let capacity = self.segment_capacity(bytes + TOMBSTONE_ROOM, data)?;
            self.commit();
            self.seal();
            self.begin_segment(capacity)?;
            self.begin_ghosts();
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

    /// Plans the tombstones that are owed for records nobody was promised, as far as the active segment has room.
    fn begin_ghosts(&mut self) {
        if self.ghosts.is_empty() || self.core.failed.load().is_some() {
            return;
        }
        let Some(room) =
            self.active.as_ref().map(|active| active.capacity.saturating_sub(active.end + TOMBSTONE_ROOM) / UNIT)
        else {
            return;
        };
        if self.batch.is_none() {
            self.batch = self.new_batch();
        }
        let Some(batch) = &mut self.batch else { return };
        let now = self.ghosts.len().min(room as usize);
        for Ghost { name, place, units } in self.ghosts.drain(..now) {
            if self.core.index.read().segments.contains_key(&place.segment) {
                batch.kill(name, place, units);
            }
        }
    }

    /// How large a new segment may be that must take `needed` bytes of records.
    fn segment_capacity(&self, needed: u64, data: bool) -> Result<u64, DiskError> {
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

    fn begin_segment(&mut self, capacity: u64) -> Result<(), DiskError> {
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

    fn seal(&mut self) {
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

    fn note_preallocated(&self) {
        let rest = self.active.as_ref().map_or(0, |active| active.capacity.saturating_sub(active.end));
        self.core.space.preallocated.store(rest, Ordering::Relaxed);
    }

    /// Writes the batch, syncs it, makes it true and tells everyone.
    fn commit(&mut self) {
        let Some(mut batch) = self.batch.take() else { return };
        if batch.records() == 0 {
            return batch.answer(&Ok(()));
        }
        match self.write(&batch) {
            Ok(()) => {
                self.failures = 0;
                let freed = self.apply(&mut batch);
                self.core.refresh_space();
                batch.answer(&Ok(()));
                self.punch(freed);
                self.remove_empty();
            }
            Err(error) => {
                tracing::error!(disk = %self.core.identity.disk, segment = batch.segment, %error, "a batch failed");
                self.ghosts.extend(batch.in_doubt());
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

    fn apply(&mut self, batch: &mut Batch) -> Vec<Freed> {
        let mut freed = Vec::new();
        let killed: HashSet<Place> = batch.effects.iter().filter_map(Effect::kills).collect();
        let mut index = self.core.index.write();
        index.advance(batch.segment, batch.start + batch.bytes);
        for effect in batch.effects.drain(..) {
            match effect {
                Effect::Put { name, entry } => {
                    if let Some(old) = index.insert(name, entry) {
                        freed.extend(index.let_go(old));
                        if !killed.contains(&old.place) {
                            self.ghosts.push(Ghost::of(name, old));
                        }
                    }
                }
                Effect::Kill { at, name, kills } => {
                    freed.extend(index.kill(at, &name, kills).1);
                    self.touched.insert(kills.segment);
                }
            }
        }
        *self.core.position.lock() = (batch.segment, batch.start + batch.bytes, self.next_batch);
        self.core.changes.fetch_add(1, Ordering::Release);
        freed
    }

    /// Gives pages back. Their tombstones are durable; failing is only a waste of space.
    fn punch(&self, freed: Vec<Freed>) {
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
    fn remove_empty(&mut self) {
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
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            self.core.failed.store(Some(Arc::new("its writer thread died".into())));
        }
        // Nobody will do what still waits: dropping the jobs tells their callers.
        self.core.queue.close();
        while let Some(jobs) = self.core.queue.take(usize::MAX) {
            drop(jobs);
        }
    }
}
