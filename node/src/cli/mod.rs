//! The command line and the commands that end by themselves.

pub(crate) mod access;
mod access_args;
mod api_args;
mod args;
mod ask;
pub(crate) mod buckets;
pub(crate) mod completions;
pub(crate) mod disk;
mod domain_arg;
pub(crate) mod durability;
mod durability_args;
pub(crate) mod events;
mod health;
mod job_args;
pub(crate) mod jobs;
pub(crate) mod kms;
mod limits;
pub(crate) mod maintenance;
mod operate_args;
mod or_none;
pub(crate) mod policy;
pub(crate) mod rates;
mod setting_args;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod version;
mod versions;

pub(crate) use args::*;
pub(crate) use domain_arg::DomainArg;
pub(crate) use health::UNKNOWN;
pub(crate) use operate_args::SafeToStopArgs;
