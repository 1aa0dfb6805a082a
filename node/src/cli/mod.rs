//! The command line and the commands that end by themselves.

mod args;
mod ask;
pub(crate) mod disk;
pub(crate) mod policy;
pub(crate) mod rates;
pub(crate) mod status;
pub(crate) mod version;

pub(crate) use args::*;
