//! Compaction: what holes cannot give back. A hole is whole pages; small records leave the rest of theirs behind when
//! they die, and a file system may know no holes at all. So the segment that is most dead is emptied, a step at a time:
//! its live records are written again at the end of the log, and tombstones that are still needed with them; the file
//! goes after the next checkpoint.
//!
//! Choosing the most dead segment first is the greedy cleaning of log-structured file systems (Rosenblum and
//! Ousterhout, 1992).

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_fragment::{DiskError, NewFragment};
use cairn_schema::ids::FragmentName;

use super::{
    format::{Place, RecordBody, RecordHeader, SEGMENT_HEADER_BYTES, UNIT, fragment_units},
    index::segments::{Entry, SegmentState},
    log::Log,
    pace::Purse,
    scan::{Found, Scan},
    state::Core,
};

/// Bytes of a segment looked at in one step: how long foreground work may have to wait for it.
const STEP_BYTES: u64 = 1 << 20;
/// An idle disk tidies up when this part of its live data is lost to dead space,
const IDLE_PART: u64 = 32;
/// a busy one when it is this part.
const BUSY_PART: u64 = 4;
/// A pressure at which a busy disk tidies up as an idle one does.
const HURRY: f64 = 0.5;
/// Less dead space than this part of a segment's size is left alone.
const LEAST_PART: u64 = 8;
/// All segments are looked at this often at most: a large disk has many, and a batch takes no longer than a sync.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A segment that could not be emptied is tried again after this long: a full disk or a failed batch may be over,
/// damage repaired.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// A segment that is being emptied.
#[derive(Debug)]
struct Victim {
    number: u32,
    /// The step begins at this byte of it.
    at: u64,
    /// Tombstones met so far, by the segment they are about.
    tombstones: HashMap<u32, u32>,
}

/// Why and since when a segment is left alone.
#[derive(Clone, Copy, Debug)]
struct Refused {
    since: Instant,
    /// What was needed of it when all that is readable had been moved: trying again before that changes would move as
    /// much again.
    left: Option<Left>,
}

/// Fragments, and segments about which something is kept.
type Left = (u32, usize);

fn left_in(state: &SegmentState) -> Left {
    (state.fragments, state.needs.len())
}

/// The compaction of one disk, and where it stands.
pub(super) struct Compaction {
    core: Arc<Core>,
    /// The segment that is being emptied.
    victim: Option<Victim>,
    /// Segments that hold something that could not be moved, and since when they are left alone.
    refused: HashMap<u32, Refused>,
    look: Option<Look>,
    /// Something has changed since that look.
    stale: bool,
    /// What clients leave of the writer's time.
    purse: Purse,
}

/// Whether a step was taken, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    Stepped,
    Rests,
}

/// What a look at all segments has shown.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    /// The segment to empty when the disk is idle.
    idle: Option<u32>,
    /// There is so much dead space that it cannot wait for that.
    pressing: bool,
    /// Segments only wait for a checkpoint to be removed.
    empty: bool,
}

/// A live record, or a tombstone that is still needed.
enum Keep {
    Fragment(FragmentName, Entry),
    /// With the place and the units of what it kills.
    Tombstone(FragmentName, Place, u32),
}

impl Compaction {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            victim: None,
            refused: HashMap::new(),
            look: None,
            stale: false,
            purse: Purse::new(Instant::now()),
        }
    }

    /// The log has grown: what the last look at the segments has shown may not hold any more.
    pub(crate) fn look_again(&mut self) {
        self.stale = true;
    }

    pub(crate) fn must_look_again(&self) -> bool {
        self.stale
    }

    /// Whether there is so much dead space that an idle moment should be used.
    pub(crate) fn is_due(&mut self) -> bool {
        self.has_room() && (self.victim.is_some() || self.look().idle.is_some())
    }

    /// Whether there are segments that only wait for a checkpoint to be removed.
    pub(crate) fn has_empty_segments(&mut self) -> bool {
        self.look().empty
    }

    /// Whether what is moved has room until the segment it came from is gone: half of the reserve stays for deletes.
    fn has_room(&self) -> bool {
        self.core.space.free.load(Ordering::Relaxed) > self.core.options.reserved_bytes / 2
    }

    fn look(&mut self) -> Look {
        if let Some(look) = self.look.filter(|look| look.at.elapsed() < LOOK_EVERY) {
            return look;
        }
        let core = self.core.clone();
        core.index.segments(|segments| {
            self.refused.retain(|number, refused| {
                let as_left = segments.get(*number).is_some_and(|state| refused.left == Some(left_in(state)));
                refused.since.elapsed() < TRY_AGAIN || as_left
            });
        });
        let look = Look {
            at: Instant::now(),
            idle: self.due(IDLE_PART),
            pressing: self.due(BUSY_PART).is_some(),
            empty: self.core.index.segments(|segments| !segments.removable().is_empty()),
        };
        self.look = Some(look);
        self.stale = false;
        look
    }

    /// The segment to empty next, if what emptying segments would give back is more than this part of the live data.
    fn due(&self, part: u64) -> Option<u32> {
        let segment_bytes = self.core.options.segment_bytes;
        self.core.index.segments(|segments| {
            let totals = segments.totals();
            let least = (segment_bytes / LEAST_PART).max(totals.held / part);
            if totals.dead <= least {
                return None;
            }
            let last = segments.last();
            let may = |number: u32| Some(number) != last && !segments.is_leaving(number);
            let candidates =
                || segments.iter().filter(|(number, state)| may(*number) && self.can_empty(*number, state));
            let dead: u64 = candidates().map(|(_, state)| state.dead()).sum();
            let share = |state: &SegmentState| u128::from(state.dead() << 20) / u128::from(state.occupied.max(1));
            let most = candidates().max_by_key(|(_, state)| share(state));
            most.filter(|_| dead > least).map(|(number, _)| number)
        })
    }

    /// Empty ones are not among them: they go by themselves.
    fn can_empty(&self, number: u32, state: &SegmentState) -> bool {
        state.sealed
            && !state.unreadable()
            && (state.fragments > 0 || state.tombstones > 0)
            && state.dead() > 0
            && !self.refused.contains_key(&number)
    }

    /// How long until the next step may be taken, as far as that is clients' doing.
    pub(crate) fn wait(&self) -> Duration {
        self.purse.wait(self.core.tidying_share(Instant::now()))
    }

    /// Takes a step if the disk is idle, or so full of dead space that it cannot wait, and if clients leave time for
    /// it.
    pub(crate) fn advance(&mut self, log: &mut Log, idle: bool) -> Advance {
        if self.core.failed.load().is_some() || !self.has_room() || !(idle || self.is_pressing()) {
            return Advance::Rests;
        }
        let began = Instant::now();
        if !self.purse.allows(began, self.core.tidying_share(began)) {
            return Advance::Rests;
        }
        let Some(victim) = self.victim.take().or_else(|| self.choose()) else { return Advance::Rests };
        self.step_on(log, victim);
        self.purse.spend(began.elapsed());
        Advance::Stepped
    }

    /// Whether it cannot wait for an idle moment: for the dead space, or for the space that is left.
    fn is_pressing(&mut self) -> bool {
        self.look().pressing || self.core.pressure() >= HURRY
    }

    fn step_on(&mut self, log: &mut Log, mut victim: Victim) {
        let Some(end) = self.core.index.segments(|segments| segments.get(victim.number).map(|state| state.end)) else {
            return; // gone meanwhile
        };
        match self.step(log, &mut victim, end) {
            Ok(()) if victim.at >= end => self.emptied(&victim),
            Ok(()) => self.victim = Some(victim),
            // Nothing in it is needed any more: a checkpoint removed it meanwhile.
            Err(_) if self.core.index.segments(|segments| segments.is_leaving(victim.number)) => self.look = None,
            Err(error) => {
                tracing::warn!(disk = %self.core.identity.disk, segment = victim.number, %error, "a segment could not be emptied");
                self.refuse(victim.number, None);
            }
        }
    }

    fn refuse(&mut self, number: u32, left: Option<Left>) {
        self.refused.insert(number, Refused { since: Instant::now(), left });
        self.look = None;
    }

    fn choose(&mut self) -> Option<Victim> {
        let number = self.look().idle?;
        Some(Victim { number, at: SEGMENT_HEADER_BYTES, tombstones: HashMap::new() })
    }

    /// Everything that must be kept of it and could be read is elsewhere now, durably.
    fn emptied(&mut self, victim: &Victim) {
        let moved = |about: &u32| victim.tombstones.get(about).copied().unwrap_or(0);
        let empty = self.core.index.change_segments(|segments| {
            let state = segments.get(victim.number)?;
            let empty =
                state.fragments == 0 && state.needs.iter().all(|(about, needs)| moved(about) >= needs.tombstones);
            let left = left_in(state);
            if empty {
                segments.tombstones_moved(victim.number);
            }
            Some((empty, left))
        });
        match empty {
            Some((true, _)) => {
                self.look = None;
                self.core.begin_checkpoint();
            }
            Some((false, left)) => {
                tracing::warn!(disk = %self.core.identity.disk, segment = victim.number, "a segment stays: part of it is damaged");
                self.refuse(victim.number, Some(left));
            }
            None => self.look = None,
        }
    }

    /// Moves what must be kept of the records that begin in the next bytes of the victim.
    fn step(&self, log: &mut Log, victim: &mut Victim, end: u64) -> Result<(), DiskError> {
        let core = self.core.clone();
        let _moving = core.io.moving();
        let failed_before = log.failed_batches();
        for keep in keepers(&core, victim, end.min(victim.at + STEP_BYTES))? {
            match keep {
                Keep::Fragment(name, entry) => move_fragment(&core, log, name, entry)?,
                Keep::Tombstone(name, kills, units) => log.room(UNIT, false)?.repeat(name, kills, units),
            }
        }
        log.commit();
        match core.failed.load().as_deref() {
            Some(why) => Err(DiskError::ReadOnly(why.clone())),
            // What was to be kept has not arrived elsewhere.
            None if log.failed_batches() > failed_before => {
                Err(DiskError::Io { operation: "move", why: "a batch failed".into() })
            }
            None => Ok(()),
        }
    }
}

/// Appends a live record again. One that is damaged, or cannot be read, stays where it is until it has been made anew.
fn move_fragment(core: &Core, log: &mut Log, name: FragmentName, entry: Entry) -> Result<(), DiskError> {
    let read = core.on_record(name, entry, |record| Ok((record.verify()?, record.range(0..entry.length)?)));
    let (block_checksums, payload): (Vec<u64>, Bytes) = match read {
        Ok(read) => read,
        Err(error) if error.is_damage() => {
            core.note_damage(entry, &error);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let bytes = u64::from(fragment_units(entry.length)) * UNIT;
    let fragment = NewFragment { name, payload, block_checksums };
    // May go into the reserve: it gives back more than it takes.
    log.room(bytes, false)?.put(fragment, entry.written_ms, Some(entry));
    core.metrics.moved_bytes.inc_by(bytes);
    Ok(())
}

/// What must be kept of the records that begin from where the victim stands to before `until`.
fn keepers(core: &Core, victim: &mut Victim, until: u64) -> Result<Vec<Keep>, DiskError> {
    let number = victim.number;
    let salt = core.index.salt(number).ok_or_else(|| DiskError::Gone(format!("segment {number} is gone")))?;
    let (file, path) = (core.files.get(number)?, core.files.path(number));
    let mut records: Vec<(Place, RecordHeader)> = Vec::new();
    let scan = Scan { io: &core.io, file: &file, path: &path, number, salt };
    let scanned = scan.run(victim.at, until, &mut |one| {
        if let Found::Record { place, header } = one {
            records.push((place, header));
        }
    })?;
    // A file may end before the records that the index knows of: what is missing is damage, and the victim is done
    // with.
    victim.at = scanned.next.max(until);
    let mut kept = Vec::new();
    for (place, header) in records {
        match header.body {
            RecordBody::Fragment { .. } => {
                if let Some(entry) = core.lookup(&header.name)?.filter(|entry| entry.place == place) {
                    kept.push(Keep::Fragment(header.name, entry));
                }
            }
            RecordBody::Tombstone { kills, units } => {
                *victim.tombstones.entry(kills.segment).or_default() += 1;
                if kills.segment != number && core.index.segments(|segments| segments.contains(kills.segment)) {
                    kept.push(Keep::Tombstone(header.name, kills, units));
                }
            }
            RecordBody::Void { .. } => {}
        }
    }
    Ok(kept)
}
