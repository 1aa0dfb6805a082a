//! What an operator is told who asks whether something may be stopped.

use std::{collections::HashSet, time::Duration};

use cairn_schema::{ids::*, record::*};
use serde::Serialize;

use super::{
    boot::Running,
    options::RuntimeError,
    survey::{Depth, Survey},
};
use crate::placement::{
    redundancy::Presence,
    stopping::{Answer, Example, Named, Reads, SchemeWrites, disks_of, reads, writes},
};

/// As many rows of single fragments as an operator waits for: what is not read is not known, and then nobody may stop
/// anything.
const DEPTH: Depth = Depth { rows: 2_000_000, time: Duration::from_secs(8) };
/// Of this answer's form.
const FORMAT: u32 = 1;
/// Disks and nodes that are named one by one.
const MOST_NAMED: usize = 6;

/// Whether something may be stopped, and why.
#[derive(Clone, Debug, Serialize)]
pub struct StopAnswer {
    pub format: u32,
    pub seen_by: NodeId,
    pub kind: Named,
    pub names: Vec<String>,
    pub disks: usize,
    /// Nodes under maintenance, besides: they count as stopped.
    pub counted_as_stopped: Vec<NodeId>,
    /// About reading alone; see `writes` for the rest.
    pub answer: Answer,
    /// Fragments that the stripe with the fewest can lose more, before and after; None: there are no stripes.
    pub least_before: Option<i32>,
    pub least_after: Option<i32>,
    pub unreadable_groups: u64,
    /// None: that is not known.
    pub unreadable_stripes: Option<u64>,
    pub doubtful_groups: u64,
    pub writes: Vec<SchemeWrites>,
    /// Sentences for people.
    pub why: Vec<String>,
}

pub(super) async fn answer(running: &Running, kind: Named, names: Vec<String>) -> Result<StopAnswer, RuntimeError> {
    let survey = Survey::read(running, DEPTH).await?;
    let stopped = disks_of(&survey.rows, kind, &names)?;
    let rows = &*survey.rows;
    let maintained = |disk: DiskId| rows.is_maintained(disk) && !stopped.contains(&disk);
    let presence = |disk: DiskId| if maintained(disk) { Presence::Away } else { survey.presence(disk) };
    let read = reads(rows, &survey.redundancy(), presence, &stopped);
    let gone: HashSet<DiskId> = rows
        .disks
        .keys()
        .copied()
        .filter(|disk| stopped.contains(disk) || presence(*disk) != Presence::There)
        .collect();
    let writes = writes(&survey.picture.without(&gone));
    let counted: HashSet<&NodeId> =
        rows.disks.values().filter(|disk| maintained(disk.id)).map(|disk| &disk.node).collect();
    let mut counted_as_stopped: Vec<NodeId> = counted.into_iter().cloned().collect();
    counted_as_stopped.sort_unstable();
    let words = Words { survey: &survey, seen_by: &running.node };
    let mut why = words.of_reads(&read, names.len() == 1);
    let answer = match read.answer {
        Answer::Yes if survey.unsettled => Answer::Unknown,
        answer => answer,
    };
    if survey.unsettled {
        why.insert(0, "disks and groups change while they are looked at: ask again".to_owned());
    }
    Ok(StopAnswer {
        format: FORMAT,
        seen_by: running.node.clone(),
        kind,
        disks: stopped.len(),
        names,
        counted_as_stopped,
        answer,
        least_before: read.least_before,
        least_after: read.least_after,
        unreadable_groups: read.unreadable_groups,
        unreadable_stripes: read.unreadable_stripes,
        doubtful_groups: read.doubtful_groups,
        writes,
        why,
    })
}

struct Words<'a> {
    survey: &'a Survey,
    seen_by: &'a NodeId,
}

impl Words<'_> {
    fn of_reads(&self, read: &Reads, one: bool) -> Vec<String> {
        let it = if one { "it" } else { "them" };
        let mut why = Vec::new();
        match read.answer {
            Answer::Yes => match read.least_after {
                None => why.push("nothing is stored yet".to_owned()),
                Some(0) => why.push(format!(
                    "every stripe can be read without {it}, but while that lasts some can lose nothing more"
                )),
                Some(least) => why.push(format!(
                    "every stripe can be read without {it}, and could lose {least} more {}",
                    if least == 1 { "fragment" } else { "fragments" }
                )),
            },
            Answer::No if read.unreadable_before > 0 => {
                why.push("some stripes have too little already, with what is under maintenance counted as stopped: bring back \
                     what is away, or end maintenance, first"
                    .to_owned());
            }
            Answer::No => {}
            Answer::Unknown => {
                why.push("it is not known of every stripe that it could be read: that counts as no".to_owned())
            }
        }
        why.extend(read.examples.iter().map(|example| self.of_example(example)));
        why
    }

    fn of_example(&self, example: &Example) -> String {
        let Example { group, scheme, certain, unread, margin, .. } = example;
        let needed = cairn_fragment::geometry::needed_fragments(*scheme);
        let left = (needed as i32 + margin).max(0);
        let mut parts = Vec::new();
        let mut named = |what: &str, disks: &[DiskId]| {
            if !disks.is_empty() {
                parts.push(format!("{what} {}", self.named(disks)));
            }
        };
        named("to be stopped:", &example.stopped);
        named("away:", &example.away);
        named(&format!("no answer to {}:", self.seen_by), &example.unknown);
        named("may become a member at any moment, and would not be there:", &example.coming);
        if !example.lacking.is_empty() {
            parts.push(format!("not made yet: {} of its other fragments", example.lacking.len()));
        }
        if *unread {
            parts.push("the ledger has more rows of it than were read".to_owned());
        }
        let would = if *certain { "would have" } else { "might have" };
        format!(
            "group {group} ({scheme}) {would} stripes with {left} fragments, and needs {needed}; {}",
            parts.join("; ")
        )
    }

    fn named(&self, disks: &[DiskId]) -> String {
        let name = |id: &DiskId| match self.survey.rows.disks.get(id) {
            None => format!("disk {id}"),
            Some(disk) if self.survey.rows.maintained.contains(&disk.node) => {
                format!("{} (under maintenance)", disk.node)
            }
            Some(disk) if matches!(disk.state, DiskState::Up | DiskState::Draining) => disk.node.to_string(),
            Some(disk) => format!("{} ({})", disk.node, disk.state.name()),
        };
        let mut names: Vec<String> = disks.iter().map(name).collect();
        let more = names.len().saturating_sub(MOST_NAMED);
        names.truncate(MOST_NAMED);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{rest}", names.join(", "))
    }
}
