//! The writer: one thread per disk that takes whatever has gathered, writes it with one vectored write and one
//! fdatasync, and only then tells those who wait (DUR-2). Nothing but this thread changes a segment or the index.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_fragment::{DiskError, NewFragment};
use cairn_schema::ids::FragmentName;

use super::{
    batch::{Batch, Pending},
    compact::{Advance, Compaction, LOOK_EVERY},
    format::{UNIT, fragment_units},
    identity::DiskLock,
    index::segments::Entry,
    log::Log,
    outstanding::Operation,
    queue::{Delete, Job, Put},
    state::Core,
};

/// Bytes taken from the queue at once: bounds how long the first waits for the last.
const BATCH_BYTES: usize = 32 << 20;
/// How long the queue must have been empty before live data is moved: what foreground work waits for a disk that tidies
/// itself up.
const IDLE: Duration = Duration::from_millis(10);
/// Between two batches: bounds how long jobs wait for them.
const STEPS_AT_ONCE: usize = 4;
/// A disk at rest with nothing to tidy up looks again this often.
const LOOK_AT_REST: Duration = Duration::from_secs(10);
/// Between checkpoints that only serve to remove segments.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);

/// What to do about a fragment that is already here.
enum Existing {
    Same,
    Other,
    Damaged,
}

/// The one who writes to a disk, on a thread of its own.
pub(crate) struct Writer {
    core: Arc<Core>,
    _lock: DiskLock,
    log: Log,
    compaction: Compaction,
    /// When the last checkpoint was asked for.
    checkpoint_begun: Instant,
    finished: bool,
}

impl Writer {
    pub(crate) fn new(core: Arc<Core>, lock: DiskLock, log: Log) -> Self {
        let compaction = Compaction::new(core.clone());
        Self { core, _lock: lock, log, compaction, checkpoint_begun: Instant::now(), finished: false }
    }

    /// Until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let core = self.core.clone();
        while let Some(jobs) = core.queue.take(BATCH_BYTES, self.patience()) {
            let under_way = core.outstanding.begin(Operation::Write);
            let idle = jobs.is_empty();
            if !idle {
                self.compaction.look_again();
            }
            for job in jobs {
                match job {
                    Job::Put(put) => self.put(put),
                    Job::Delete(delete) => self.delete(delete),
                }
            }
            self.log.commit();
            self.tidy_up(idle);
            drop(under_way);
            self.bound_index();
        }
        if core.failed.load().is_none()
            && let Err(error) = core.checkpoint()
        {
            tracing::warn!(disk = %core.identity.disk, %error, "no checkpoint at closing: the next opening replays more");
        }
        self.log.finish();
        self.finished = true;
    }

    /// Steps of compaction, one when nobody is known to wait: what clients leave of the time may be more than one
    /// takes.
    fn tidy_up(&mut self, idle: bool) {
        for _ in 0..STEPS_AT_ONCE {
            if self.compaction.advance(&mut self.log, idle) == Advance::Rests || idle {
                return;
            }
        }
    }

    /// How long to wait for the next job before the disk tidies up, or looks whether it should; None: until there is
    /// one. A disk at rest looks too: room may have come back, and a segment that could not be emptied be due again.
    fn patience(&mut self) -> Option<Duration> {
        if self.core.failed.load().is_some() {
            return None;
        }
        if self.compaction.is_due() || self.wants_removal() {
            return Some(self.compaction.wait().clamp(IDLE, LOOK_EVERY));
        }
        let soon = self.compaction.must_look_again() || self.compaction.has_empty_segments();
        Some(if soon { LOOK_EVERY } else { LOOK_AT_REST })
    }

    /// Has the index written down beside the writes when it has grown in memory; waits for that when it has grown too
    /// far.
    fn bound_index(&mut self) {
        if self.core.failed.load().is_some() {
            return;
        }
        let unflushed = self.core.index.unflushed();
        let memory = &self.core.options.index;
        if unflushed >= memory.most_unflushed() {
            if let Err(error) = self.core.checkpoint() {
                tracing::error!(disk = %self.core.identity.disk, %error, "the index cannot be written down; the disk takes no more writes");
                self.core.failed.store(Some(Arc::new(error.to_string())));
            }
        } else if unflushed >= memory.unflushed() || self.wants_removal() {
            self.checkpoint_begun = Instant::now();
            self.core.begin_checkpoint();
        }
    }

    /// Whether a checkpoint would remove segments, and the last one was not just now.
    fn wants_removal(&mut self) -> bool {
        self.checkpoint_begun.elapsed() >= CHECKPOINT_PAUSE && self.compaction.has_empty_segments()
    }

    fn put(&mut self, job: Put) {
        let Put { fragment, reply, permit, .. } = job;
        if reply.is_closed() {
            return; // given up while it waited
        }
        let name = fragment.name;
        match self.plan_put(fragment) {
            Ok(Some(batch)) => {
                batch.puts.push(reply);
                batch.permits.push(permit);
            }
            Ok(None) => drop(reply.send(Ok(()))),
            Err(error) => {
                tracing::debug!(fragment = %name, %error, "write refused");
                drop(reply.send(Err(error)));
            }
        }
    }

    /// The batch that it is part of. None: it is already here and durable.
    fn plan_put(&mut self, fragment: NewFragment) -> Result<Option<&mut Batch>, DiskError> {
        // Also before a fragment is called durable that is here already: a batch that failed may have left a tombstone
        // for it.
        self.log.still_takes()?;
        let core = self.core.clone();
        let name = fragment.name;
        let pending = self.log.batch().and_then(|batch| batch.names.get(&name));
        let deleted = matches!(pending, Some(Pending::Deleted));
        let replaces = match pending {
            Some(Pending::Put { entry, block_checksums }) => {
                let same =
                    entry.length as usize == fragment.payload.len() && *block_checksums == fragment.block_checksums;
                return if same { Ok(self.log.batch_mut()) } else { Err(DiskError::Conflict(name)) };
            }
            Some(Pending::Deleted) => None,
            None => core.lookup(&name)?,
        };
        if let Some(entry) = replaces {
            match self.existing(&fragment, entry) {
                Existing::Same => return Ok(None),
                Existing::Other => return Err(DiskError::Conflict(name)),
                Existing::Damaged => {}
            }
        }
        let bytes = u64::from(fragment_units(fragment.payload.len() as u32)) * UNIT;
        let (planned, number) = self.log.batch().map_or((0, 0), |batch| (batch.bytes, batch.number));
        core.writable(planned + bytes)?;
        if deleted && self.log.room(bytes + UNIT, true)?.number != number {
            // The batch with that delete is written by now, or has failed.
            return self.plan_put(fragment);
        }
        let batch = self.log.room(bytes + UNIT, true)?;
        batch.put(fragment, batch.written_ms, replaces);
        if let Some(old) = replaces {
            batch.kill(name, old.place, fragment_units(old.length), None);
        }
        Ok(Some(batch))
    }

    /// Compares with the copy that is here. Reads it whole: what is called durable must be readable.
    fn existing(&self, fragment: &NewFragment, entry: Entry) -> Existing {
        match self.core.on_record(fragment.name, entry, |record| record.verify()) {
            Ok(table) if entry.length as usize == fragment.payload.len() && table == fragment.block_checksums => {
                Existing::Same
            }
            Ok(_) => Existing::Other,
            Err(error) => {
                self.core.note_damage(entry, &error);
                tracing::warn!(fragment = %fragment.name, %error, "a damaged fragment is replaced");
                Existing::Damaged
            }
        }
    }

    fn delete(&mut self, job: Delete) {
        let Delete { names, reply, permit } = job;
        let most = names.len() as u64;
        match self.plan_delete(names, most) {
            Ok((0, _)) => drop(reply.send(Ok(0))),
            Ok((count, batch)) => {
                batch.deletes.push((count, reply));
                batch.permits.push(permit);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn plan_delete(&mut self, names: Vec<FragmentName>, most: u64) -> Result<(u64, &mut Batch), DiskError> {
        self.log.still_takes()?;
        let core = self.core.clone();
        let batch = self.log.room(most * UNIT, false)?;
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
