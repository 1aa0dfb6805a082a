//! The writer: one thread per disk that takes whatever has gathered, writes it with one vectored write and one fdatasync, and
//! only then tells those who wait (DUR-2). Nothing but this thread changes a segment or the index.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use cairn_schema::ids::FragmentName;

use super::{
    batch::{Batch, Pending},
    compact::{Compaction, LOOK_EVERY},
    format::{Place, UNIT, fragment_units},
    holes::Holes,
    identity::DiskLock,
    index::{MOST_UNFLUSHED_BYTES, Position, UNFLUSHED_BYTES, rows::Entry},
    now_ms,
    queue::{Delete, Job, Put},
    segment::Active,
    segments::least_segment,
    state::Core,
};
use crate::fragment::{DiskError, NewFragment};

/// Bytes taken from the queue at once: bounds how long the first waits for the last.
const BATCH_BYTES: usize = 32 << 20;
/// Kept free at the end of every segment for tombstones, so that a delete rarely needs a new segment on a full disk.
pub(super) const TOMBSTONE_ROOM: u64 = 64 << 10;
/// How long the queue must have been empty before live data is moved: what foreground work waits for a disk that tidies itself up.
const IDLE: Duration = Duration::from_millis(10);
/// A disk at rest with nothing to tidy up looks again this often.
const LOOK_AT_REST: Duration = Duration::from_secs(10);
/// Between checkpoints that only serve to remove segments.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);
/// This many batches in a row fail before the disk is called failed.
const FAILURES: u32 = 3;

/// What to do about a fragment that is already here.
enum Existing {
    Same,
    Other,
    Damaged,
}

pub struct Writer {
    pub(super) core: Arc<Core>,
    pub(super) _lock: DiskLock,
    pub(super) active: Option<Active>,
    pub(super) batch: Option<Batch>,
    pub(super) next_batch: u64,
    pub(super) last_segment: u32,
    /// When the last checkpoint was asked for.
    pub(super) checkpoint_begun: Instant,
    /// Batches in a row that failed,
    pub(super) failures: u32,
    /// and all that ever did.
    pub(super) failed_batches: u64,
    pub(super) holes: Holes,
    /// The segment that is being emptied.
    pub(super) compaction: Compaction,
    pub(super) finished: bool,
}

impl Writer {
    /// Until the queue is closed and empty.
    pub fn run(mut self) {
        let core = self.core.clone();
        while let Some(jobs) = core.queue.take(BATCH_BYTES, self.patience()) {
            core.busy_since.store(now_ms(), Ordering::Relaxed);
            let idle = jobs.is_empty();
            self.compaction.stale |= !idle;
            for job in jobs {
                match job {
                    Job::Put(put) => self.put(put),
                    Job::Delete(delete) => self.delete(delete),
                }
            }
            self.commit();
            self.compact(idle);
            self.bound_index();
            core.busy_since.store(0, Ordering::Relaxed);
        }
        if core.failed.load().is_none()
            && let Err(error) = core.checkpoint()
        {
            tracing::warn!(disk = %core.identity.disk, %error, "no checkpoint at closing: the next opening replays more");
        }
        self.give_back_preallocated();
        self.finished = true;
    }

    /// How long to wait for the next job before the disk tidies up, or looks whether it should; None: until there is one. A disk at
    /// rest looks too: room may have come back, and a segment that could not be emptied be due again.
    fn patience(&mut self) -> Option<Duration> {
        if self.core.failed.load().is_some() {
            return None;
        }
        if self.wants_compaction() || self.wants_removal() {
            return Some(IDLE);
        }
        Some(if self.compaction.stale || self.has_empty_segments() { LOOK_EVERY } else { LOOK_AT_REST })
    }

    /// Has the index written down beside the writes when it has grown in memory; waits for that when it has grown too far.
    fn bound_index(&mut self) {
        let unflushed = self.core.index.unflushed();
        if unflushed >= MOST_UNFLUSHED_BYTES {
            if let Err(error) = self.core.checkpoint() {
                tracing::error!(disk = %self.core.identity.disk, %error, "the index cannot be written down; the disk takes no more writes");
                self.core.failed.store(Some(Arc::new(error.to_string())));
            }
        } else if unflushed >= UNFLUSHED_BYTES || self.wants_removal() {
            self.checkpoint_begun = Instant::now();
            self.core.begin_checkpoint();
        }
    }

    /// Whether a checkpoint would remove segments, and the last one was not just now.
    fn wants_removal(&mut self) -> bool {
        self.checkpoint_begun.elapsed() >= CHECKPOINT_PAUSE && self.has_empty_segments()
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
        // Also before a fragment is called durable that is here already: a batch that failed may have left a tombstone for it.
        self.still_takes()?;
        let core = self.core.clone();
        let name = fragment.name;
        let pending = self.batch.as_ref().and_then(|batch| batch.names.get(&name));
        let deleted = matches!(pending, Some(Pending::Deleted));
        let replaces = match pending {
            Some(Pending::Put { entry, block_checksums }) => {
                let same =
                    entry.length as usize == fragment.payload.len() && *block_checksums == fragment.block_checksums;
                return if same { Ok(true) } else { Err(DiskError::Conflict(name)) };
            }
            Some(Pending::Deleted) => None,
            None => core.lookup(&name)?,
        };
        if let Some(entry) = replaces {
            match self.existing(&fragment, entry) {
                Existing::Same => return Ok(false),
                Existing::Other => return Err(DiskError::Conflict(name)),
                Existing::Damaged => tracing::warn!(fragment = %name, "a damaged fragment is replaced"),
            }
        }
        let bytes = u64::from(fragment_units(fragment.payload.len() as u32)) * UNIT;
        let (planned, number) = self.batch.as_ref().map_or((0, 0), |batch| (batch.bytes, batch.number));
        core.writable(planned + bytes)?;
        if deleted && self.room(bytes + UNIT, true)?.number != number {
            // The batch with that delete is written by now, or has failed.
            return self.plan_put(fragment);
        }
        let batch = self.room(bytes + UNIT, true)?;
        batch.put(fragment, batch.written_ms, replaces);
        if let Some(old) = replaces {
            batch.kill(name, old.place, fragment_units(old.length), None);
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
        self.still_takes()?;
        let core = self.core.clone();
        let batch = self.room(most * UNIT, false)?;
        let mut count = 0;
        for name in names {
            let entry = match batch.names.get(&name) {
                Some(Pending::Put { entry, .. }) => Some(*entry),
                Some(Pending::Deleted) => None,
                None => core.lookup(&name)?,
            };
            if let Some(entry) = entry {
                batch.kill(name, entry.place, fragment_units(entry.length), Some(entry));
                batch.names.insert(name, Pending::Deleted);
                count += 1;
            }
        }
        Ok((count, batch))
    }

    /// Jobs may have been gathered before the disk failed, and wait behind the batch that made it fail.
    fn still_takes(&self) -> Result<(), DiskError> {
        match self.core.failed.load().as_deref() {
            Some(why) => Err(DiskError::ReadOnly(why.clone())),
            None => Ok(()),
        }
    }

    /// The batch, with room for `bytes` more in its segment; begins a new segment when the active one has none.
    pub(super) fn room(&mut self, bytes: u64, data: bool) -> Result<&mut Batch, DiskError> {
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
    pub(super) fn commit(&mut self) {
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
                tracing::error!(disk = %self.core.identity.disk, segment = batch.segment, %error, "a batch failed");
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
    pub(super) fn failed_once(&mut self, error: &DiskError) {
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
        self.core.close_index();
        // Nobody will do what still waits: dropping the jobs tells their callers.
        self.core.queue.close();
        while let Some(jobs) = self.core.queue.take(usize::MAX, None) {
            drop(jobs);
        }
    }
}
