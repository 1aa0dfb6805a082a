#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::*;

/// Does what it is told, above all badly.
struct Puppet {
    name: &'static str,
    log: Arc<Mutex<Vec<&'static str>>>,
}

enum Order {
    Panic,
    Fail,
    Hang,
    Finish,
    Incarnation(RpcReplyPort<u32>),
    Slow(Duration),
}

impl Actor for Puppet {
    type Msg = Order;
    type State = u32;
    type Arguments = Arc<AtomicU32>;

    async fn pre_start(&self, _: ActorRef<Order>, births: Arc<AtomicU32>) -> Result<u32, ActorProcessingErr> {
        match births.fetch_add(1, Ordering::SeqCst) {
            u32::MAX => Err("refused to be born".into()),
            birth => Ok(birth),
        }
    }

    async fn handle(&self, me: ActorRef<Order>, order: Order, birth: &mut u32) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Panic => panic!("told to panic"),
            Order::Fail => return Err("told to fail".into()),
            Order::Hang => std::future::pending().await,
            Order::Finish => me.stop(None),
            Order::Incarnation(reply) => reply.send(*birth)?,
            Order::Slow(pause) => tokio::time::sleep(pause).await,
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Order>, _: &mut u32) -> Result<(), ActorProcessingErr> {
        self.log.lock().push(self.name);
        Ok(())
    }
}

const LIMIT: Duration = Duration::from_secs(20);

fn policy(max_restarts: u32) -> RestartPolicy {
    RestartPolicy {
        max_restarts,
        window: Duration::from_secs(600),
        backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(4),
        hang_after: Some(Duration::from_millis(100)),
        need: Need::Helpful,
    }
}

async fn puppet(supervisor: &Supervisor, name: &'static str, max_restarts: u32) -> ChildHandle<Order> {
    let births = Arc::new(AtomicU32::new(0));
    let factory = move || (Puppet { name, log: Arc::default() }, births.clone());
    supervisor.supervise(name, policy(max_restarts), factory).await.unwrap()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn until_reborn(child: &ChildHandle<Order>, birth: u32) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    // A call may reach the incarnation that is about to die.
    while child.call(Order::Incarnation, LIMIT).await.ok() != Some(birth) {
        assert!(tokio::time::Instant::now() < deadline, "incarnation {birth} was never born");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn status(supervisor: &Supervisor, name: &str) -> ChildStatus {
    supervisor.status().into_iter().find(|child| child.name == name).unwrap()
}

#[tokio::test]
async fn panics_errors_and_hangs_are_restarted_and_counted() {
    let supervisor = Supervisor::start("test").await.unwrap();
    let child = puppet(&supervisor, "puppet", 10).await;
    let causes = [
        (Order::Panic, "told to panic"),
        (Order::Fail, "told to fail"),
        (Order::Hang, "hung: busy with one message"),
        (Order::Fail, "told to fail"),
    ];
    for (count, (order, cause)) in (1..).zip(causes) {
        child.cast(order).unwrap();
        until_reborn(&child, count).await;
        let now = status(&supervisor, "puppet");
        assert_eq!((now.state, now.restarts), (ChildState::Running, u64::from(count)));
        let failure = now.last_failure.unwrap();
        assert!(failure.contains(cause), "{failure:?} does not name {cause:?}");
    }
    supervisor.stop(LIMIT).await;
    let end = status(&supervisor, "puppet");
    assert_eq!((end.state, end.restarts), (ChildState::Stopped, 4));
    assert!(matches!(child.cast(Order::Fail), Err(SupervisorError::NotRunning(_))));
}

#[tokio::test]
async fn a_child_that_keeps_failing_is_given_up_and_may_be_replaced() {
    let supervisor = Supervisor::start("test").await.unwrap();
    let child = puppet(&supervisor, "puppet", 3).await;
    let healthy = puppet(&supervisor, "healthy", 3).await;
    for birth in 0..=3 {
        until_reborn(&child, birth).await;
        child.cast(Order::Panic).unwrap();
    }
    until("given up", || status(&supervisor, "puppet").state == ChildState::GivenUp).await;
    assert_eq!(status(&supervisor, "puppet").restarts, 3, "three restarts were allowed and used");
    let refused = child.call(Order::Incarnation, Duration::from_millis(20)).await;
    assert!(matches!(refused, Err(SupervisorError::NotRunning(_))), "{refused:?}");
    assert_eq!(healthy.call(Order::Incarnation, LIMIT).await.unwrap(), 0, "others are not touched");
    let again = puppet(&supervisor, "puppet", 3).await;
    assert_eq!(again.call(Order::Incarnation, LIMIT).await.unwrap(), 0);
    assert_eq!(supervisor.status().len(), 2);
}

/// Whoever owns the supervisor learns of it; what is merely helpful may be given up without a word to them.
#[tokio::test]
async fn an_essential_child_that_is_given_up_fails_the_whole() {
    let supervisor = Supervisor::start("test").await.unwrap();
    let helpful = puppet(&supervisor, "helpful", 0).await;
    let essential = RestartPolicy { need: Need::Essential, ..policy(1) };
    let factory = || (Puppet { name: "essential", log: Arc::default() }, Arc::new(AtomicU32::new(0)));
    let child = supervisor.supervise("essential", essential, factory).await.unwrap();
    helpful.cast(Order::Panic).unwrap();
    until("given up", || status(&supervisor, "helpful").state == ChildState::GivenUp).await;
    child.cast(Order::Panic).unwrap();
    until("restarted", || status(&supervisor, "essential").restarts == 1).await;
    assert_eq!(supervisor.failed().now_or_never(), None);
    until("given up", || {
        let _ = child.cast(Order::Panic);
        supervisor.failed().now_or_never().is_some()
    })
    .await;
    let failed = tokio::time::timeout(LIMIT, supervisor.failed()).await.unwrap();
    assert_eq!((failed.name.as_str(), failed.state), ("essential", ChildState::GivenUp));
    assert!(failed.last_failure.unwrap().contains("told to panic"));
}

#[tokio::test]
async fn a_start_that_fails_is_an_error_at_first_and_a_failure_later() {
    let supervisor = Supervisor::start("test").await.unwrap();
    let unborn = Arc::new(AtomicU32::new(u32::MAX));
    let factory = move || {
        unborn.store(u32::MAX, Ordering::SeqCst);
        (Puppet { name: "unborn", log: Arc::default() }, unborn.clone())
    };
    let refused = supervisor.supervise("unborn", policy(3), factory).await;
    assert!(matches!(&refused, Err(SupervisorError::Start(_, why)) if why.contains("refused")), "not refused");
    assert!(supervisor.status().is_empty());

    let births = Arc::new(AtomicU32::new(0));
    let shared = births.clone();
    let factory = move || (Puppet { name: "late", log: Arc::default() }, shared.clone());
    let child = supervisor.supervise("late", policy(2), factory).await.unwrap();
    births.store(u32::MAX, Ordering::SeqCst);
    child.cast(Order::Fail).unwrap();
    // The failed start wraps the counter to 0, so that the one after it succeeds.
    until_reborn(&child, 0).await;
    let now = status(&supervisor, "late");
    assert_eq!((now.restarts, now.state), (2, ChildState::Running));
    assert!(now.last_failure.unwrap().contains("could not start"));
}

#[tokio::test]
async fn a_busy_queue_is_not_a_hang_and_a_finished_child_stays_finished() {
    let supervisor = Supervisor::start("test").await.unwrap();
    let child = puppet(&supervisor, "puppet", 3).await;
    for _ in 0..8 {
        child.cast(Order::Slow(Duration::from_millis(30))).unwrap();
    }
    assert_eq!(child.call(Order::Incarnation, LIMIT).await.unwrap(), 0, "the queue took longer than hang_after");
    child.cast(Order::Finish).unwrap();
    until("finished", || status(&supervisor, "puppet").state == ChildState::Stopped).await;
    assert_eq!(status(&supervisor, "puppet").restarts, 0);
}

#[tokio::test]
async fn children_stop_in_reverse_order_after_finishing_their_messages() {
    let supervisor = Supervisor::start("test").await.unwrap();
    let log: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let mut children = Vec::new();
    for name in ["first", "second", "third"] {
        let log = log.clone();
        let factory = move || (Puppet { name, log: log.clone() }, Arc::new(AtomicU32::new(0)));
        children.push(supervisor.supervise(name, policy(1), factory).await.unwrap());
    }
    children[1].cast(Order::Slow(Duration::from_millis(50))).unwrap();
    let queued = children[1].clone();
    let answer = tokio::spawn(async move { queued.call(Order::Incarnation, LIMIT).await });
    tokio::task::yield_now().await;
    supervisor.stop(LIMIT).await;
    assert_eq!(*log.lock(), ["third", "second", "first"]);
    assert_eq!(answer.await.unwrap().unwrap(), 0, "a queued message is handled before the stop");
    let factory = || (Puppet { name: "late", log: Arc::default() }, Arc::new(AtomicU32::new(0)));
    assert!(supervisor.supervise("late", policy(1), factory).await.is_err());
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_hung_child_longer_than_the_grace() {
    let supervisor = Supervisor::start("test").await.unwrap();
    let births = Arc::new(AtomicU32::new(0));
    let unwatched = RestartPolicy { hang_after: None, ..policy(1) };
    let factory = move || (Puppet { name: "hung", log: Arc::default() }, births.clone());
    let child = supervisor.supervise("hung", unwatched, factory).await.unwrap();
    child.cast(Order::Hang).unwrap();
    let begun = std::time::Instant::now();
    supervisor.stop(Duration::from_millis(100)).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(status(&supervisor, "hung").state, ChildState::Stopped);
}
