//! The command lines of what is set for the whole cluster: `cairn admin policy`, `rates` and `kms`.

use std::str::FromStr;

use cairn_schema::record::Scheme;
use clap::{Args, Subcommand};

use super::{api_args::ApiArgs, domain_arg::DomainArg};
use crate::config::Size;

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub command: Option<PolicyCommand>,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Change the policy of the running cluster; what is not named stays as it is
    ///
    /// All nodes go by it within a second or two, without a restart. Only what is written from then on is written so:
    /// what there is stays readable as it was written. After a change of the failure domain, groups of which a domain
    /// holds too many members are mended one after another. Refused, and nothing changed, is what the disks have no
    /// room for, and what the node that is asked has too little memory for. Another node that has too little answers
    /// writes with 503 and says so: raise limits.memory of all nodes first. Run it on the node's own machine; the
    /// admin API changes nothing for others.
    Set(PolicySet),
}

/// What is to be changed.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct PolicySet {
    /// Data and parity fragments of a stripe, such as 8+4, or replicated(3)
    #[arg(long, value_name = "SCHEME")]
    pub scheme: Option<Scheme>,
    /// Scheme of objects smaller than --small-below
    #[arg(long, value_name = "SCHEME")]
    pub small_scheme: Option<Scheme>,
    /// Objects smaller than this have the small scheme
    #[arg(long, value_name = "SIZE")]
    pub small_below: Option<Size>,
    /// What may fail as a whole without losing data
    #[arg(long, value_name = "LEVEL")]
    pub failure_domain: Option<DomainArg>,
    /// Fragments beyond k that must be on disk before a write is acknowledged
    #[arg(long, value_name = "N")]
    pub write_margin: Option<u8>,
    /// Data bytes per fragment of a full stripe
    #[arg(long, value_name = "SIZE")]
    pub fragment: Option<Size>,
}

#[derive(Debug, Args)]
pub(crate) struct KmsArgs {
    #[command(subcommand)]
    pub command: KmsCommand,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KmsCommand {
    /// Show which keys and versions a node has, and whether its key management answers
    Status,
    /// Have all keys of objects that an older version wrapped be wrapped by the newest
    ///
    /// No data is touched. It may be broken off and begun again: what was done stays done. Give the new version to all
    /// nodes first, and run this until it wraps none, for copies that are made meanwhile may have been missed; keep the
    /// old one until then, and as long as backups of the metadata are kept. Run it on the node's own machine; the admin
    /// API changes nothing for others.
    Rewrap {
        /// Only in this bucket
        #[arg(long, value_name = "BUCKET")]
        bucket: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RatesArgs {
    #[command(subcommand)]
    pub command: Option<RatesCommand>,
    #[command(flatten)]
    pub api: ApiArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RatesCommand {
    /// Set rates for all nodes of the running cluster; what is not named stays as it is
    ///
    /// All nodes go by them within a second or two, without a restart, until they are set otherwise or reset. Run it on
    /// the node's own machine; the admin API changes nothing for others.
    Set(RatesSet),
    /// Leave all rates to each node's own configuration again
    Reset,
}

/// What is to be changed; `default` leaves it to each node's own configuration.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct RatesSet {
    /// Bytes a second that scrub reads of one disk, at most
    #[arg(long, value_name = "SIZE")]
    pub scrub: Option<OrDefault<Size>>,
    /// Bytes a second that the repair of one node makes anew, at most
    #[arg(long, value_name = "SIZE")]
    pub repair: Option<OrDefault<Size>>,
    /// What repair and scrub get of a disk's time while clients use it, 1 to 100
    #[arg(long, value_name = "N")]
    pub background_percent: Option<OrDefault<u8>>,
}

/// A value, or the word `default`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrDefault<T> {
    Default,
    Value(T),
}

impl<T: FromStr> FromStr for OrDefault<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        match text {
            "default" => Ok(Self::Default),
            text => text.parse().map(Self::Value),
        }
    }
}
