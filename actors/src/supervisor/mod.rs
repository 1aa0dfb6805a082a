//! Supervision for ractor actors: restart with limits, hang detection, and handles that survive a restart.
//!
//! ractor brings links and events but no strategy, so this is ours:
//!
//! - A child that returns an error, panics or is killed is started anew after a backoff, from a factory that makes the
//!   actor and its arguments again; state that must outlive it lives elsewhere (on disk, in the metadata).
//! - More than `max_restarts` restarts within `window` and the child is given up: a loop of crashes helps nobody.
//! - Without some children the whole is of no use. When one of these is given up, [`Supervisor::failed`] ends, and who
//!   owns the supervisor stops.
//! - A child that ends by itself (`stop`, `drain`) has finished and is not restarted.
//! - A child that handles one message for longer than `hang_after` hangs: it is killed and restarted. Time spent
//!   waiting for messages does not count, so an idle child never looks hung and children need no heartbeat messages of
//!   their own. A kill takes effect at the child's next await. One that blocks its thread for ever cannot be ended by
//!   anybody; it is not replaced either, because two incarnations must never own one disk.
//! - Actors are spawned without names: ractor's registry is global to the process, and several nodes may share one.

mod actor;
mod child;
mod handle;
mod status;
#[cfg(test)]
mod tests;
pub mod worker;

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorRef};
use tokio::sync::watch;

pub use handle::ChildHandle;
pub use status::{ChildState, ChildStatus, Need, RestartPolicy, SupervisorError};
pub use worker::{Pace, Rate, ShareLeft, Step, StepError, Worker, WorkerCommand, WorkerMetrics};

use actor::{Command, Root, StatusTable};
use child::ChildSpec;

/// The supervisor of one node's actors. Cheap to clone; when the last clone is dropped the children end too.
#[derive(Clone)]
pub struct Supervisor {
    children: Arc<Children>,
}

/// The children of one supervisor, and the actor that all are linked to.
struct Children {
    name: String,
    root: ActorRef<Command>,
    table: StatusTable,
    failure: watch::Receiver<Option<ChildStatus>>,
}

impl Drop for Children {
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
        Ok(Self { children: Arc::new(Children { name: name.to_owned(), root, table, failure }) })
    }

    /// Starts a child and keeps it running. `factory` makes the actor and its arguments anew for every incarnation.
    ///
    /// A child whose *first* start fails is reported here and not retried: the caller knows better what to do. A later
    /// start that fails counts as a failure like any other. A name may be used again once its child has stopped or was
    /// given up.
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
        let gone = || SupervisorError::NotRunning(self.children.name.clone());
        let (reply, started) = tokio::sync::oneshot::channel();
        let add = Command::Add { name: name.to_owned(), policy, spec, reply };
        self.children.root.cast(add).map_err(|_| gone())?;
        match started.await {
            Ok(Ok(())) => Ok(handle),
            Ok(Err(why)) => Err(SupervisorError::Start(name.to_owned(), why)),
            Err(_) => Err(gone()),
        }
    }

    /// In the order of their start.
    pub fn status(&self) -> Vec<ChildStatus> {
        self.children.table.lock().values().cloned().collect()
    }

    /// Waits until an essential child is given up, and returns what became of the first one.
    pub async fn failed(&self) -> ChildStatus {
        let mut failure = self.children.failure.clone();
        if let Ok(failed) = failure.wait_for(Option::is_some).await
            && let Some(status) = failed.clone()
        {
            return status;
        }
        // The supervisor has ended, and its children with it, as was wanted.
        std::future::pending().await
    }

    /// Stops children in reverse order of their start, waiting `grace` for each to finish the messages it has; then
    /// kills it.
    pub async fn stop(&self, grace: Duration) {
        let (reply, stopped) = tokio::sync::oneshot::channel();
        if self.children.root.cast(Command::Stop { grace, reply }).is_ok() {
            // An error means that the supervisor ended meanwhile, which is what was wanted.
            let _ = stopped.await;
        }
        let _ = self.children.root.stop_and_wait(None, Some(grace.max(Duration::from_secs(1)))).await;
    }
}
