//! How one child is made, and how it is seen to be busy.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::{sync::watch, time::Instant};

use super::ChildHandle;

/// Opening a large disk takes a while; a start that takes longer than this has failed.
const START_LIMIT: Duration = Duration::from_secs(600);

/// One life of a child.
pub(super) struct Incarnation {
    pub cell: ActorCell,
    pub busy: Arc<Busy>,
}

/// A child's type, forgotten.
pub(super) trait Spec: Send + Sync {
    /// Starts an incarnation linked to `supervisor` and points the handles at it.
    fn start(&self, supervisor: ActorCell) -> BoxFuture<'static, Result<Incarnation, String>>;
    /// Points the handles at nobody.
    fn clear(&self);
}

pub(super) struct ChildSpec<A: Actor, F> {
    factory: Arc<F>,
    current: Arc<watch::Sender<Option<ActorRef<A::Msg>>>>,
}

impl<A, F> ChildSpec<A, F>
where
    A: Actor,
    F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
{
    pub(super) fn make(name: &str, factory: F) -> (Arc<dyn Spec>, ChildHandle<A::Msg>) {
        let (current, watched) = watch::channel(None);
        let spec = Self { factory: Arc::new(factory), current: Arc::new(current) };
        (Arc::new(spec), ChildHandle::new(name.into(), watched))
    }
}

impl<A, F> Spec for ChildSpec<A, F>
where
    A: Actor,
    F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
{
    fn start(&self, supervisor: ActorCell) -> BoxFuture<'static, Result<Incarnation, String>> {
        let (factory, current) = (self.factory.clone(), self.current.clone());
        Box::pin(async move {
            // The factory is the caller's code: its panic must not take the supervisor with it.
            let made = std::panic::catch_unwind(AssertUnwindSafe(|| factory()));
            let (actor, arguments) = made.map_err(|_| "the factory panicked".to_owned())?;
            let busy = Arc::new(Busy::new());
            let watched = Watched { actor, busy: busy.clone() };
            let spawn = Watched::spawn_linked(None, watched, arguments, supervisor);
            let started = tokio::time::timeout(START_LIMIT, AssertUnwindSafe(spawn).catch_unwind()).await;
            let (actor, _) = started
                .map_err(|_| format!("not started after {START_LIMIT:?}"))?
                .map_err(|_| "panicked while starting".to_owned())?
                .map_err(|error| error.to_string())?;
            let cell = actor.get_cell();
            current.send_replace(Some(actor));
            Ok(Incarnation { cell, busy })
        })
    }

    fn clear(&self) {
        self.current.send_replace(None);
    }
}

/// Since when an actor has been handling its present message.
pub(super) struct Busy {
    base: Instant,
    /// Microseconds since `base`, plus one; 0: idle.
    since: AtomicU64,
}

impl Busy {
    fn new() -> Self {
        Self { base: Instant::now(), since: AtomicU64::new(0) }
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// None when idle.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_micros(self.elapsed_us().saturating_sub(since)))
    }

    async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        self.since.store(self.elapsed_us().saturating_add(1), Ordering::Relaxed);
        let result = work.await;
        self.since.store(0, Ordering::Relaxed);
        result
    }
}

/// The actor itself, with its busy times noted.
struct Watched<A> {
    actor: A,
    busy: Arc<Busy>,
}

impl<A: Actor> Actor for Watched<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        self.actor.pre_start(myself, arguments).await
    }

    async fn post_start(&self, myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        self.busy.during(self.actor.post_start(myself, state)).await
    }

    async fn post_stop(&self, myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        self.actor.post_stop(myself, state).await
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.busy.during(self.actor.handle(myself, message, state)).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.busy.during(self.actor.handle_supervisor_evt(myself, event, state)).await
    }
}
