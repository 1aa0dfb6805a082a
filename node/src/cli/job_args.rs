//! The options of `cairn admin plan`, `apply`, `jobs` and `remove`.

use cairn_schema::ids::{DiskId, NodeId};
use clap::{Args, Subcommand};

use super::api_args::ApiArgs;

#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    #[command(subcommand)]
    pub work: WorkCommand,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkCommand {
    /// Move everything off disks, so that they can be taken out
    ///
    /// They take no new groups, and serve what they hold until other disks have it. Named can be several, of all kinds.
    Drain(Targets),
    /// Spread data evenly, in proportion to the sizes of disks, as after disks were added
    Rebalance,
}

/// Which disks are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Targets {
    /// One disk, by the id that `cairn status` shows
    #[arg(long, value_name = "ID")]
    pub disk: Vec<DiskId>,
    /// All disks of a node
    #[arg(long, value_name = "ID")]
    pub node: Vec<NodeId>,
    /// All disks of a rack
    #[arg(long, value_name = "ZONE/RACK")]
    pub rack: Vec<String>,
    /// All disks of a zone
    #[arg(long, value_name = "ZONE")]
    pub zone: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    pub command: Option<JobsCommand>,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Show all jobs, and the disks that are to be empty; so does leaving it out
    List,
    /// Move nothing more for a job until it is resumed
    Pause { job: u64 },
    /// Go on with a job that is paused
    Resume { job: u64 },
    /// End a job; what it has moved stays where it is. The disks of a drain are up again
    Cancel { job: u64 },
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub targets: Targets,
    #[command(flatten)]
    pub api: ApiArgs,
}
