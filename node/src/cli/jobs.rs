//! `cairn admin plan`, `apply`, `jobs` and `remove`: data that is to lie on other disks, through the admin API of any
//! node. `cairn status` shows the same lines of what is under way.

use std::fmt::Write;

use cairn_schema::record::{FailureDomain, JobKind};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ask::{self, Page},
    job_args::{JobsArgs, JobsCommand, RemoveArgs, Targets, WorkArgs, WorkCommand},
};
use crate::{
    admin::{JobOrder, TargetOrder, WorkOrder},
    failure::Failure,
    words::{bytes, duration, plural},
};

const PAGE: Page = Page { path: "/v1/jobs", refused: Failure::JobRefused };
/// Whole lists help nobody.
const MOST_LINES: usize = 20;

/// What is read of the admin API's answers, leniently, so that it works across versions.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Amount {
    positions: u64,
    bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WorkView {
    jobs: Vec<JobView>,
    draining: Vec<DrainingView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobView {
    id: u64,
    kind: String,
    targets: Vec<String>,
    by: String,
    state: String,
    reason: Option<String>,
    planned: Amount,
    moved: Amount,
    left: Option<Amount>,
    groups_moving: u64,
    bytes_per_second: Option<u64>,
    eta_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DrainingView {
    id: String,
    node: String,
    state: String,
    positions: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PlanView {
    kind: String,
    targets: Vec<String>,
    disks: Vec<String>,
    positions: u64,
    bytes: u64,
    groups: u64,
    groups_at_once: u64,
    bytes_per_second: u64,
    seconds: u64,
    failure_domain: String,
    tolerance: Vec<ToleranceView>,
    waiting_groups: u64,
    problems: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToleranceView {
    scheme: String,
    before: usize,
    during: usize,
    after: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    job: JobView,
    plan: PlanView,
    removed: Vec<String>,
}

/// Shows what a job would do. Fails if it could not be begun.
pub(crate) async fn plan(args: &WorkArgs, print: impl Fn(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let order = JobOrder::Plan { work: work(&args.work) };
    let (json, answer) = tell(&args.api.admin, &order).await?;
    print(&if args.api.json { json } else { answer.plan.in_words() })?;
    match answer.plan.problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::JobRefused(answer.plan.problems.join("; "))),
    }
}

/// Begins a job, and says what it is called.
pub(crate) async fn apply(args: &WorkArgs) -> Result<String, Failure> {
    let (json, answer) = tell(&args.api.admin, &JobOrder::Start { work: work(&args.work) }).await?;
    if args.api.json {
        return Ok(json);
    }
    Ok(format!(
        "{}\nIt goes on by itself, whatever nodes restart; `cairn admin jobs` shows how far it is.\n",
        answer.job.in_words()
    ))
}

/// Shows the jobs, or changes the state of one.
pub(crate) async fn jobs(args: &JobsArgs) -> Result<String, Failure> {
    let admin = &args.api.admin;
    let order = match args.command {
        None | Some(JobsCommand::List) => {
            let page = PAGE.ask(admin, None).await?;
            if args.api.json {
                return Ok(String::from_utf8_lossy(&page).into_owned());
            }
            return Ok(ask::read::<WorkView>(admin, &page)?.all_in_words());
        }
        Some(JobsCommand::Pause { job }) => JobOrder::Pause { job },
        Some(JobsCommand::Resume { job }) => JobOrder::Resume { job },
        Some(JobsCommand::Cancel { job }) => JobOrder::Cancel { job },
    };
    let (json, answer) = tell(admin, &order).await?;
    Ok(if args.api.json { json } else { format!("{}\n", answer.job.in_words()) })
}

/// Takes out disks that are drained.
pub(crate) async fn remove(args: &RemoveArgs) -> Result<String, Failure> {
    let (json, answer) = tell(&args.api.admin, &JobOrder::Remove { targets: targets(&args.targets) }).await?;
    if args.api.json {
        return Ok(json);
    }
    let removed = &answer.removed;
    Ok(format!(
        "{} taken out for good: {}\nThey can be pulled; nothing is read from them any more.\n",
        plural(removed.len(), "disk"),
        removed.join(", ")
    ))
}

async fn tell(admin: &str, order: &JobOrder) -> Result<(String, Answer), Failure> {
    let page = PAGE.ask(admin, Some(json!(order))).await?;
    let answer: Value = ask::read(admin, &page)?;
    let answer = serde_json::from_value(answer).map_err(|error| Failure::Encode(error.to_string()))?;
    Ok((String::from_utf8_lossy(&page).into_owned(), answer))
}

fn work(command: &WorkCommand) -> WorkOrder {
    match command {
        WorkCommand::Drain(named) => WorkOrder { kind: JobKind::Drain, targets: targets(named) },
        WorkCommand::Rebalance => WorkOrder { kind: JobKind::Rebalance, targets: Vec::new() },
    }
}

fn targets(Targets { disk, node, rack, zone }: &Targets) -> Vec<TargetOrder> {
    let target = |level| move |name: String| TargetOrder { level, name };
    let disks = disk.iter().map(ToString::to_string).map(target(FailureDomain::Disk));
    let nodes = node.iter().map(ToString::to_string).map(target(FailureDomain::Node));
    let racks = rack.iter().cloned().map(target(FailureDomain::Rack));
    disks.chain(nodes).chain(racks).chain(zone.iter().cloned().map(target(FailureDomain::Zone))).collect()
}

impl Amount {
    fn in_words(&self) -> String {
        format!(
            "{} of {}",
            plural(usize::try_from(self.positions).unwrap_or(usize::MAX), "position"),
            bytes(self.bytes)
        )
    }
}

impl JobView {
    fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "done" | "cancelled")
    }

    fn in_words(&self) -> String {
        let of = if self.targets.is_empty() { String::new() } else { format!(" of {}", self.targets.join(", ")) };
        let mut text = format!("job {}, {}{of}, begun by {}: {}", self.id, self.kind, self.by, self.state);
        if let Some(reason) = &self.reason {
            let _ = write!(text, ", because {reason}");
        }
        let _ = write!(text, "; moved {}", self.moved.in_words());
        let Some(left) = &self.left else { return text };
        let _ = write!(text, " ({} planned), left {}", self.planned.in_words(), left.in_words());
        if self.groups_moving > 0 {
            let groups = plural(usize::try_from(self.groups_moving).unwrap_or(usize::MAX), "group");
            let _ = write!(text, ", {groups} under way");
        }
        match (self.bytes_per_second, self.eta_seconds) {
            (Some(speed), Some(eta)) => {
                let _ = write!(text, "; {} a second, done in {}", bytes(speed), duration(eta));
            }
            _ if left.positions > 0 => text.push_str("; when it is done cannot be told yet"),
            _ => {}
        }
        text
    }
}

impl WorkView {
    /// For `cairn status`: nothing while nothing is under way.
    pub(super) fn lines(&self) -> Vec<String> {
        let jobs = self.jobs.iter().filter(|job| !job.is_over()).map(JobView::in_words);
        let mut lines: Vec<String> = jobs.take(MOST_LINES).collect();
        let drained = |disk: &&DrainingView| disk.state == "drained";
        let (empty, others) = (self.draining.iter().filter(drained).count(), self.draining.len());
        if others > 0 {
            lines.push(format!("{empty} of {} drained", plural(others, "disk")));
        }
        lines
    }

    fn all_in_words(&self) -> String {
        let mut text = String::new();
        if self.jobs.is_empty() {
            text.push_str("no jobs\n");
        }
        for job in &self.jobs {
            let _ = writeln!(text, "{}", job.in_words());
        }
        for DrainingView { id, node, state, positions } in self.draining.iter().take(MOST_LINES) {
            let _ = writeln!(text, "  disk {id} of {node} is {state}, in {}", plural(*positions as usize, "position"));
        }
        if self.draining.len() > MOST_LINES {
            let _ = writeln!(text, "  and {} more disks", self.draining.len() - MOST_LINES);
        }
        text
    }
}

impl PlanView {
    fn in_words(&self) -> String {
        let of = if self.targets.is_empty() { String::new() } else { format!(" of {}", self.targets.join(", ")) };
        let mut text = format!("{}{of}\n", self.kind);
        let amount = Amount { positions: self.positions, bytes: self.bytes };
        if !self.disks.is_empty() {
            let _ = writeln!(text, "  empties   {}", plural(self.disks.len(), "disk"));
        }
        let _ = writeln!(
            text,
            "  moves     {}, in {} groups, {} at a time",
            amount.in_words(),
            self.groups,
            self.groups_at_once
        );
        let (hours, rate) = (self.seconds as f64 / 3600.0, bytes(self.bytes_per_second));
        let _ = writeln!(text, "  takes     {hours:.2} h at least, at {rate} a second (`cairn admin rates`)");
        for ToleranceView { scheme, before, during, after } in &self.tolerance {
            let level = &self.failure_domain;
            let _ = writeln!(
                text,
                "  tolerates {scheme}: the loss of {before} {level}s now, {during} meanwhile, {after} after"
            );
        }
        if self.waiting_groups > 0 {
            let _ = writeln!(text, "  waits     for disks that are away, with {} groups", self.waiting_groups);
        }
        let _ = match self.problems.is_empty() {
            true => writeln!(text, "Nothing stands against it: `cairn admin apply` begins it."),
            false => writeln!(text, "It cannot be done."),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_job_is_told_with_why_it_is_blocked_and_when_it_is_done() {
        let job: JobView = serde_json::from_value(json!({
            "id": 3, "kind": "drain", "targets": ["node \"n3\""], "by": "n1", "state": "running", "reason": null,
            "planned": {"positions": 40, "bytes": 4 << 20}, "moved": {"positions": 10, "bytes": 1 << 20},
            "left": {"positions": 30, "bytes": 3 << 20}, "groups_moving": 4, "bytes_per_second": 1 << 20, "eta_seconds": 3,
        }))
        .unwrap();
        let told = job.in_words();
        assert!(
            told.contains("job 3, drain of node \"n3\", begun by n1: running; moved 10 positions of 1.00 MiB"),
            "{told}"
        );
        assert!(
            told.contains("left 30 positions of 3.00 MiB, 4 groups under way; 1.00 MiB a second, done in 3 s"),
            "{told}"
        );
        let blocked =
            JobView { state: "blocked".into(), reason: Some("group 7 waits".into()), eta_seconds: None, ..job };
        let told = blocked.in_words();
        assert!(told.contains("blocked, because group 7 waits;") && told.contains("cannot be told yet"), "{told}");
    }

    #[test]
    fn the_status_is_silent_while_nothing_is_under_way() {
        let over = JobView { state: "done".into(), ..JobView::default() };
        let mut work = WorkView { jobs: vec![over], draining: Vec::new() };
        assert!(work.lines().is_empty());
        work.draining.push(DrainingView { state: "drained".into(), ..DrainingView::default() });
        work.draining.push(DrainingView::default());
        assert_eq!(work.lines(), ["1 of 2 disks drained"]);
    }

    #[test]
    fn a_plan_says_what_it_costs_or_that_it_cannot_be_done() {
        let mut plan = PlanView {
            kind: "rebalance".into(),
            positions: 1,
            bytes: 1 << 30,
            groups: 1,
            groups_at_once: 4,
            bytes_per_second: 1 << 20,
            seconds: 2048,
            failure_domain: "rack".into(),
            tolerance: vec![ToleranceView { scheme: "4+2".into(), before: 2, during: 2, after: 2 }],
            ..PlanView::default()
        };
        let told = plan.in_words();
        assert!(told.contains("1 position of 1.00 GiB, in 1 groups, 4 at a time"), "{told}");
        assert!(
            told.contains("0.57 h at least") && told.contains("4+2: the loss of 2 racks now, 2 meanwhile, 2 after"),
            "{told}"
        );
        plan.problems.push("no".into());
        assert!(plan.in_words().contains("cannot be done"));
    }
}
