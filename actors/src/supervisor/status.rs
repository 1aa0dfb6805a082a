//! What is asked of a supervisor, and what it says of its children.

use std::time::Duration;

/// When and how often a child is started again.
#[derive(Clone, Copy, Debug)]
pub struct RestartPolicy {
    /// More restarts than this within `window` and the child is given up.
    pub max_restarts: u32,
    pub window: Duration,
    /// Waited before the first restart, doubled for each further one in the window, up to `max_backoff`.
    pub backoff: Duration,
    pub max_backoff: Duration,
    /// How long a child may take over one message; None: not watched.
    pub hang_after: Option<Duration>,
    pub need: Need,
}

/// What it means to the whole that a child was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Need {
    /// The others go on without it, and the status says so.
    #[default]
    Helpful,
    /// Nothing is of use without it.
    Essential,
}

impl Default for RestartPolicy {
    /// Ten restarts a minute, from a tenth of a second up to five; hangs are not watched.
    fn default() -> Self {
        Self {
            max_restarts: 10,
            window: Duration::from_secs(60),
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            hang_after: None,
            need: Need::default(),
        }
    }
}

/// How a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    Running,
    Restarting,
    /// Restarted too often; an operator must look.
    GivenUp,
    Stopped,
}

impl ChildState {
    /// As it is shown to people: "running", "restarting", "given up", "stopped".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::GivenUp => "given up",
            Self::Stopped => "stopped",
        }
    }
}

/// What became of a child so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    pub name: String,
    pub state: ChildState,
    pub restarts: u64,
    pub last_failure: Option<String>,
}

/// Why a child could not be started or asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SupervisorError {
    #[error("actor {0} is not running")]
    NotRunning(String),
    #[error("actor {0} did not answer in time")]
    Timeout(String),
    #[error("actor {0} could not start: {1}")]
    Start(String, String),
}
