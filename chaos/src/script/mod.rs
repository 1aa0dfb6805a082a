//! Scenario files, and the schedule that a seed makes of one.

pub mod file;
pub mod kind;
pub mod schedule;
pub mod units;

pub use file::{Fault, FileError, MetadataKind, Mix, Must, Random, Scenario, Topology, Workload};
pub use kind::{Drawn, Kind, Needs, Place};
pub use schedule::{Step, Target, schedule};

#[cfg(test)]
mod tests;
