//! The shape that all background work has: small steps, run by a supervised actor that paces them.
//!
//! Pauses lie between steps, not inside them, so a worker that waits is idle to its supervisor, stops at once, and can
//! be woken. An error of a step is an ordinary thing (a peer is away, the metadata is busy): it is logged, counted and
//! the step is tried again after a growing pause. Only a panic ends the incarnation; all lasting state is in the
//! metadata.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{ChildHandle, Need, RestartPolicy, Supervisor, SupervisorError};

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do. `bytes` were read or written for it, by all disks together.
    Worked { bytes: u64 },
    /// Nothing to do for now.
    Idle,
}

pub type StepError = Box<dyn Error + Send + Sync>;

/// Work in steps. A step must end by itself in bounded time: every call in it has a deadline.
#[async_trait]
pub trait Worker: Send + 'static {
    async fn step(&mut self) -> Result<Step, StepError>;
}

/// The part of the time that clients leave to work in the background now: 1 when there are none.
pub type ShareLeft = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Bytes a second that may become others at any time. All clones are one: who goes by one goes by the new rate from its
/// next rest on, and the rest that it takes now can be ended by [`WorkerCommand::Wake`].
#[derive(Clone, Debug)]
pub struct Rate(Arc<AtomicU64>);

impl Rate {
    pub fn new(bytes_per_second: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes_per_second)))
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, bytes_per_second: u64) {
        self.0.store(bytes_per_second, Ordering::Relaxed);
    }
}

/// How fast a worker may go.
#[derive(Clone)]
pub struct Pace {
    /// Rests this many times as long as a step took: 0 full speed, 4 a fifth of the time.
    pub tranquility: f64,
    /// A cap besides; None: none.
    pub bytes_per_second: Option<Rate>,
    /// Asked after each step; None: it does not yield to clients.
    pub share_left: Option<ShareLeft>,
    /// Between steps with nothing to do.
    pub idle: Duration,
    /// A step that takes longer hangs.
    pub step_limit: Duration,
}

/// Errors make a worker pause for this long, doubled for each in a row, up to four times its idle pause or these
/// bounds.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LEAST_LONGEST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Fewer in a row are ordinary: a peer starts, the metadata store elects a leader.
const ERRORS_TO_WARN: u32 = 4;
/// However slow the disks, a worker takes the next step within this.
const LONGEST_REST: Duration = Duration::from_secs(60);

impl Pace {
    /// How long to rest after a step.
    fn rest(&self, step: Step, took: Duration) -> Duration {
        let Step::Worked { bytes } = step else { return self.idle };
        let tranquil = took.mul_f64(self.tranquility.clamp(0.0, 1000.0));
        let capped = match &self.bytes_per_second {
            Some(rate) => Duration::from_secs_f64(bytes as f64 / rate.get().max(1) as f64).saturating_sub(took),
            None => Duration::ZERO,
        };
        let yielding = match &self.share_left {
            // Never less than a hundredth of the time: nothing is put off for good.
            Some(share) => took.mul_f64(1.0 / share().clamp(0.01, 1.0) - 1.0),
            None => Duration::ZERO,
        };
        tranquil.max(capped).max(yielding).min(LONGEST_REST)
    }
}

/// Counters shared by all workers of a node.
#[derive(Clone)]
pub struct WorkerMetrics {
    steps: IntCounterVec,
    errors: IntCounterVec,
    bytes: IntCounterVec,
    idle: IntGaugeVec,
}

impl WorkerMetrics {
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounterVec> {
            let metric = IntCounterVec::new(Opts::new(name, help), &["worker"])?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let idle = Opts::new("cairn_worker_idle", "1 while a background worker has nothing to do");
        let idle = IntGaugeVec::new(idle, &["worker"])?;
        registry.register(Box::new(idle.clone()))?;
        Ok(Self {
            steps: counter("cairn_worker_steps_total", "Steps of background workers that did something")?,
            errors: counter("cairn_worker_errors_total", "Steps of background workers that failed")?,
            bytes: counter("cairn_worker_bytes_total", "Bytes read and written by background workers")?,
            idle,
        })
    }
}

/// Messages of a worker's actor.
pub enum WorkerCommand {
    /// Take the next step, unless another was asked for since.
    Run(u64),
    /// Something changed: look now, however long the rest was to be.
    Wake,
    /// There may be something to do: look now if there was nothing. One that rests from its work goes on resting.
    Look,
}

struct WorkerActor<W> {
    name: String,
    pace: Pace,
    metrics: WorkerMetrics,
    worker: std::marker::PhantomData<fn() -> W>,
}

struct WorkerState<W> {
    worker: W,
    /// The step that is due; an older `Run` is stale.
    due: u64,
    errors_in_a_row: u32,
    /// The last step found nothing to do.
    idle: bool,
}

impl<W: Worker + Sync> Actor for WorkerActor<W> {
    type Msg = WorkerCommand;
    type State = WorkerState<W>;
    type Arguments = W;

    async fn pre_start(
        &self,
        myself: ActorRef<WorkerCommand>,
        worker: W,
    ) -> Result<WorkerState<W>, ActorProcessingErr> {
        myself.cast(WorkerCommand::Run(0))?;
        Ok(WorkerState { worker, due: 0, errors_in_a_row: 0, idle: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<WorkerCommand>,
        command: WorkerCommand,
        state: &mut WorkerState<W>,
    ) -> Result<(), ActorProcessingErr> {
        let goes_on = match command {
            WorkerCommand::Run(step) => step == state.due,
            WorkerCommand::Wake => true,
            WorkerCommand::Look => state.idle,
        };
        if !goes_on {
            return Ok(());
        }
        let began = Instant::now();
        let result = state.worker.step().await;
        state.idle = matches!(result, Ok(Step::Idle));
        let rest = self.account(result, began.elapsed(), state);
        state.due += 1;
        let due = state.due;
        myself.send_after(rest, move || WorkerCommand::Run(due));
        Ok(())
    }
}

impl<W> WorkerActor<W> {
    fn account(&self, result: Result<Step, StepError>, took: Duration, state: &mut WorkerState<W>) -> Duration {
        let labels = [self.name.as_str()];
        match result {
            Ok(step) => {
                state.errors_in_a_row = 0;
                self.metrics.idle.with_label_values(&labels).set(i64::from(step == Step::Idle));
                if let Step::Worked { bytes } = step {
                    self.metrics.steps.with_label_values(&labels).inc();
                    self.metrics.bytes.with_label_values(&labels).inc_by(bytes);
                }
                self.pace.rest(step, took)
            }
            Err(error) => {
                self.metrics.errors.with_label_values(&labels).inc();
                let longest = (self.pace.idle * 4).clamp(LEAST_LONGEST_PAUSE, LONGEST_PAUSE);
                let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(state.errors_in_a_row)).min(longest);
                state.errors_in_a_row = state.errors_in_a_row.saturating_add(1);
                let words = "a background step failed; it is tried again";
                if state.errors_in_a_row < ERRORS_TO_WARN {
                    tracing::info!(worker = %self.name, %error, ?pause, words);
                } else {
                    tracing::warn!(worker = %self.name, %error, ?pause, in_a_row = state.errors_in_a_row, words);
                }
                pause
            }
        }
    }
}

/// Runs a worker under supervision; `make` makes it anew for every incarnation.
pub async fn run<W: Worker + Sync>(
    supervisor: &Supervisor,
    name: &str,
    need: Need,
    pace: Pace,
    metrics: &WorkerMetrics,
    make: impl Fn() -> W + Send + Sync + 'static,
) -> Result<ChildHandle<WorkerCommand>, SupervisorError> {
    let policy = RestartPolicy { hang_after: Some(pace.step_limit), need, ..RestartPolicy::default() };
    let (label, metrics) = (Arc::<str>::from(name), metrics.clone());
    let factory = move || {
        let actor = WorkerActor {
            name: label.to_string(),
            pace: pace.clone(),
            metrics: metrics.clone(),
            worker: std::marker::PhantomData,
        };
        (actor, make())
    };
    supervisor.supervise(name, policy, factory).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::supervisor::ChildState;

    struct Counting {
        steps: Arc<AtomicU32>,
        panic_at: u32,
    }

    #[async_trait]
    impl Worker for Counting {
        async fn step(&mut self) -> Result<Step, StepError> {
            match self.steps.fetch_add(1, Ordering::SeqCst) {
                step if step == self.panic_at => panic!("told to panic"),
                1 => Err("away".into()),
                step if step < 5 => Ok(Step::Worked { bytes: 10 }),
                _ => Ok(Step::Idle),
            }
        }
    }

    fn pace() -> Pace {
        let (idle, step_limit) = (Duration::from_secs(600), Duration::from_secs(10));
        Pace { tranquility: 0.0, bytes_per_second: None, share_left: None, idle, step_limit }
    }

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn steps_go_on_after_errors_and_panics_until_idle_and_again_when_woken() {
        let registry = Registry::new();
        let metrics = WorkerMetrics::new(&registry).unwrap();
        let supervisor = Supervisor::start("test").await.unwrap();
        let steps = Arc::new(AtomicU32::new(0));
        let shared = steps.clone();
        let make = move || Counting { steps: shared.clone(), panic_at: 3 };
        let handle = run(&supervisor, "counting", Need::Helpful, pace(), &metrics, make).await.unwrap();
        until("idle", || metrics.idle.with_label_values(&["counting"]).get() == 1).await;
        assert_eq!(steps.load(Ordering::SeqCst), 6);
        assert_eq!(metrics.steps.with_label_values(&["counting"]).get(), 3);
        assert_eq!(metrics.bytes.with_label_values(&["counting"]).get(), 30);
        assert_eq!(metrics.errors.with_label_values(&["counting"]).get(), 1);
        let status = supervisor.status();
        assert_eq!((status[0].restarts, status[0].state), (1, ChildState::Running));
        handle.cast(WorkerCommand::Wake).unwrap();
        until("woken", || steps.load(Ordering::SeqCst) == 7).await;
        handle.cast(WorkerCommand::Look).unwrap();
        until("called", || steps.load(Ordering::SeqCst) == 8).await;
        supervisor.stop(Duration::from_secs(5)).await;
    }

    struct Endless(Arc<AtomicU32>);

    #[async_trait]
    impl Worker for Endless {
        async fn step(&mut self) -> Result<Step, StepError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Step::Worked { bytes: 1 << 20 })
        }
    }

    #[tokio::test]
    async fn a_rate_that_changes_holds_for_a_worker_that_runs() {
        let metrics = WorkerMetrics::new(&Registry::new()).unwrap();
        let supervisor = Supervisor::start("test").await.unwrap();
        let (steps, rate) = (Arc::new(AtomicU32::new(0)), Rate::new(1));
        let pace = Pace { bytes_per_second: Some(rate.clone()), ..pace() };
        let shared = steps.clone();
        let make = move || Endless(shared.clone());
        let handle = run(&supervisor, "endless", Need::Helpful, pace, &metrics, make).await.unwrap();
        let accounted = || metrics.steps.with_label_values(&["endless"]).get();
        until("a rest of a minute", || accounted() == 1).await;
        // It rests from work: being called is no reason to exceed its rate. Two ends of rests after it are two steps.
        for _ in 0..10 {
            handle.cast(WorkerCommand::Look).unwrap();
        }
        handle.cast(WorkerCommand::Wake).unwrap();
        until("a rest that was ended", || accounted() == 2).await;
        rate.set(u64::MAX);
        handle.cast(WorkerCommand::Wake).unwrap();
        until("no rest at all", || accounted() > 20).await;
        supervisor.stop(Duration::from_secs(5)).await;
    }

    #[test]
    fn rests_follow_the_slower_of_tranquility_and_rate() {
        let second = Duration::from_secs(1);
        let rate = Rate::new(100);
        let mut pace = Pace { tranquility: 3.0, bytes_per_second: Some(rate.clone()), ..pace() };
        assert_eq!(pace.rest(Step::Worked { bytes: 200 }, second), 3 * second);
        assert_eq!(pace.rest(Step::Worked { bytes: 1000 }, second), 9 * second);
        assert_eq!(pace.rest(Step::Idle, second), pace.idle);
        assert_eq!(pace.rest(Step::Worked { bytes: u64::MAX }, second), LONGEST_REST);
        rate.set(500);
        assert_eq!(pace.rest(Step::Worked { bytes: 10_000 }, second), 19 * second);
        rate.set(0);
        assert_eq!(
            pace.rest(Step::Worked { bytes: 10 }, second),
            9 * second,
            "no rate is none by which nothing goes on"
        );
        rate.set(100);
        pace.tranquility = 0.0;
        assert_eq!(pace.rest(Step::Worked { bytes: 10 }, second), Duration::ZERO);
        // Clients leave a tenth of the time, then nearly nothing, then all of it.
        let mut left = |share: f64| {
            pace.share_left = Some(Arc::new(move || share));
            pace.rest(Step::Worked { bytes: 10 }, second)
        };
        assert_eq!(left(0.1).as_millis(), 9000);
        assert_eq!(left(0.0), LONGEST_REST);
        assert_eq!(left(1.0), Duration::ZERO);
    }
}
