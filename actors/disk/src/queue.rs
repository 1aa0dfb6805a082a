//! What waits for a disk's writer. Bounded by the permits the jobs carry.

use std::{collections::VecDeque, time::Duration};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use cairn_fragment::{DiskError, NewFragment};
use cairn_schema::ids::FragmentName;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, DiskError>>;

/// A fragment to be written, and who waits for it.
pub(crate) struct Put {
    pub fragment: NewFragment,
    pub reply: Reply<()>,
    pub permit: OwnedSemaphorePermit,
}

/// Fragments to be deleted, and who waits for it.
pub(crate) struct Delete {
    /// At most [`super::engine::DELETE_NAMES`].
    pub names: Vec<FragmentName>,
    pub reply: Reply<u64>,
    pub permit: OwnedSemaphorePermit,
}

/// Something for the writer to do.
pub(crate) enum Job {
    Put(Put),
    Delete(Delete),
}

impl Job {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put(put) => put.fragment.payload.len(),
            Self::Delete(delete) => delete.names.len() * 64,
        }
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// What waits for the writer. Its bounds are the permits in the jobs.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

impl Queue {
    /// Gives the job back if the queue is closed.
    pub(crate) fn push(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(job);
        }
        state.jobs.push_back(job);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Everything that waits, up to about `bytes`; waits until there is something, or for `patience` if given. None:
    /// closed, and nothing is left.
    pub(crate) fn take(&self, bytes: usize, patience: Option<Duration>) -> Option<Vec<Job>> {
        let mut state = self.state.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            match patience {
                None => self.ready.wait(&mut state),
                Some(patience) if self.ready.wait_for(&mut state, patience).timed_out() => break,
                Some(_) => {}
            }
        }
        let mut taken = Vec::with_capacity(state.jobs.len());
        let mut sum = 0;
        while sum < bytes {
            let Some(job) = state.jobs.pop_front() else { break };
            sum += job.bytes();
            taken.push(job);
        }
        Some(taken)
    }

    /// No more jobs; those that wait are still done.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_all();
    }
}
