//! Limits of requests on the command line.

use clap::Args;

use super::or_none::OrNone;
use crate::admin::LimitsOrder;

/// What is not named stays as it is.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct LimitArgs {
    /// Requests a second at most, or none for no bound; as many may come at once
    #[arg(long, value_name = "N")]
    pub per_second: Option<OrNone<u32>>,
    /// Requests under way at the same time at most, or none for no bound
    #[arg(long, value_name = "N")]
    pub concurrent: Option<OrNone<u32>>,
}

impl From<LimitArgs> for LimitsOrder {
    fn from(args: LimitArgs) -> Self {
        Self { per_second: args.per_second.map(OrNone::value), concurrent: args.concurrent.map(OrNone::value) }
    }
}
