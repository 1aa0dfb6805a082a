//! The command line and the commands that end by themselves.

mod args;
pub mod disk;
pub mod status;
pub mod version;

pub use args::*;
