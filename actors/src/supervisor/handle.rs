//! Addresses of children that stay valid across restarts.

use std::{sync::Arc, time::Duration};

use ractor::{ActorRef, Message, RpcReplyPort, rpc::CallResult};
use tokio::{sync::watch, time::Instant};

use super::SupervisorError;

/// A child's address, whichever incarnation is alive.
///
/// ractor's mailboxes are unbounded: what must be bounded carries a permit in its message.
pub struct ChildHandle<M> {
    name: Arc<str>,
    current: watch::Receiver<Option<ActorRef<M>>>,
}

impl<M> Clone for ChildHandle<M> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), current: self.current.clone() }
    }
}

impl<M: Message> ChildHandle<M> {
    pub(super) fn new(name: Arc<str>, current: watch::Receiver<Option<ActorRef<M>>>) -> Self {
        Self { name, current }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends without waiting. A message sent to an incarnation that dies before handling it is lost.
    pub fn cast(&self, message: M) -> Result<(), SupervisorError> {
        let current = self.current.borrow().clone().ok_or_else(|| self.not_running())?;
        current.cast(message).map_err(|_| self.not_running())
    }

    /// Sends a request and waits up to `limit` for the answer, that is also for a restart under way. A request that was
    /// sent is never repeated: when its incarnation dies over it the answer is `NotRunning`, and it may have had its
    /// effect.
    pub async fn call<R, F>(&self, request: F, limit: Duration) -> Result<R, SupervisorError>
    where
        R: Send + 'static,
        F: FnOnce(RpcReplyPort<R>) -> M,
    {
        let deadline = Instant::now() + limit;
        let current = self.running(deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        match current.call(request, Some(left)).await {
            Ok(CallResult::Success(reply)) => Ok(reply),
            Ok(CallResult::Timeout) => Err(SupervisorError::Timeout(self.name.to_string())),
            Ok(CallResult::SenderError) | Err(_) => Err(self.not_running()),
        }
    }

    async fn running(&self, deadline: Instant) -> Result<ActorRef<M>, SupervisorError> {
        let mut current = self.current.clone();
        let running = tokio::time::timeout_at(deadline, current.wait_for(Option::is_some)).await;
        match running {
            Ok(Ok(child)) => child.clone().ok_or_else(|| self.not_running()),
            // The sender lives as long as the child may be restarted.
            Ok(Err(_)) | Err(_) => Err(self.not_running()),
        }
    }

    fn not_running(&self) -> SupervisorError {
        SupervisorError::NotRunning(self.name.to_string())
    }
}
