//! How likely data is lost in a year: by a formula, and by trial with the placement that the cluster itself uses.
//!
//! What counts as lost is what can never be read again: disks that fail for good, whole failure domains that are lost
//! for good, and sectors that turn out unreadable when nothing else is left. What is only away, such as a rack without
//! power, comes back and loses nothing. Operators' and programs' errors are in none of these figures.

mod chain;
mod outlook;
mod trial;

pub use outlook::{Assumptions, Outlook, nines};
pub use trial::{Trial, trial};

/// Seconds of a year.
const YEAR: f64 = 365.25 * 86_400.0;

/// Why there is no figure, and what would help.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DurabilityError {
    #[error("{0}")]
    CannotForm(#[from] crate::placement::members::CannotForm),
    #[error("{field}: {value} is not {allowed}")]
    OutOfRange { field: &'static str, value: f64, allowed: &'static str },
    #[error("{disks} disks are too many for {what}, which takes up to {limit}")]
    TooManyDisks { disks: usize, limit: usize, what: &'static str },
    #[error("{failures:.0} disks would fail in that time, and a trial takes up to {limit:.0}: give fewer years")]
    TooLong { failures: f64, limit: f64 },
    #[error("disks hold so little or repair is so slow that a lost disk takes {0:.0} years to make anew")]
    RepairTooSlow(f64),
}

#[cfg(test)]
mod tests;
