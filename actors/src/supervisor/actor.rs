//! The actor that owns the children. It never awaits anything slow: starts, backoffs and stops run beside it and report
//! back as messages, so that one child cannot delay the supervision of another.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorStatus, Signal, SupervisionEvent};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    ChildState, ChildStatus, Need, RestartPolicy,
    child::{Incarnation, Spec},
};

/// How long a killed child gets to reach its next await while everything stops.
const KILL_WAIT: Duration = Duration::from_secs(1);
/// Exits of actors not known yet, at most: each is one start under way.
const MAX_EARLY_EXITS: usize = 1024;

/// By order of start.
pub(super) type StatusTable = Arc<Mutex<BTreeMap<u64, ChildStatus>>>;

pub(super) enum Command {
    Add { name: String, policy: RestartPolicy, spec: Arc<dyn Spec>, reply: oneshot::Sender<Result<(), String>> },
    Started { child: u64, result: Result<Incarnation, String> },
    RestartDue { child: u64 },
    Hung { child: u64, actor: ActorId, busy_for: Duration },
    Stop { grace: Duration, reply: oneshot::Sender<()> },
    AllStopped { reply: oneshot::Sender<()> },
}

struct Child {
    name: String,
    policy: RestartPolicy,
    spec: Arc<dyn Spec>,
    current: Option<ActorCell>,
    /// Waits for the first start.
    starter: Option<oneshot::Sender<Result<(), String>>>,
    /// Times of the restarts within the policy's window.
    recent: VecDeque<Instant>,
    /// Why we killed it, until its end is reported.
    killed_for: Option<String>,
}

pub(super) struct State {
    name: String,
    table: StatusTable,
    children: BTreeMap<u64, Child>,
    next_child: u64,
    stopping: bool,
    /// The first essential child that was given up.
    failure: watch::Sender<Option<ChildStatus>>,
    /// Actors that ended before the message that introduces them arrived: events overtake messages.
    early_exits: HashMap<ActorId, Option<String>>,
}

pub(super) struct Root;

impl Actor for Root {
    type Msg = Command;
    type State = State;
    type Arguments = (String, StatusTable, watch::Sender<Option<ChildStatus>>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Command>,
        (name, table, failure): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let (children, early_exits) = (BTreeMap::new(), HashMap::new());
        Ok(State { name, table, children, next_child: 0, stopping: false, failure, early_exits })
    }

    async fn handle(
        &self,
        myself: ActorRef<Command>,
        command: Command,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match command {
            Command::Add { name, policy, spec, reply } => state.add(&myself, name, policy, spec, reply),
            Command::Started { child, result } => state.started(&myself, child, result),
            Command::RestartDue { child } => state.restart_due(&myself, child),
            Command::Hung { child, actor, busy_for } => state.hung(child, actor, busy_for),
            Command::Stop { grace, reply } => state.stop(&myself, grace, reply),
            Command::AllStopped { reply } => {
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Command>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                state.exited(&myself, cell.get_id(), Some(error.to_string()));
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                let failure = reason.filter(|reason| *reason == Signal::Kill.to_string());
                state.exited(&myself, cell.get_id(), failure);
            }
            _ => {}
        }
        Ok(())
    }
}

impl State {
    fn add(
        &mut self,
        myself: &ActorRef<Command>,
        name: String,
        policy: RestartPolicy,
        spec: Arc<dyn Spec>,
        reply: oneshot::Sender<Result<(), String>>,
    ) {
        if self.stopping {
            let _ = reply.send(Err("the supervisor is stopping".to_owned()));
            return;
        }
        if let Some(old) = self.children.iter().find(|(_, child)| child.name == name).map(|(id, _)| *id) {
            let state = self.table.lock().get(&old).map(|status| status.state);
            if matches!(state, Some(ChildState::Running | ChildState::Restarting)) {
                let _ = reply.send(Err("an actor of this name is running".to_owned()));
                return;
            }
            self.forget(old);
        }
        let id = self.next_child;
        self.next_child += 1;
        let status = ChildStatus { name: name.clone(), state: ChildState::Restarting, restarts: 0, last_failure: None };
        self.table.lock().insert(id, status);
        let (recent, starter) = (VecDeque::new(), Some(reply));
        let child = Child { name, policy, spec, current: None, starter, recent, killed_for: None };
        self.children.insert(id, child);
        self.launch(myself, id);
    }

    fn forget(&mut self, id: u64) {
        self.children.remove(&id);
        self.table.lock().remove(&id);
    }

    fn launch(&self, myself: &ActorRef<Command>, id: u64) {
        let Some(child) = self.children.get(&id) else { return };
        let start = child.spec.start(myself.get_cell());
        let myself = myself.clone();
        tokio::spawn(async move {
            let result = start.await;
            let orphan = result.as_ref().ok().map(|life| life.cell.clone());
            if myself.cast(Command::Started { child: id, result }).is_err()
                && let Some(cell) = orphan
            {
                cell.kill();
            }
        });
    }

    fn started(&mut self, myself: &ActorRef<Command>, id: u64, result: Result<Incarnation, String>) {
        let stopping = self.stopping;
        let Some(child) = self.children.get_mut(&id) else { return };
        match result {
            Ok(life) => {
                if stopping {
                    child.spec.clear();
                    life.cell.kill();
                }
                let actor = life.cell.get_id();
                child.current = Some(life.cell.clone());
                if let Some(starter) = child.starter.take() {
                    let _ = starter.send(Ok(()));
                }
                if let Some(limit) = child.policy.hang_after {
                    watch_for_hang(myself.clone(), id, life, limit);
                }
                self.set_state(id, ChildState::Running);
                if let Some(failure) = self.early_exits.remove(&actor) {
                    self.exited(myself, actor, failure);
                }
            }
            Err(why) => match child.starter.take() {
                Some(starter) => {
                    let _ = starter.send(Err(why));
                    self.forget(id);
                }
                None => self.failed(myself, id, format!("could not start: {why}")),
            },
        }
    }

    fn exited(&mut self, myself: &ActorRef<Command>, actor: ActorId, failure: Option<String>) {
        let owner = self.children.iter().find(|(_, child)| is_current(child, actor)).map(|(id, _)| *id);
        let Some(id) = owner else {
            if self.early_exits.len() < MAX_EARLY_EXITS {
                self.early_exits.insert(actor, failure);
            }
            return;
        };
        let Some(child) = self.children.get_mut(&id) else { return };
        child.current = None;
        child.spec.clear();
        match child.killed_for.take().or(failure) {
            Some(why) => self.failed(myself, id, why),
            None => self.set_state(id, ChildState::Stopped),
        }
    }

    fn failed(&mut self, myself: &ActorRef<Command>, id: u64, why: String) {
        let stopping = self.stopping;
        let Some(child) = self.children.get_mut(&id) else { return };
        let (now, policy) = (Instant::now(), child.policy);
        while child.recent.front().is_some_and(|at| now.duration_since(*at) > policy.window) {
            child.recent.pop_front();
        }
        let used = u32::try_from(child.recent.len()).unwrap_or(u32::MAX);
        let name = child.name.clone();
        let next = if stopping {
            ChildState::Stopped
        } else if used >= policy.max_restarts {
            tracing::error!(supervisor = %self.name, actor = %name, failure = %why, restarts = used, "an actor failed too often and is not started again");
            ChildState::GivenUp
        } else {
            child.recent.push_back(now);
            let wait = backoff(&policy, used);
            tracing::warn!(supervisor = %self.name, actor = %name, failure = %why, ?wait, "an actor failed and is started again");
            let myself = myself.clone();
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                let _ = myself.cast(Command::RestartDue { child: id });
            });
            ChildState::Restarting
        };
        if let Some(status) = self.table.lock().get_mut(&id) {
            status.state = next;
            status.last_failure = Some(why);
            if next == ChildState::GivenUp && policy.need == Need::Essential {
                self.failure.send_if_modified(|failure| failure.is_none() && failure.replace(status.clone()).is_none());
            }
        }
    }

    fn restart_due(&mut self, myself: &ActorRef<Command>, id: u64) {
        if self.stopping {
            return;
        }
        if let Some(status) = self.table.lock().get_mut(&id) {
            status.restarts += 1;
        }
        self.launch(myself, id);
    }

    fn hung(&mut self, id: u64, actor: ActorId, busy_for: Duration) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if !is_current(child, actor) {
            return;
        }
        child.killed_for = Some(format!("hung: busy with one message for {} ms", busy_for.as_millis()));
        // Callers must not queue behind it; the restart follows when its end is reported.
        child.spec.clear();
        if let Some(cell) = &child.current {
            cell.kill();
        }
        self.set_state(id, ChildState::Restarting);
    }

    fn stop(&mut self, myself: &ActorRef<Command>, grace: Duration, reply: oneshot::Sender<()>) {
        self.stopping = true;
        let mut running = Vec::new();
        for (id, child) in self.children.iter().rev() {
            match &child.current {
                Some(cell) => running.push(cell.clone()),
                None => {
                    if let Some(status) = self.table.lock().get_mut(id)
                        && status.state == ChildState::Restarting
                    {
                        status.state = ChildState::Stopped;
                    }
                }
            }
        }
        let myself = myself.clone();
        tokio::spawn(async move {
            for cell in running {
                if cell.drain_and_wait(Some(grace)).await.is_err() && cell.get_status() != ActorStatus::Stopped {
                    let _ = cell.kill_and_wait(Some(KILL_WAIT)).await;
                }
            }
            // If the supervisor is gone already, dropping the reply tells the waiter.
            let _ = myself.cast(Command::AllStopped { reply });
        });
    }

    fn set_state(&self, id: u64, state: ChildState) {
        if let Some(status) = self.table.lock().get_mut(&id) {
            status.state = state;
        }
    }
}

fn is_current(child: &Child, actor: ActorId) -> bool {
    child.current.as_ref().is_some_and(|cell| cell.get_id() == actor)
}

fn backoff(policy: &RestartPolicy, used: u32) -> Duration {
    policy.backoff.saturating_mul(2u32.saturating_pow(used)).min(policy.max_backoff)
}

fn watch_for_hang(myself: ActorRef<Command>, child: u64, life: Incarnation, limit: Duration) {
    let pause = (limit / 4).max(Duration::from_millis(5));
    tokio::spawn(async move {
        while life.cell.get_status() < ActorStatus::Stopping {
            tokio::time::sleep(pause).await;
            if let Some(busy_for) = life.busy.busy_for().filter(|busy_for| *busy_for > limit) {
                let _ = myself.cast(Command::Hung { child, actor: life.cell.get_id(), busy_for });
                return;
            }
        }
    });
}
