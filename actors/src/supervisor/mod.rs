//! Supervision for ractor actors: restart with limits, hang detection, and handles that survive a restart.
//!
//! ractor brings links and events but no strategy, so this is ours:
//!
//! - A child that returns an error, panics or is killed is started anew after a backoff, from a factory that makes the
//!   actor and its arguments again; state that must outlive it lives elsewhere (on disk, in the metadata).
//! - More than `max_restarts` restarts within `window` and the child is given up: a loop of crashes helps nobody.
//! - Without some children the whole is of no use. When one of these is given up, [`Supervisor::failed`] ends, and who owns the
//!   supervisor stops.
//! - A child that ends by itself (`stop`, `drain`) has finished and is not restarted.
//! - A child that handles one message for longer than `hang_after` hangs: it is killed and restarted. Time spent waiting
//!   for messages does not count, so an idle child never looks hung and children need no heartbeat messages of their own.
//!   A kill takes effect at the child's next await. One that blocks its thread for ever cannot be ended by anybody; it is not
//!   replaced either, because two incarnations must never own one disk.
//! - Actors are spawned without names: ractor's registry is global to the process, and several nodes may share one.

mod actor;
mod child;
mod handle;
#[cfg(test)]
mod tests;
pub mod worker;

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorRef};
use tokio::sync::watch;

pub use handle::ChildHandle;
pub use worker::{Pace, Step, StepError, Worker, WorkerCommand, WorkerMetrics};

use actor::{Command, Root, StatusTable};
use child::ChildSpec;

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    pub name: String,
    pub state: ChildState,
    pub restarts: u64,
    pub last_failure: Option<String>,
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

/// The supervisor of one node's actors. Cheap to clone; when the last clone is dropped the children end too.
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    root: ActorRef<Command>,
    table: StatusTable,
    failure: watch::Receiver<Option<ChildStatus>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.root.stop(None);
    }
}

impl Supervisor {
    pub async fn start(name: &str) -> Result<Self, SupervisorError> {
        let table = StatusTable::default();
        let (fail, failure) = watch::channel(None);
        let (root, _) = Root::spawn(None, Root, (name.to_owned(), table.clone(), fail))
            .await
            .map_err(|error| SupervisorError::Start(name.to_owned(), error.to_string()))?;
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), root, table, failure }) })
    }

    /// Starts a child and keeps it running. `factory` makes the actor and its arguments anew for every incarnation.
    ///
    /// A child whose *first* start fails is reported here and not retried: the caller knows better what to do. A later start that
    /// fails counts as a failure like any other. A name may be used again once its child has stopped or was given up.
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
        let (spec, handle) = ChildSpec::make(name, factory);
        let gone = || SupervisorError::NotRunning(self.inner.name.clone());
        let (reply, started) = tokio::sync::oneshot::channel();
        let add = Command::Add { name: name.to_owned(), policy, spec, reply };
        self.inner.root.cast(add).map_err(|_| gone())?;
        match started.await {
            Ok(Ok(())) => Ok(handle),
            Ok(Err(why)) => Err(SupervisorError::Start(name.to_owned(), why)),
            Err(_) => Err(gone()),
        }
    }

    /// In the order of their start.
    pub fn status(&self) -> Vec<ChildStatus> {
        self.inner.table.lock().values().cloned().collect()
    }

    /// The first essential child that was given up.
    pub fn failure(&self) -> Option<ChildStatus> {
        self.inner.failure.borrow().clone()
    }

    /// Waits until an essential child is given up, and returns what became of it.
    pub async fn failed(&self) -> ChildStatus {
        let mut failure = self.inner.failure.clone();
        if let Ok(failed) = failure.wait_for(Option::is_some).await
            && let Some(status) = failed.clone()
        {
            return status;
        }
        // The supervisor has ended, and its children with it, as was wanted.
        std::future::pending().await
    }

    /// Stops children in reverse order of their start, waiting `grace` for each to finish the messages it has; then kills it.
    pub async fn stop(&self, grace: Duration) {
        let (reply, stopped) = tokio::sync::oneshot::channel();
        if self.inner.root.cast(Command::Stop { grace, reply }).is_ok() {
            // An error means that the supervisor ended meanwhile, which is what was wanted.
            let _ = stopped.await;
        }
        let _ = self.inner.root.stop_and_wait(None, Some(grace.max(Duration::from_secs(1)))).await;
    }
}
