//! Scenario files, and the schedule that a seed makes of one.

pub mod file;
pub mod schedule;
pub mod units;

pub use file::{Drawn, Fault, FileError, Kind, MetadataKind, Mix, Must, Place, Random, Scenario, Topology, Workload};
pub use schedule::{Step, Target, schedule};

#[cfg(test)]
mod tests;
