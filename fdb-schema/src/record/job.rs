//! What operators have asked the cluster to do over time: disks to be drained, data to be spread evenly.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::AttemptId,
    record::{Disk, FailureDomain, SettingProblem},
    text::Shown,
};

/// The number of a job, as operators name it. Jobs are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Everything that the targets hold moves to other disks.
    Drain,
    /// Data moves from the disks that are fullest for their size to the emptiest.
    Rebalance,
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drain => "drain",
            Self::Rebalance => "rebalance",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    Running,
    /// Until somebody resumes it.
    Paused,
    Done,
    Cancelled,
}

impl JobState {
    /// It is not over.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Whether an operator's word may lead from here to there.
    pub fn may_become(self, next: Self) -> bool {
        match next {
            Self::Running => self == Self::Paused,
            Self::Paused => self == Self::Running,
            // A drain that is done, too: its disks are to be used again.
            Self::Cancelled => self != Self::Cancelled,
            Self::Done => self == Self::Running,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Disks that are meant: all that fail with one name. A disk is called by its id, a node by its own, a rack
/// `zone/rack`, a zone by its name. What is meant is looked up whenever it matters, so a disk that is added to a node
/// that is drained is drained as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobTarget {
    pub level: FailureDomain,
    pub name: String,
}

impl JobTarget {
    pub fn means(&self, disk: &Disk) -> bool {
        disk.domain(self.level) == self.name
    }
}

impl fmt::Display for JobTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.level, Shown(&self.name))
    }
}

/// Positions of groups, and the bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub positions: u64,
    pub bytes: u64,
}

impl std::ops::AddAssign for Moved {
    fn add_assign(&mut self, other: Self) {
        self.positions = self.positions.saturating_add(other.positions);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A job to be begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// Names this attempt: makes the verb idempotent under an unknown commit.
    pub attempt: AttemptId,
    pub kind: JobKind,
    /// What a drain is about; none of a rebalance.
    pub targets: Vec<JobTarget>,
    /// Who asked for it: the node that was told.
    pub by: String,
    /// What was to be moved when it was planned.
    pub planned: Moved,
}

impl NewJob {
    pub const MOST_TARGETS: usize = 64;
    pub const LONGEST_NAME: usize = 200;

    /// What is wrong with it, whatever the cluster.
    pub fn problem(&self) -> Option<SettingProblem> {
        let problem = |what: String, fix: &str| Some(SettingProblem { field: "targets", what, fix: fix.to_owned() });
        match (self.kind, self.targets.len()) {
            (JobKind::Drain, 0) => problem("nothing is named".to_owned(), "name disks, nodes, racks or zones"),
            (JobKind::Drain, count) if count > Self::MOST_TARGETS => {
                problem(format!("{count} are named, of {} at most", Self::MOST_TARGETS), "name nodes, racks or zones")
            }
            (JobKind::Rebalance, 1..) => {
                problem("a rebalance is about all disks".to_owned(), "leave them out, or drain those disks")
            }
            _ => match self.targets.iter().find(|target| target.name.len() > Self::LONGEST_NAME) {
                Some(target) => problem(format!("{target} is too long a name"), "name what `cairn status` shows"),
                None => None,
            },
        }
    }
}

/// Work on the cluster that an operator has asked for. It is gone on with by whatever node holds the movers' lease, and
/// all that it has come to is here, in the rows of the moves under way and in the members of the groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub kind: JobKind,
    pub targets: Vec<JobTarget>,
    pub by: String,
    pub created_ms: u64,
    pub state: JobState,
    /// Since when it has been in that state.
    pub state_ms: u64,
    /// Why nothing moves though it runs, naming the group, the disk or the number that keeps it.
    pub blocked: Option<String>,
    /// What was to be moved when it was begun.
    pub planned: Moved,
    /// What has been.
    pub moved: Moved,
    /// How long it had run before it came into its state.
    pub ran_ms: u64,
    /// Of what it had moved, what came before it was last resumed: speed is told by the rest.
    pub moved_before: Moved,
    /// The attempt that began it.
    pub attempt: AttemptId,
}

impl Job {
    /// Whether disks are to be empty by it.
    pub fn drains(&self) -> bool {
        self.kind == JobKind::Drain && self.state != JobState::Cancelled
    }

    /// Whether it is about a disk by name.
    pub fn means(&self, disk: &Disk) -> bool {
        self.targets.iter().any(|target| target.means(disk))
    }

    /// In what state it is at `now_ms`, by an operator's word or because there is nothing left to do.
    pub(crate) fn enter(&mut self, state: JobState, now_ms: u64) {
        if self.state == JobState::Running {
            self.ran_ms = self.ran_ms.saturating_add(now_ms.saturating_sub(self.state_ms));
        }
        if state == JobState::Running {
            self.moved_before = self.moved;
        }
        (self.state, self.state_ms, self.blocked) = (state, now_ms, None);
    }

    /// Bytes a second since it was begun or resumed; None while that cannot be told.
    pub fn bytes_a_second(&self, now_ms: u64) -> Option<u64> {
        let bytes = self.moved.bytes.saturating_sub(self.moved_before.bytes);
        let ran_ms = now_ms.saturating_sub(self.state_ms);
        (self.state == JobState::Running && bytes > 0 && ran_ms > 0)
            .then(|| u64::try_from(u128::from(bytes) * 1000 / u128::from(ran_ms)).unwrap_or(u64::MAX))
    }
}
