//! The command line and the commands that end by themselves.

pub(crate) mod access;
mod access_args;
mod api_args;
mod args;
mod ask;
pub(crate) mod disk;
mod job_args;
pub(crate) mod jobs;
pub(crate) mod policy;
pub(crate) mod rates;
pub(crate) mod status;
pub(crate) mod version;

pub(crate) use args::*;
