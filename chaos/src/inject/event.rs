//! What became of each step of a schedule.

use serde::{Deserialize, Serialize};

use crate::script::Step;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Done,
    /// Why it was not: the budget, or what the machine lacks.
    Skipped(String),
}

/// What became of a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub step: Step,
    /// Milliseconds since the run began.
    pub began_ms: u64,
    pub ended_ms: Option<u64>,
    /// When what it hurt was whole again.
    pub healed_ms: Option<u64>,
    /// What it waited for first, if it came later than the schedule says.
    #[serde(default)]
    pub waited: Option<String>,
    pub outcome: Outcome,
}
