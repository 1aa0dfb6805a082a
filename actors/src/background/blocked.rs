//! Why a job that runs moves nothing, in an operator's words.

use std::{collections::BTreeMap, sync::Arc};

use cairn_schema::{MetaError, ids::*, record::*};

use super::{Context, draft::Draft, replace::Lacking};
use crate::placement::Rows;

/// Rows of groups under repair that are read at a time.
const ROWS_PER_PAGE: usize = 1000;

/// Why a job of which nothing is under way is not done yet.
pub(super) async fn why(
    ctx: &Context,
    rows: &Rows,
    job: &Job,
    draft: &Draft,
    reasons: &BTreeMap<GroupId, String>,
) -> Result<Option<String>, MetaError> {
    if let Some((group, position, lacking)) = draft.stuck.first() {
        let (count, level) = (draft.stuck.len(), ctx.policy().failure_domain);
        let why = why_stuck(*lacking, level);
        return Ok(Some(format!("position {position} of group {group}: {why} ({count} such in all)")));
    }
    if let Some(group) = draft.waiting.first() {
        let group = rows.groups.get(group);
        let away = group
            .and_then(|group| group.members.iter().find(|disk| !rows.state(**disk).is_some_and(DiskState::serves)));
        let (group, disk) = (group.map(|group| group.id).unwrap_or(GroupId(0)), away.copied());
        let disk = disk.map_or_else(|| "a disk".to_owned(), |disk| format!("disk {disk}"));
        let count = draft.waiting.len();
        return Ok(Some(format!("group {group} waits for {disk}, which is away ({count} such groups in all)")));
    }
    let means =
        |disk: DiskId| rows.disks.get(&disk).is_some_and(|disk| job.means(disk) && disk.state != DiskState::Removed);
    let holds = |group: &Arc<Group>| group.members.iter().any(|disk| means(*disk));
    let of_it = |group: &GroupId| job.kind == JobKind::Rebalance || rows.groups.get(group).is_some_and(&holds);
    if let Some((group, why)) = reasons.iter().find(|(group, _)| of_it(group)) {
        return Ok(Some(format!("group {group} is tried again soon: {why}")));
    }
    if job.kind == JobKind::Rebalance {
        return Ok(None);
    }
    if let Some(group) = rows.groups.values().filter(|group| holds(group)).min_by_key(|group| group.id) {
        let disk = group.members.iter().find(|disk| means(**disk)).copied().unwrap_or(DiskId([0; 16]));
        let state = rows.state(disk).map_or("unknown", DiskState::name);
        return Ok(Some(format!("disk {disk} is {state}, and group {} has it as a member", group.id)));
    }
    let mut after = None;
    loop {
        let page = ctx.meta.group_repairs(after, ROWS_PER_PAGE).await?;
        let Some(last) = page.last() else { return Ok(None) };
        after = Some(last.group);
        if let Some(repair) = page.iter().find(|repair| repair.positions.iter().any(|position| means(position.from))) {
            return Ok(Some(format!("the repair of group {} copies from its disks", repair.group)));
        }
    }
}

/// Why a position has nowhere to go.
pub(crate) fn why_stuck(lacking: Lacking, level: FailureDomain) -> String {
    match lacking {
        Lacking::Disk => {
            format!("no disk may take it without a {level} holding more of the group than may be lost (PLC-1)")
        }
        Lacking::Room => "the disks that may take it have no room for it, or take no writes now".to_owned(),
    }
}
