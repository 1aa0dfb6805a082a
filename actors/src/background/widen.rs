//! Groups that lie on fewer failure domains than they could, because some were away or not there yet when they were
//! formed: some of their members move, so that the stripes in them can lose as much as the layout allows. Pure, as the
//! rest of what is drafted.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use cairn_schema::{ids::*, record::*};

use super::{
    draft::{Draft, DraftMove, Stock, level_out},
    groups,
};
use crate::placement::{Rows, tolerance::Layout};

/// What a rebalance does next: groups are spread as wide as they can be, and then loads are made even.
pub(crate) fn rebalance(rows: &Rows, skip: &HashSet<GroupId>, stock: &mut Stock<'_>, most: usize) -> Draft {
    let mut draft = widen(rows, skip, stock, most);
    let left = most.saturating_sub(draft.moves.len());
    if left == 0 {
        return draft;
    }
    // By where those lie then, which are left alone for now.
    let mut then = rows.clone();
    let mut skip = skip.clone();
    for moved in &draft.moves {
        skip.insert(moved.group);
        if let Some(group) = then.groups.get_mut(&moved.group) {
            Arc::make_mut(group).members = moved.members(&group.members);
        }
    }
    draft.moves.extend(level_out(&then, &skip, stock, left).moves);
    draft
}

/// The first `most` moves after which a group could lose more failure domains than now. Groups without stripes have
/// nothing to lose.
pub(crate) fn widen(rows: &Rows, skip: &HashSet<GroupId>, stock: &mut Stock<'_>, most: usize) -> Draft {
    let layout = Layout::of(rows, stock.level());
    let mut ids: Vec<GroupId> = rows.groups.keys().filter(|id| !skip.contains(id)).copied().collect();
    ids.sort_unstable();
    let mut draft = Draft::default();
    for group in ids.iter().filter_map(|id| rows.groups.get(id)) {
        if draft.moves.len() >= most {
            break;
        }
        if stock.stripes_of(group.id) == 0 || !groups::is_whole(rows, group) {
            continue;
        }
        let to = wider(rows, &layout, stock, group);
        if to.is_empty() {
            continue;
        }
        let bytes = stock.needed(group);
        to.values().for_each(|disk| stock.take(*disk, bytes));
        let bytes = bytes.saturating_mul(to.len() as u64);
        draft.moves.push(DraftMove { group: group.id, epoch: group.epoch, to, bytes });
    }
    draft
}

/// New members for a group, each in a domain that holds fewer of it then than the one it leaves holds now: nothing goes
/// back and forth. None where that would not let it lose more.
fn wider(rows: &Rows, layout: &Layout, stock: &Stock<'_>, group: &Group) -> BTreeMap<u8, DiskId> {
    let (level, possible) = (stock.level(), layout.possible(group.scheme));
    let before = layout.of_members(group.scheme, &group.members);
    let (mut members, mut to) = (group.members.clone(), BTreeMap::new());
    while layout.of_members(group.scheme, &members) < possible {
        let domain = |disk: &DiskId| rows.disks.get(disk).map(|disk| disk.domain(level));
        let mut crowds: HashMap<String, Vec<u8>> = HashMap::new();
        for (position, member) in (0u8..).zip(&members) {
            let Some(domain) = domain(member) else { return BTreeMap::new() };
            crowds.entry(domain).or_default().push(position);
        }
        let stays = |position: &u8| !to.contains_key(position);
        let most = crowds.values().map(Vec::len).max().unwrap_or(0);
        let fullest = crowds.values().filter(|positions| positions.len() == most);
        let Some(position) = fullest.flatten().copied().filter(stays).min() else { break };
        let less = |disk: DiskId| {
            let there = domain(&disk).and_then(|domain| crowds.get(&domain)).map_or(0, Vec::len);
            there + 1 < most
        };
        let Some(disk) = stock.stand_in_where(group, &members, position.into(), less) else { break };
        members[usize::from(position)] = disk;
        to.insert(position, disk);
    }
    if layout.of_members(group.scheme, &members) > before { to } else { BTreeMap::new() }
}

#[cfg(test)]
#[path = "widen_tests.rs"]
mod tests;
