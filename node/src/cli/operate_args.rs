//! The command line of what operators do before and while they work on machines.

use std::{str::FromStr, time::Duration};

use cairn_schema::ids::NodeId;
use clap::{Args, Subcommand, ValueEnum};

use super::api_args::ApiArgs;
use crate::config::Period;

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 yes; 1 no; 2 that is not known, or there was no answer.\n\n\
    Examples:\n  cairn admin safe-to-stop node n3\n  cairn admin safe-to-stop rack z1/r2 --writes\n  \
    cairn admin safe-to-stop disk 0f3c… 77ab… --json")]
pub(crate) struct SafeToStopArgs {
    /// What the names are of
    pub kind: NamedArg,
    /// Names, as `cairn status` has them: a disk's or node's id, ZONE/RACK, a zone. Stopped together, all of them
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Say no as well if new writes of any scheme would be refused
    #[arg(long)]
    pub writes: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NamedArg {
    Disk,
    Node,
    Rack,
    Zone,
}

impl NamedArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Node => "node",
            Self::Rack => "rack",
            Self::Zone => "zone",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct MaintenanceArgs {
    #[command(subcommand)]
    pub command: MaintenanceCommand,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MaintenanceCommand {
    /// Say that you work on a node: it may go away and come back
    ///
    /// While that holds its disks are not given up, no group is formed with them, and what is written goes elsewhere if
    /// it can; nothing is refused for it. It ends by itself. Said again, its time begins anew. `safe-to-stop` counts
    /// the node as stopped, also for whoever else asks: so say this first and ask that then, and stop nothing without a
    /// yes.
    Start {
        node: NodeId,
        /// For how long, such as 30m, 2h or 1d; a week at most
        #[arg(long = "for", value_name = "TIME", default_value = "30m")]
        length: Length,
    },
    /// Say that the work is done
    End { node: NodeId },
    /// Show the nodes under maintenance
    List,
}

/// A span of time, of whole seconds: as in configuration files, or with m for minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length(pub Duration);

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minutes = text.strip_suffix('m').map(|number| format!("{number}min"));
        let read = |text: &str| text.parse::<Period>();
        let period = minutes.and_then(|minutes| read(&minutes).ok()).map_or_else(|| read(text), Ok);
        let period = period.map_err(|error| error.to_string())?.0;
        if period.is_zero() || period.subsec_nanos() != 0 {
            return Err("give whole seconds, at least one".to_owned());
        }
        Ok(Self(period))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        let seconds = |text: &str| text.parse::<Length>().map(|length| length.0.as_secs());
        for (text, expected) in [("30m", 1800), ("30 min", 1800), ("45s", 45), ("2h", 7200), ("1 d", 86_400)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for wrong in ["", "m", "30", "-5m", "0s", "1500 ms", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
