//! The supervised actor of one disk: opens it, watches it, writes checkpoints, and opens it anew after it has failed or
//! gone. Fragments do not pass through it: handles talk to the engine's own bounded queues, so neither a slow tick nor
//! a restart of this actor holds up a read or a write.

use std::time::{Duration, Instant};

use cairn_disk::{DiskHandle, DiskOptions};
use cairn_fragment::DiskError;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinHandle;

use crate::supervisor::{RestartPolicy, Supervisor};

/// How often the actor looks, and how patient it is.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    pub tick: Duration,
    /// The index is written down this often, if anything changed.
    pub checkpoint_every: Duration,
    /// Waited before a failed disk is opened again; doubled after each attempt that did not help, up to
    /// `longest_retry`.
    pub first_retry: Duration,
    pub longest_retry: Duration,
    /// An operation under way for longer makes the disk read-only until it is done,
    pub stuck_after: Duration,
    /// and one for so long makes it count as failed: its data is asked for elsewhere.
    pub hung_after: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(1),
            checkpoint_every: Duration::from_secs(60),
            first_retry: Duration::from_secs(5),
            longest_retry: Duration::from_secs(300),
            stuck_after: Duration::from_secs(10),
            hung_after: Duration::from_secs(20),
        }
    }
}

/// Opens the disk off the async threads and has `supervisor` keep an actor for it.
pub async fn spawn_disk(supervisor: &Supervisor, options: DiskOptions) -> Result<DiskHandle, DiskError> {
    let opened = tokio::task::spawn_blocking(move || DiskHandle::open(options)).await;
    let handle = opened.map_err(|error| DiskError::Io { operation: "open", why: error.to_string() })??;
    supervise_disk(supervisor, &handle, Watch::default()).await?;
    Ok(handle)
}

/// Has `supervisor` keep an actor for a disk that is open already. The actor ends when the handle is closed.
pub async fn supervise_disk(supervisor: &Supervisor, handle: &DiskHandle, watch: Watch) -> Result<(), DiskError> {
    let disk = handle.clone();
    let name = format!("disk {}", handle.id());
    // No watch for hangs: whatever may hang on a sick disk runs on other threads.
    let policy = RestartPolicy { hang_after: None, ..RestartPolicy::default() };
    let started = supervisor.supervise(&name, policy, move || (DiskActor, (disk.clone(), watch))).await;
    started.map(|_| ()).map_err(|error| DiskError::Gone(error.to_string()))
}

struct DiskActor;

/// Look at the disk. Sends itself again when done, so that there is never more than one.
struct Tick;

struct State {
    disk: DiskHandle,
    watch: Watch,
    checkpointed: Instant,
    /// When a failed disk is tried again, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
    /// Work that may hang on a sick disk; nothing of its kind is begun before it has ended.
    checkpoint: Option<JoinHandle<Result<(), DiskError>>>,
    look: Option<JoinHandle<()>>,
    reads: Option<JoinHandle<()>>,
    reopening: Option<JoinHandle<Result<(), DiskError>>>,
}

impl Actor for DiskActor {
    type Msg = Tick;
    type State = State;
    type Arguments = (DiskHandle, Watch);

    async fn pre_start(
        &self,
        myself: ActorRef<Tick>,
        (disk, watch): (DiskHandle, Watch),
    ) -> Result<State, ActorProcessingErr> {
        myself.send_after(watch.tick, || Tick);
        let checkpointed = Instant::now();
        Ok(State { disk, watch, checkpointed, retry: None, checkpoint: None, look: None, reads: None, reopening: None })
    }

    async fn handle(&self, myself: ActorRef<Tick>, _: Tick, state: &mut State) -> Result<(), ActorProcessingErr> {
        if state.disk.is_closed() {
            state.finish_reopening().await;
            if state.reopening.is_none() {
                myself.stop(None);
                return Ok(());
            }
        } else {
            state.tick().await;
        }
        myself.send_after(state.watch.tick, || Tick);
        Ok(())
    }
}

/// The result of work that has ended; None while it runs or if there is none.
async fn ended<T>(work: &mut Option<JoinHandle<T>>) -> Option<Result<T, tokio::task::JoinError>> {
    match work.take() {
        Some(handle) if handle.is_finished() => Some(handle.await),
        running => {
            *work = running;
            None
        }
    }
}

impl State {
    async fn tick(&mut self) {
        self.finish_reopening().await;
        if self.reopening.is_some() {
            return;
        }
        self.disk.watch_operations(self.watch.stuck_after, self.watch.hung_after);
        if ended(&mut self.look).await.is_some() || self.look.is_none() {
            let disk = self.disk.clone();
            self.look = Some(tokio::task::spawn_blocking(move || disk.look()));
        }
        if ended(&mut self.reads).await.is_some() || self.reads.is_none() {
            let disk = self.disk.clone();
            self.reads = Some(tokio::spawn(async move { disk.watch_reads().await }));
        }
        if self.disk.has_failed() {
            return self.begin_reopening();
        }
        self.retry = None;
        if let Some(result) = ended(&mut self.checkpoint).await {
            self.checkpointed = Instant::now();
            if let Ok(Err(error)) = result {
                tracing::warn!(disk = %self.disk.id(), %error, "no checkpoint written; the next opening replays more");
            }
        }
        if self.checkpoint.is_none() && self.checkpointed.elapsed() >= self.watch.checkpoint_every {
            let disk = self.disk.clone();
            self.checkpoint = Some(tokio::spawn(async move { disk.checkpoint().await }));
        }
    }

    /// When it is time, opens the disk anew beside the failed engine.
    fn begin_reopening(&mut self) {
        let now = Instant::now();
        let (due, pause) = *self.retry.get_or_insert((now + self.watch.first_retry, self.watch.first_retry));
        if now < due {
            return;
        }
        let pause = (pause * 2).min(self.watch.longest_retry);
        self.retry = Some((now + pause, pause));
        let disk = self.disk.clone();
        self.reopening = Some(tokio::task::spawn_blocking(move || disk.reopen()));
    }

    async fn finish_reopening(&mut self) {
        let Some(result) = ended(&mut self.reopening).await else { return };
        let disk = self.disk.id();
        match result {
            Ok(Ok(())) => tracing::info!(%disk, "the disk is open again"),
            Ok(Err(error)) => tracing::warn!(%disk, %error, "the disk could not be opened again"),
            Err(error) => tracing::error!(%disk, %error, "opening the disk panicked"),
        }
    }
}
