//! The rows that tell how safe data is, read so that they belong together, and what every disk says of itself now.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use cairn_fragment::DiskStatus;
use cairn_schema::{Meta, MetaError, ids::*, record::*};
use futures::StreamExt;

use super::boot::Running;
use crate::placement::{
    Liveness, Rows, Topology, all_group_repairs,
    redundancy::{Presence, Redundancy, Singles},
    stopping::accepts,
};

/// A person waits for the answer.
const DISK_DEADLINE: Duration = Duration::from_millis(1500);
const DISKS_AT_ONCE: usize = 32;
/// How often the rows are read again that changed while they were read.
const READINGS: usize = 4;
const PAGE: usize = 1000;
/// Groups with rows of single fragments, and the first rows of each, that are read in one transaction.
const GROUPS_PER_PAGE: usize = 64;
const FIRST_ROWS: usize = 64;

/// How many rows of single fragments are read, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    pub rows: usize,
    pub time: Duration,
}

/// Rows as of one moment, and what disks say of themselves.
pub(super) struct Survey {
    pub rows: Arc<Rows>,
    /// The picture with these rows.
    pub picture: Arc<Topology>,
    pub stripes: Option<BTreeMap<GroupId, u64>>,
    pub repairs: Vec<GroupRepair>,
    pub moves: Vec<GroupMove>,
    pub singles: Singles,
    pub reports: HashMap<DiskId, DiskStatus>,
    /// Disks or groups changed whenever the rows were read: they may not belong together.
    pub unsettled: bool,
}

impl Survey {
    /// Groups are read before what they lack: a member that is replaced in between would be taken for filled if it were
    /// the other way round. If anything changes meanwhile everything is read again, a few times.
    pub(super) async fn read(running: &Running, depth: Depth) -> Result<Self, MetaError> {
        let until = Instant::now() + depth.time;
        let rows = running.placement.refresh().await?;
        let picture = running.placement.topology();
        let reports = ask_disks(running, &rows, &picture);
        let (reports, settled) = futures::join!(reports, settled(running, depth, until));
        Ok(Self { reports, ..settled? })
    }

    /// Whether a disk can be read from, by the rows and by its own word.
    pub(super) fn presence(&self, disk: DiskId) -> Presence {
        let Some(row) = self.rows.disks.get(&disk) else { return Presence::Unknown };
        if !matches!(row.state, DiskState::Up | DiskState::Draining) {
            return Presence::Away;
        }
        match self.reports.get(&disk) {
            None => Presence::Unknown,
            Some(report) if report.failed.is_some() => Presence::Away,
            Some(_) => Presence::There,
        }
    }

    pub(super) fn redundancy(&self) -> Redundancy {
        let schemes: Vec<Scheme> = self.picture.policy().schemes().collect();
        let may_get = |group: &Group| {
            // One that is closed while it moves opens again at any moment.
            let opens = |moved: &GroupMove| moved.group == group.id && moved.was_open;
            (group.state == GroupState::Open || self.moves.iter().any(opens))
                && schemes.contains(&group.scheme)
                && accepts(&self.picture, group)
        };
        Redundancy::of(&self.rows, self.stripes.as_ref(), &self.repairs, &self.singles, may_get)
            .moving(&self.rows, &self.moves)
    }
}

/// Everything but what disks say.
async fn settled(running: &Running, depth: Depth, until: Instant) -> Result<Survey, MetaError> {
    let meta = &running.meta;
    let mut tries = 0;
    loop {
        tries += 1;
        let rows = running.placement.refresh().await?;
        let picture = running.placement.topology();
        let moves = meta.group_moves().await?;
        let repairs = all_group_repairs(meta).await?;
        let singles = singles(meta, &rows, &repairs, depth.rows, until).await?;
        let stripes = meta.group_stripes().await?;
        let same = rows.revision.is_some()
            && rows.revision == Some(meta.placement_revision().await?)
            && rows.revision == picture.rows.revision;
        if same || tries >= READINGS || Instant::now() >= until {
            let (reports, unsettled) = (HashMap::new(), !same);
            return Ok(Survey { rows, picture, stripes, repairs, moves, singles, reports, unsettled });
        }
    }
}

/// Nodes that are known to be gone are not waited for.
async fn ask_disks(running: &Running, rows: &Rows, picture: &Topology) -> HashMap<DiskId, DiskStatus> {
    let deadline = Instant::now() + DISK_DEADLINE;
    let dead = |disk: &Disk| picture.liveness(&disk.node) == Liveness::Dead;
    let asks: Vec<_> = rows
        .disks
        .values()
        .filter(|disk| disk.state != DiskState::Removed && !dead(disk))
        .map(|disk| {
            let (id, fragments) = (disk.id, running.fragments.clone());
            async move { Some((id, fragments.disk_status(id, deadline).await.ok()?)) }
        })
        .collect();
    futures::stream::iter(asks)
        .buffer_unordered(DISKS_AT_ONCE)
        .filter_map(|answer| async move { answer })
        .collect()
        .await
}

/// The rows of single fragments: those of groups that have few, then the others' as far as `rows` and `until` allow.
async fn singles(
    meta: &Meta,
    rows: &Rows,
    repairs: &[GroupRepair],
    mut most: usize,
    until: Instant,
) -> Result<Singles, MetaError> {
    let repairs: HashMap<GroupId, &GroupRepair> = repairs.iter().map(|repair| (repair.group, repair)).collect();
    let (mut singles, mut after, mut long) = (Singles::default(), None, Vec::new());
    loop {
        if Instant::now() >= until {
            let unseen = rows.groups.keys().filter(|group| after.is_none_or(|after| **group > after));
            unseen.for_each(|group| singles.leave_unread(*group));
            break;
        }
        let page = meta.ledger_groups(after, GROUPS_PER_PAGE, FIRST_ROWS).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.group);
        for first in page {
            if first.more {
                long.push(first.group);
                continue;
            }
            let repair = repairs.get(&first.group).copied();
            of_stripes(&first.entries).for_each(|stripe| singles.take(repair, stripe));
        }
    }
    for group in long {
        read_group(meta, group, repairs.get(&group).copied(), &mut singles, &mut most, until).await?;
    }
    Ok(singles)
}

fn of_stripes(entries: &[LedgerEntry]) -> impl Iterator<Item = &[LedgerEntry]> {
    let stripe = |entry: &LedgerEntry| (entry.fragment.blob, entry.fragment.stripe);
    entries.chunk_by(move |a, b| stripe(a) == stripe(b))
}

async fn read_group(
    meta: &Meta,
    group: GroupId,
    repair: Option<&GroupRepair>,
    singles: &mut Singles,
    most: &mut usize,
    until: Instant,
) -> Result<(), MetaError> {
    let (mut entries, mut after): (Vec<LedgerEntry>, _) = (Vec::new(), None);
    loop {
        if *most == 0 || Instant::now() >= until {
            singles.leave_unread(group);
            return Ok(());
        }
        let page = meta.ledger_of(group, after, PAGE).await?;
        *most = most.saturating_sub(page.len().max(1));
        let ended = page.len() < PAGE;
        after = page.last().map(|entry| entry.fragment).or(after);
        entries.extend(page);
        // Of the last stripe more rows may follow.
        let whole = match entries.last().map(|last| (last.fragment.blob, last.fragment.stripe)) {
            Some(last) if !ended => {
                entries.partition_point(|entry| (entry.fragment.blob, entry.fragment.stripe) < last)
            }
            _ => entries.len(),
        };
        let rest = entries.split_off(whole);
        of_stripes(&entries).for_each(|stripe| singles.take(repair, stripe));
        entries = rest;
        if ended {
            return Ok(());
        }
    }
}
