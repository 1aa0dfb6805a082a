//! Whether disks may be stopped: what every stripe has left without them, and whether writes go on. Pure.
//!
//! The answer holds for the moment that the rows are of. What a scrub has not found missing yet is not known to them
//! (RED-1), and neither is a stripe that is committed a moment later.

use std::collections::{BTreeMap, HashSet};

use cairn_schema::{ids::*, record::*};
use serde::Serialize;

use super::{
    Rows, Topology,
    members::{Candidate, pick_members},
    redundancy::{Margins, Presence, Redundancy},
    safety::write_quorum,
};

/// Groups that are named.
const EXAMPLES: usize = 5;

/// Whether something may be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Yes,
    No,
    /// It may be, but that is not known: nobody should.
    Unknown,
}

/// What reading is like without the disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    pub answer: Answer,
    /// Fragments that the stripe with the fewest can lose more, with the disks and without them. What is not known is
    /// taken for the worst. None: there are no stripes.
    pub least_before: Option<i32>,
    pub least_after: Option<i32>,
    /// Groups with stripes that could not be read without the disks, for certain.
    pub unreadable_groups: u64,
    /// Their stripes, and those of the groups that are next; None: that is not known.
    pub unreadable_stripes: Option<u64>,
    /// Groups that might have such stripes.
    pub doubtful_groups: u64,
    /// Of the groups above, those in which stripes cannot be read with the disks either.
    pub unreadable_before: u64,
    /// The first of these groups, those with the least margin first.
    pub examples: Vec<Example>,
}

/// A group that would have too little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub group: GroupId,
    pub scheme: Scheme,
    pub certain: bool,
    /// Not all rows of single fragments were read: nothing below is known to be all.
    pub unread: bool,
    /// Fragments more than needed that are left of its worst stripe.
    pub margin: i32,
    /// By position, its members among the disks, those that are away already, and those of which that is not known.
    pub stopped: Vec<DiskId>,
    pub away: Vec<DiskId>,
    pub unknown: Vec<DiskId>,
    /// Disks that would not be there, and become members at any moment.
    pub coming: Vec<DiskId>,
    /// Where else the stripe lacks a fragment, so far.
    pub lacking: Vec<u8>,
}

/// Whether every stripe can be read without the disks that are `stopped`. `presence` says which of the others are
/// there, and of these which were before.
pub fn reads(
    rows: &Rows,
    redundancy: &Redundancy,
    presence: impl Fn(DiskId) -> Presence,
    stopped: &HashSet<DiskId>,
) -> Reads {
    let after = |disk: DiskId| if stopped.contains(&disk) { Presence::Away } else { presence(disk) };
    let mut reads = Reads {
        answer: Answer::Yes,
        least_before: None,
        least_after: None,
        unreadable_groups: 0,
        unreadable_stripes: Some(0),
        doubtful_groups: 0,
        unreadable_before: 0,
        examples: Vec::new(),
    };
    let least = |a: Option<i32>, b: Option<i32>| a.into_iter().chain(b).min();
    let mut groups: Vec<&Group> = rows.groups.values().map(|group| &**group).collect();
    groups.sort_unstable_by_key(|group| group.id);
    for group in groups {
        let (now, then) = (redundancy.margins(group, &presence), redundancy.margins(group, after));
        reads.least_before = least(reads.least_before, now.worst);
        reads.least_after = least(reads.least_after, then.worst);
        let unread = redundancy.group(group.id).is_some_and(|known| known.unread);
        let certain = then.certain.is_some_and(|margin| margin < 0);
        if !certain && !unread && then.worst.is_none_or(|margin| margin >= 0) {
            continue;
        }
        reads.unreadable_groups += u64::from(certain);
        reads.doubtful_groups += u64::from(!certain);
        reads.unreadable_before += u64::from(now.certain.is_some_and(|margin| margin < 0));
        let stripes = then.unreadable.filter(|_| !unread);
        reads.unreadable_stripes = reads.unreadable_stripes.zip(stripes).map(|(sum, stripes)| sum + stripes);
        reads.examples.push(example(group, redundancy, &then, (certain, unread), &presence, stopped));
        if reads.examples.len() > 2 * EXAMPLES {
            keep_worst(&mut reads.examples);
        }
    }
    keep_worst(&mut reads.examples);
    reads.answer = match (reads.unreadable_groups, reads.doubtful_groups) {
        (0, 0) => Answer::Yes,
        (0, _) => Answer::Unknown,
        _ => Answer::No,
    };
    reads
}

fn keep_worst(examples: &mut Vec<Example>) {
    examples.sort_by_key(|example| (!example.certain, example.margin, example.group));
    examples.truncate(EXAMPLES);
}

fn example(
    group: &Group,
    redundancy: &Redundancy,
    then: &Margins,
    (certain, unread): (bool, bool),
    presence: impl Fn(DiskId) -> Presence,
    stopped: &HashSet<DiskId>,
) -> Example {
    let others = |is: Presence| {
        let such = |disk: &&DiskId| !stopped.contains(*disk) && presence(**disk) == is;
        group.members.iter().filter(such).copied().collect()
    };
    let is_there = |disk: &DiskId| !stopped.contains(disk) && presence(*disk) == Presence::There;
    let there = |position: &u8| group.members.get(usize::from(*position)).is_some_and(is_there);
    Example {
        group: group.id,
        scheme: group.scheme,
        certain,
        unread,
        margin: then.certain.filter(|_| certain).or(then.worst).unwrap_or(0),
        stopped: group.members.iter().filter(|disk| stopped.contains(*disk)).copied().collect(),
        away: others(Presence::Away),
        unknown: others(Presence::Unknown),
        coming: redundancy.coming(group.id).filter(|disk| !is_there(disk)).collect(),
        lacking: then.worst_at.iter().copied().filter(there).collect(),
    }
}

/// How writes of a scheme go on without the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Writes {
    /// To groups all of whose members are there, or to new ones of what is there.
    Whole,
    /// To groups with members away: their stripes lack fragments until these return.
    Degraded,
    Refused,
}

/// Writes of one of the policy's schemes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemeWrites {
    pub scheme: String,
    pub writes: Writes,
    /// Why they are not whole, in an operator's words.
    pub why: Option<String>,
    /// Open groups that no stripe could be written to, of how many.
    pub groups_refusing: u64,
    pub groups: u64,
}

/// How writes go on in a picture of the cluster: by the same rules as [`super::Placement::choose`] has.
pub fn writes(picture: &Topology) -> Vec<SchemeWrites> {
    picture.policy().schemes().map(|scheme| writes_of(picture, scheme)).collect()
}

fn writes_of(picture: &Topology, scheme: Scheme) -> SchemeWrites {
    let open = picture.open_groups(scheme);
    let accepting = open.iter().filter(|group| accepts(picture, group)).count();
    let whole = !picture.healthy_groups(scheme).is_empty();
    let (writes, why) = match could_form(picture, scheme) {
        _ if whole => (Writes::Whole, None),
        Ok(()) => (Writes::Whole, None),
        Err(why) if accepting > 0 => (Writes::Degraded, Some(why)),
        Err(why) => (Writes::Refused, Some(why)),
    };
    let (groups, refusing) = (open.len() as u64, (open.len() - accepting) as u64);
    SchemeWrites { scheme: scheme.to_string(), writes, why, groups_refusing: refusing, groups }
}

/// Whether the members that are fit can make a stripe safe.
pub fn accepts(picture: &Topology, group: &Group) -> bool {
    let fit = picture.members_that(group, |disk| disk.fit().is_ok());
    fit.len() >= write_quorum(group.scheme, picture.policy().write_margin) && picture.safety(group).holds(fit)
}

fn could_form(picture: &Topology, scheme: Scheme) -> Result<(), String> {
    let candidate = |view: &super::DiskView| Candidate {
        id: view.disk.id,
        node: view.domain(FailureDomain::Node),
        rack: view.domain(FailureDomain::Rack),
        zone: view.domain(FailureDomain::Zone),
        weight: 1,
        groups: 0,
    };
    let candidates: Vec<Candidate> = picture.may_enter(scheme).map(candidate).collect();
    let formed = pick_members(scheme, picture.policy().failure_domain, &candidates, &mut rand::rng());
    formed.map(drop).map_err(|error| error.to_string())
}

/// What an operator names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Named {
    Disk,
    Node,
    Rack,
    Zone,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Node => "node",
            Self::Rack => "rack",
            Self::Zone => "zone",
        })
    }
}

/// Why nothing can be said of what was named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    #[error("no {0} {1} has a disk here; `cairn status --json` names all there are")]
    Nothing(Named, String),
    #[error("there are racks {name} in several zones: write one as {}", .zones.iter().map(|zone| format!("{zone}/{name}")).collect::<Vec<_>>().join(" or "))]
    Several { name: String, zones: Vec<String> },
    #[error("name at least one {0}")]
    None(Named),
}

/// The disks of everything that is named. A rack is ZONE/RACK, or RACK alone if only one zone has it.
pub fn disks_of(rows: &Rows, kind: Named, names: &[String]) -> Result<HashSet<DiskId>, UnknownName> {
    if names.is_empty() {
        return Err(UnknownName::None(kind));
    }
    let mut all = HashSet::new();
    for name in names {
        let of_it = |disk: &&Disk| match kind {
            Named::Disk => disk.id.to_string() == *name,
            Named::Node => disk.node.as_str() == name,
            Named::Rack => disk.rack == *name || disk.domain(FailureDomain::Rack) == *name,
            Named::Zone => disk.zone == *name,
        };
        // What was taken out has no fragments, and is nowhere.
        let disks: Vec<&Disk> =
            rows.disks.values().filter(|disk| disk.state != DiskState::Removed).filter(of_it).collect();
        if disks.is_empty() {
            return Err(UnknownName::Nothing(kind, name.chars().take(128).collect()));
        }
        if kind == Named::Rack {
            let zones: BTreeMap<&str, ()> = disks.iter().map(|disk| (disk.zone.as_str(), ())).collect();
            if zones.len() > 1 {
                let zones = zones.into_keys().map(str::to_owned).collect();
                return Err(UnknownName::Several { name: name.clone(), zones });
            }
        }
        all.extend(disks.iter().map(|disk| disk.id));
    }
    Ok(all)
}

#[cfg(test)]
#[path = "stopping_tests.rs"]
mod tests;
