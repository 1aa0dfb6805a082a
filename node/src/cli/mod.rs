//! The command line and the commands that end by themselves.

mod args;
pub(crate) mod disk;
pub(crate) mod policy;
pub(crate) mod status;
pub(crate) mod version;

pub(crate) use args::*;
