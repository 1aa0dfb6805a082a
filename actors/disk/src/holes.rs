//! Gives the pages of dead records back by punching holes, on a thread of its own: on some file systems one hole costs
//! as much as an fsync, which no write should wait for.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use cairn_fragment::DiskError;

use super::{
    file::punch_hole,
    format::Place,
    index::segments::{Extent, whole_pages},
    pace::Purse,
    state::Core,
};

/// Dead records that wait. More are left to compaction.
const QUEUED: usize = 16 * 1024;
/// Smaller holes cost more than they give: compaction gives that space back in bulk.
const LEAST_HOLE: u64 = 64 << 10;

/// A record that is dead: its tombstone is durable.
pub(crate) type Dead = (Place, u32);

/// The way to the thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Holes(SyncSender<Dead>);

impl Holes {
    pub(crate) fn begin(core: Arc<Core>) -> Result<Self, DiskError> {
        let (sender, receiver) = sync_channel(QUEUED);
        std::thread::Builder::new().name("disk-holes".into()).spawn(move || run(&core, &receiver)).map_err(
            |error| DiskError::Io { operation: "start the thread that punches holes", why: error.to_string() },
        )?;
        Ok(Self(sender))
    }

    /// Never waits: what does not fit the queue is only space that compaction finds.
    pub(crate) fn punch(&self, dead: impl IntoIterator<Item = Dead>) {
        for one in dead {
            if self.0.try_send(one).is_err() {
                return;
            }
        }
    }
}

/// Longest wait before the next hole: the thread must notice soon that the disk is closing.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

fn run(core: &Core, dead: &Receiver<Dead>) {
    let mut purse = Purse::new(Instant::now());
    while let Ok(first) = dead.recv() {
        let mut extents: BTreeMap<u32, Vec<Extent>> = BTreeMap::new();
        for (place, units) in std::iter::once(first).chain(dead.try_iter().take(QUEUED)) {
            extents.entry(place.segment).or_default().push(Extent { unit: place.unit, units });
        }
        for (segment, mut extents) in extents {
            extents.sort_unstable();
            for Extent { unit, units } in merged(&extents) {
                if core.closing.load(Ordering::Acquire) || !core.can_punch.load(Ordering::Relaxed) {
                    continue;
                }
                if yield_to_clients(core, &mut purse) {
                    let began = Instant::now();
                    punch(core, Place { segment, unit }, units);
                    purse.spend(began.elapsed());
                }
            }
        }
        core.refresh_space();
    }
}

/// Waits until clients leave time for a hole. False when the disk is closing.
fn yield_to_clients(core: &Core, purse: &mut Purse) -> bool {
    while !core.closing.load(Ordering::Acquire) {
        let now = Instant::now();
        let share = core.tidying_share(now);
        if purse.allows(now, share) {
            return true;
        }
        std::thread::sleep(purse.wait(share).clamp(Duration::from_millis(1), LONGEST_WAIT));
    }
    false
}

/// Neighbours as one: the pages they share go with them.
fn merged(extents: &[Extent]) -> Vec<Extent> {
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents {
        match merged.last_mut() {
            Some(last) if last.unit + last.units == extent.unit => last.units += extent.units,
            _ => merged.push(*extent),
        }
    }
    merged
}

/// What a file takes from the file system, in 512 bytes.
fn blocks(file: &std::fs::File) -> u64 {
    file.metadata().map_or(0, |found| found.blocks())
}

fn punch(core: &Core, place: Place, units: u32) {
    let Some(pages) = whole_pages(place, units).filter(|pages| pages.end - pages.start >= LEAST_HOLE) else { return };
    let (path, bytes) = (core.files.path(place.segment), pages.end - pages.start);
    let file = match core.files.get(place.segment) {
        Ok(file) => file,
        // Its file went with everything in it.
        Err(_) if core.index.segments(|segments| segments.is_leaving(place.segment)) => return,
        Err(error) => return not_given_back(core, &error),
    };
    let _tidying = core.io.tidying();
    let before = blocks(&file);
    match punch_hole(&file, &path, pages.start, bytes) {
        Ok(true) => {
            // Part of it may have been a hole already, from before a crash.
            let given = before.saturating_sub(blocks(&file)).saturating_mul(512).min(bytes);
            core.index.change_segments(|segments| segments.gave_back(place.segment, given));
        }
        Ok(false) => {
            tracing::info!(disk = %core.identity.disk, "the file system cannot punch holes: segments are compacted instead");
            core.can_punch.store(false, Ordering::Relaxed);
        }
        Err(error) => not_given_back(core, &error),
    }
}

/// Compaction gives it back later.
fn not_given_back(core: &Core, error: &DiskError) {
    tracing::warn!(disk = %core.identity.disk, %error, "the space of deleted fragments was not given back yet");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_merged() {
        let extent = |unit, units| Extent { unit, units };
        let all = [extent(10, 5), extent(15, 2), extent(20, 1), extent(21, 1)];
        assert_eq!(merged(&all), [extent(10, 7), extent(20, 2)]);
        assert_eq!(merged(&[]), []);
    }
}
