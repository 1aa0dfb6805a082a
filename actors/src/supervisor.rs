//! Supervision for ractor actors: restart with limits, hang detection, and handles that survive a restart.
#![allow(unused_variables)]

use std::{sync::Arc, time::Duration};

use ractor::Actor;

#[derive(Clone, Copy, Debug)]
pub struct RestartPolicy {
    /// More restarts than this within `window` and the child is given up.
    pub max_restarts: u32,
    pub window: Duration,
    /// Waited before the first restart, doubled for each further one in the window, up to `max_backoff`.
    pub backoff: Duration,
    pub max_backoff: Duration,
    /// How long a child may take to answer a heartbeat; None: not watched.
    pub hang_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    Running,
    Restarting,
    /// Restarted too often; an operator must look.
    GivenUp,
    Stopped,
}

#[derive(Clone, Debug)]
pub struct ChildStatus {
    pub name: String,
    pub state: ChildState,
    pub restarts: u64,
    pub last_failure: Option<String>,
}

/// A child's address, whichever incarnation is alive.
pub struct ChildHandle<M> {
    _inner: Arc<std::marker::PhantomData<fn(M)>>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum SupervisorError {
    #[error("actor {0} is not running")]
    NotRunning(String),
    #[error("actor {0} did not answer in time")]
    Timeout(String),
    #[error("actor {0} could not start: {1}")]
    Start(String, String),
}

/// The supervisor of one node's actors. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    _inner: Arc<()>,
}

impl Supervisor {
    pub async fn start(name: &str) -> Result<Self, SupervisorError> {
        todo!()
    }
    /// `factory` makes the actor and its arguments anew for every incarnation.
    pub async fn supervise<A, F>(
        &self,
        name: &str,
        policy: RestartPolicy,
        factory: F,
    ) -> Result<ChildHandle<A::Msg>, SupervisorError>
    where
        A: Actor,
        F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    {
        todo!()
    }
    pub fn status(&self) -> Vec<ChildStatus> {
        todo!()
    }
    /// Stops children in reverse order of their start, waiting `grace` for each.
    pub async fn stop(&self, grace: Duration) {
        todo!()
    }
}
