//! Whether the data is safe, in one word and one line; what repair is doing about it; how full disks are, and how long
//! ago their bytes were verified. What is not known is said to be unknown, and never 0.

use std::collections::HashMap;

use cairn_fragment::DiskStatus;
use cairn_schema::{ids::*, record::*};
use serde::Serialize;

use super::survey::Survey;
use crate::{
    background::HealingMetrics,
    placement::{
        redundancy::Presence,
        standing::{Count, Grade, Standing, standing},
    },
};

/// Silent disks that are named.
const MOST_NAMED: usize = 3;

/// Whether the data is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    Safe,
    Degraded,
    AtRisk,
    Unavailable,
    Unknown,
}

impl From<Grade> for HealthState {
    fn from(grade: Grade) -> Self {
        match grade {
            Grade::Safe => Self::Safe,
            Grade::Degraded => Self::Degraded,
            Grade::AtRisk => Self::AtRisk,
            Grade::Unavailable => Self::Unavailable,
        }
    }
}

/// Whether the data is safe, as one node sees it.
#[derive(Clone, Debug, Serialize)]
pub struct HealthStatus {
    pub state: HealthState,
    /// The same in one line.
    pub words: String,
    /// Losses that the stripes that stand worst have used up, of how many that are tolerated.
    pub used: u32,
    pub tolerated: u32,
    /// Stripes without all their fragments, by how many more they can lose; below 0 they cannot be read.
    pub stripes_by_tolerance: Vec<StripesLeft>,
    /// If the state is unknown: between what it is. Else both are the state.
    pub at_least: HealthState,
    pub at_worst: HealthState,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct StripesLeft {
    pub tolerance: i32,
    #[serde(flatten)]
    pub count: Count,
}

/// What else there is to say of the data.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Besides {
    /// Blobs that are not what was written.
    pub inconsistent: usize,
    /// Groups of which a failure domain holds more than it may.
    pub crowded: usize,
    pub thin: u64,
}

pub(super) fn health(survey: &Survey, seen_by: &NodeId, level: FailureDomain, besides: Besides) -> HealthStatus {
    let standing = standing(&survey.rows, &survey.redundancy(), |disk| survey.presence(disk));
    let mut unknown = Vec::new();
    if survey.unsettled {
        unknown.push("disks and groups change while they are looked at".to_owned());
    }
    if standing.unread_groups > 0 {
        let groups = standing.unread_groups;
        unknown.push(format!("the ledger is longer than was read, in {groups} groups"));
    }
    if standing.at_worst > standing.at_worst_if_there {
        unknown.push(silent(survey, seen_by));
    }
    let unread = standing.unread_groups > 0 || survey.unsettled;
    let state = judge(&standing, unread);
    let grades = (standing.at_least.into(), if unread { Grade::Unavailable } else { standing.at_worst }.into());
    let said = match state {
        Some(grade) => words(grade, &standing),
        None if unknown.is_empty() => "unknown: what is being repaired may or may not be the same stripes".to_owned(),
        None => format!("unknown: {}", unknown.join("; ")),
    };
    let mut health = HealthStatus {
        state: state.map_or(HealthState::Unknown, Into::into),
        words: said,
        used: standing.used,
        tolerated: standing.tolerated,
        stripes_by_tolerance: standing
            .by_margin
            .iter()
            .map(|(tolerance, count)| StripesLeft { tolerance: *tolerance, count: *count })
            .collect(),
        at_least: state.map_or(grades.0, Into::into),
        at_worst: state.map_or(grades.1, Into::into),
    };
    if state.is_none() {
        let so_far = if unread { "as far as was read" } else { "at worst" };
        health.words += &format!("; {so_far}: {}", words(standing.at_worst, &standing));
    }
    health.add(level, besides);
    health
}

/// None: that is not known. What may be worse for disks that do not answer is taken for granted as long as nothing is
/// at risk by it: a node sees a neighbour that was just killed before the cluster has decided about it.
fn judge(standing: &Standing, unread: bool) -> Option<Grade> {
    let Standing { at_least, at_worst, at_worst_if_there, .. } = standing;
    let worst_is_certain = at_worst == at_least || (at_worst == at_worst_if_there && *at_worst < Grade::Unavailable);
    match () {
        // Nothing that was not read makes it better.
        () if *at_least >= Grade::AtRisk && (worst_is_certain || *at_least == Grade::Unavailable) => Some(*at_worst),
        () if unread => None,
        () if worst_is_certain || *at_worst <= Grade::Degraded => Some(*at_worst),
        () => None,
    }
}

fn words(grade: Grade, standing: &Standing) -> String {
    let stripes = |most: i32| stripes_in_words(standing.stripes_up_to(most));
    let Standing { used, tolerated, .. } = standing;
    match grade {
        Grade::Safe if standing.empty => "safe: nothing is stored".to_owned(),
        Grade::Safe => "safe".to_owned(),
        Grade::Degraded => {
            format!("degraded: {used} of {tolerated} tolerated losses used; {} lack fragments", stripes(i32::MAX))
        }
        Grade::AtRisk => format!("AT RISK: {} may lose nothing more", stripes(0)),
        Grade::Unavailable => format!("DATA UNAVAILABLE: {} cannot be read now", stripes(-1)),
    }
}

fn stripes_in_words(Count { stripes, at_least }: Count) -> String {
    match (stripes, at_least) {
        (0, true) => "some stripes".to_owned(),
        (1, false) => "1 stripe".to_owned(),
        (_, false) => format!("{stripes} stripes"),
        (_, true) => format!("{stripes} stripes or more"),
    }
}

/// Disks that should be there and do not answer.
fn silent(survey: &Survey, seen_by: &NodeId) -> String {
    let silent = |disk: &&Disk| disk.state != DiskState::Removed && survey.presence(disk.id) == Presence::Unknown;
    let mut nodes: Vec<String> = survey.rows.disks.values().filter(silent).map(|disk| disk.node.to_string()).collect();
    let disks = nodes.len();
    nodes.sort_unstable();
    nodes.dedup();
    let more = nodes.len().saturating_sub(MOST_NAMED);
    nodes.truncate(MOST_NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let disks = if disks == 1 { "1 disk does".to_owned() } else { format!("{disks} disks do") };
    format!("{disks} not answer {seen_by} (of {}{rest})", nodes.join(", "))
}

impl HealthStatus {
    /// What makes it worse that no stripe's fragments tell.
    fn add(&mut self, level: FailureDomain, Besides { inconsistent, crowded, thin }: Besides) {
        let mut worse = |than: &[HealthState], state, words: String| {
            if than.contains(&self.state) {
                (self.state, self.at_least, self.at_worst) = (state, state, state);
                self.words = words;
            } else {
                self.words = format!("{}; {words}", self.words);
            }
        };
        if inconsistent > 0 {
            let words = format!("AT RISK: {inconsistent} blobs are not what was written, and cannot be mended");
            worse(&[HealthState::Safe, HealthState::Degraded], HealthState::AtRisk, words);
        }
        if crowded > 0 {
            let words = format!("degraded: a {level} holds more of {crowded} groups than may be lost");
            worse(&[HealthState::Safe], HealthState::Degraded, words);
        }
        if thin > 0 {
            self.words += &format!("; {thin} stripes could lose fewer {level}s than the layout allows");
        }
    }
}

/// What repair is doing.
#[derive(Clone, Debug, Serialize)]
pub struct RepairStatus {
    /// Fragments that are missing, by how many more their stripes can lose, as this node's repair found them when it
    /// looked last.
    pub missing: Vec<MissingLeft>,
    /// Bytes that this node makes anew, each second.
    pub node_bytes_per_second: u64,
    /// Seconds until nothing is missing, at the rate at which the whole cluster made it less lately; None: that is not
    /// known.
    pub eta_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MissingLeft {
    pub tolerance: i32,
    pub fragments: u64,
    /// Until nothing is missing of such stripes, and of those that can lose less.
    pub eta_seconds: Option<u64>,
}

pub(super) fn repairing(metrics: &HealingMetrics) -> RepairStatus {
    let etas: HashMap<i32, i64> = HealingMetrics::by_number(&metrics.repair_eta_by_tolerance).into_iter().collect();
    let seconds = |eta: i64| u64::try_from(eta).ok();
    let missing = HealingMetrics::by_number(&metrics.missing_by_tolerance);
    let mut missing: Vec<MissingLeft> = missing
        .into_iter()
        .filter(|(_, fragments)| *fragments > 0)
        .map(|(tolerance, fragments)| MissingLeft {
            tolerance,
            fragments: u64::try_from(fragments).unwrap_or(0),
            eta_seconds: etas.get(&tolerance).copied().and_then(seconds),
        })
        .collect();
    missing.sort_by_key(|left| left.tolerance);
    RepairStatus {
        eta_seconds: missing.last().map_or(Some(0), |last| last.eta_seconds),
        missing,
        node_bytes_per_second: u64::try_from(metrics.repair_rate.get()).unwrap_or(0),
    }
}

/// How full the disks are that tell it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SpaceStatus {
    /// Of the disks that tell.
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    pub free_bytes: u64,
    /// Disks that are not lost and do not tell: they are in none of the figures.
    pub silent_disks: usize,
    /// What is not free of the fullest disk, and of the emptiest, in percent. None: no disk tells.
    pub fullest_percent: Option<f64>,
    pub emptiest_percent: Option<f64>,
    pub fullest_disk: Option<String>,
}

pub(super) fn space(disks: &[Disk], reports: &HashMap<DiskId, DiskStatus>) -> SpaceStatus {
    let mut space = SpaceStatus::default();
    for disk in disks.iter().filter(|disk| !matches!(disk.state, DiskState::Lost | DiskState::Removed)) {
        let Some(report) = reports.get(&disk.id).filter(|report| report.failed.is_none()) else {
            space.silent_disks += 1;
            continue;
        };
        space.capacity_bytes = space.capacity_bytes.saturating_add(disk.capacity_bytes);
        space.used_bytes = space.used_bytes.saturating_add(report.used_bytes);
        space.free_bytes = space.free_bytes.saturating_add(report.free_bytes);
        let capacity = disk.capacity_bytes.max(1) as f64;
        let full = (100.0 * (1.0 - report.free_bytes as f64 / capacity)).clamp(0.0, 100.0);
        let full = (full * 10.0).round() / 10.0;
        if space.fullest_percent.is_none_or(|fullest| full > fullest) {
            (space.fullest_percent, space.fullest_disk) = (Some(full), Some(disk.id.to_string()));
        }
        space.emptiest_percent = Some(space.emptiest_percent.map_or(full, |emptiest: f64| emptiest.min(full)));
    }
    space
}

/// How long ago bytes were verified, of the disks whose scrubs run in this process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScrubStatus {
    /// No byte of these disks was verified longer ago; None: there was no whole pass over one of them yet, or no disk
    /// is known.
    pub oldest_seconds: Option<u64>,
    /// By disk; None: no whole pass yet.
    pub disks: Vec<(String, Option<u64>)>,
    /// Disks of which it is not known here, but where their nodes run.
    pub unknown_disks: usize,
}

impl ScrubStatus {
    pub(super) fn of(metrics: &HealingMetrics, disks: usize) -> Self {
        let ages = HealingMetrics::by_label(&metrics.scrub_oldest_seconds);
        let ages = ages.into_iter().map(|(disk, age)| (disk, u64::try_from(age).ok()));
        let mut scrub = Self { disks: ages.collect(), ..Self::default() };
        scrub.unknown_disks = disks.saturating_sub(scrub.disks.len());
        scrub.settle();
        scrub
    }

    /// With what another node of this process knows.
    pub fn add(&mut self, other: Self) {
        self.unknown_disks = self.unknown_disks.saturating_sub(other.disks.len());
        self.disks.extend(other.disks);
        self.settle();
    }

    fn settle(&mut self) {
        self.disks.sort();
        let ages: Option<Vec<u64>> = self.disks.iter().map(|(_, age)| *age).collect();
        self.oldest_seconds = ages.and_then(|ages| ages.into_iter().max());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(at_least: Grade, at_worst_if_there: Grade, at_worst: Grade) -> Standing {
        let by_margin = [(-1, 1), (0, 3), (1, 40)];
        let by_margin = by_margin.map(|(margin, stripes)| (margin, Count { stripes, at_least: margin == -1 })).into();
        Standing {
            empty: false,
            at_least,
            at_worst,
            at_worst_if_there,
            unread_groups: 0,
            used: 1,
            tolerated: 2,
            by_margin,
        }
    }

    #[test]
    fn what_is_known_is_said_and_the_rest_is_unknown() {
        use Grade::{AtRisk, Degraded, Safe, Unavailable};
        for (standing, unread, expected) in [
            (stands(Safe, Safe, Safe), false, Some(Safe)),
            (stands(Degraded, Degraded, Degraded), false, Some(Degraded)),
            // A neighbour that was just killed.
            (stands(Safe, Safe, Degraded), false, Some(Degraded)),
            (stands(Safe, Safe, AtRisk), false, None),
            (stands(Degraded, Degraded, Unavailable), false, None),
            // Which stripes are not made yet is known in part only: the worst is said, but not that all is lost.
            (stands(Degraded, AtRisk, AtRisk), false, Some(AtRisk)),
            (stands(AtRisk, Unavailable, Unavailable), false, None),
            (stands(Unavailable, Unavailable, Unavailable), false, Some(Unavailable)),
            // What was not read may be worse than what was, and never better.
            (stands(Safe, Safe, Safe), true, None),
            (stands(AtRisk, AtRisk, AtRisk), true, Some(AtRisk)),
            (stands(Unavailable, Unavailable, Unavailable), true, Some(Unavailable)),
        ] {
            assert_eq!(judge(&standing, unread), expected, "{standing:?}");
        }
    }

    #[test]
    fn words_say_how_many() {
        let standing = stands(Grade::Safe, Grade::Safe, Grade::Safe);
        let said = |grade| words(grade, &standing);
        assert_eq!(said(Grade::Degraded), "degraded: 1 of 2 tolerated losses used; 44 stripes or more lack fragments");
        assert_eq!(said(Grade::AtRisk), "AT RISK: 4 stripes or more may lose nothing more");
        assert_eq!(said(Grade::Unavailable), "DATA UNAVAILABLE: 1 stripes or more cannot be read now");
    }

    #[test]
    fn of_a_disk_without_a_pass_the_oldest_byte_is_unknown() {
        let mut scrub = ScrubStatus { disks: vec![("a".into(), Some(7))], unknown_disks: 3, ..ScrubStatus::default() };
        scrub.settle();
        assert_eq!(scrub.oldest_seconds, Some(7));
        scrub.add(ScrubStatus { disks: vec![("b".into(), Some(9))], ..ScrubStatus::default() });
        assert_eq!((scrub.oldest_seconds, scrub.unknown_disks), (Some(9), 2));
        scrub.add(ScrubStatus { disks: vec![("c".into(), None)], ..ScrubStatus::default() });
        assert_eq!((scrub.oldest_seconds, scrub.unknown_disks), (None, 1));
    }
}
