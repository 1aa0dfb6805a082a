//! The threads that read one disk. They are its own, so that a disk that hangs holds up its own reads and nobody
//! else's: on the threads that a process shares, a few such disks would leave none for anything.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

/// A thread with nothing to do ends after this long.
const REST: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// Threads that come when there is work and go when there is none. Dropping it lets them finish what they have.
pub(crate) struct Threads {
    crew: Arc<Crew>,
    name: String,
    most: usize,
}

#[derive(Default)]
struct Crew {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Threads {
    /// At most `most` at once; the work that waits for one is bounded by whoever gives it.
    pub(crate) fn new(name: String, most: usize) -> Self {
        Self { crew: Arc::default(), name, most }
    }

    /// Has a thread do the job. Err: there is no thread, and none can be had.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let mut state = self.crew.state.lock();
        state.jobs.push_back(Box::new(job));
        if state.idle >= state.jobs.len() || state.threads >= self.most {
            drop(state);
            self.crew.wake.notify_one();
            return Ok(());
        }
        let crew = self.crew.clone();
        match std::thread::Builder::new().name(self.name.clone()).spawn(move || crew.work()) {
            Ok(_) => state.threads += 1,
            // Those that there are will come to it.
            Err(_) if state.threads > 0 => {}
            Err(error) => {
                state.jobs.pop_back();
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.crew.state.lock().closed = true;
        self.crew.wake.notify_all();
    }
}

impl Crew {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // Whoever waits for it learns of its end by what it does not get.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a read of a disk panicked");
                }
                state = self.state.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let rested = self.wake.wait_for(&mut state, REST).timed_out();
            state.idle -= 1;
            if rested && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn as_many_jobs_run_at_once_as_there_may_be_threads_and_the_others_wait() {
        let threads = Threads::new("test".into(), 3);
        let (begun, begins) = channel();
        let (go, wait) = channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        for number in 0..5 {
            let (begun, wait) = (begun.clone(), wait.clone());
            threads
                .run(move || {
                    begun.send(number).unwrap();
                    if number < 3 {
                        wait.lock().recv().unwrap();
                    }
                })
                .unwrap();
        }
        let mut first: Vec<_> = (0..3).map(|_| begins.recv_timeout(LONG).unwrap()).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        assert!(begins.try_recv().is_err(), "more run at once than may");
        go.send(()).unwrap();
        let rest: Vec<_> = (0..2).map(|_| begins.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(rest, [3, 4]);
        drop(go);
    }

    #[test]
    fn a_job_that_panics_costs_no_thread() {
        let threads = Threads::new("test".into(), 1);
        threads.run(|| panic!("told to panic")).unwrap();
        let (done, told) = channel();
        threads.run(move || done.send(()).unwrap()).unwrap();
        told.recv_timeout(LONG).unwrap();
    }
}
