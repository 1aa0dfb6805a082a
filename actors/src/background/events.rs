//! Delivery of events: in order for each key, each at least once.
//!
//! Every target has a worker of its own, so that one that hangs holds up no other, and one node at a time delivers to a
//! target, the holder of a lease. The events of a target wait in several queues (`keyspace::event_stripe`), by their
//! keys. Each queue is delivered one event after the other: an event that fails is tried again before those behind it,
//! after a pause that grows, until it is delivered or given up. What a node knows of pauses and refusals it keeps in
//! memory. Events are forgotten after they were delivered, some at a time, so that whoever takes over may tell the last
//! of each queue once more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use cairn_schema::{Meta, MetaError, keyspace::EVENT_STRIPES, record::*};

use super::{
    Context, EventMetrics,
    deliver::{Deliver, DeliveryTerms, Undelivered},
};
use crate::supervisor::{Step, StepError, Worker};

/// It outlasts a step, in which each queue makes one exchange more than it has time for.
const LEASE: Duration = Duration::from_secs(90);
const RENEWED: Duration = Duration::from_secs(20);
/// Events of a queue that are in memory at once.
const PAGE: usize = 32;
/// For so long a queue goes on in one step.
const STEP: Duration = Duration::from_secs(5);
/// Between two looks at what waits in all.
const COUNTED: Duration = Duration::from_secs(5);

/// Delivers what waits for one target.
pub struct Events {
    ctx: Context,
    target: String,
    deliver: Arc<dyn Deliver>,
    queues: Vec<Queue>,
    /// Since when the lease is held for sure.
    held: Option<Instant>,
    counted: Option<Instant>,
}

impl Events {
    pub fn new(ctx: Context, target: String, deliver: Arc<dyn Deliver>) -> Self {
        let queues = (0..EVENT_STRIPES).map(Queue::new).collect();
        Self { ctx, target, deliver, queues, held: None, counted: None }
    }

    async fn holds(&mut self) -> Result<bool, MetaError> {
        if self.held.is_some_and(|held| held.elapsed() < RENEWED) {
            return Ok(true);
        }
        let asked = Instant::now();
        let lease = self.ctx.lease(&format!("events/{}", self.target), LEASE).await?;
        self.held = lease.map(|_| asked);
        Ok(self.held.is_some())
    }

    async fn count(&mut self) -> Result<(), MetaError> {
        if self.counted.is_some_and(|counted| counted.elapsed() < COUNTED) {
            return Ok(());
        }
        self.counted = Some(Instant::now());
        let now_ms = self.ctx.meta.now_ms();
        let counts = self.ctx.meta.event_counts().await?;
        // A target that never had an event is shown, too.
        let mine = counts.iter().find(|counts| counts.target == self.target).cloned();
        let none = EventCounts { target: self.target.clone(), ..EventCounts::default() };
        self.ctx.metrics.events.show(&mine.unwrap_or(none), now_ms);
        Ok(())
    }
}

#[async_trait]
impl Worker for Events {
    async fn step(&mut self) -> Result<Step, StepError> {
        self.count().await?;
        if !self.holds().await? {
            return Ok(Step::Idle);
        }
        let (meta, deliver, metrics) = (&self.ctx.meta, &*self.deliver, &self.ctx.metrics.events);
        let to = To { meta, deliver, metrics, target: &self.target, terms: deliver.terms() };
        let queues = self.queues.iter_mut().map(|queue| queue.go_on(&to));
        let mut done = 0;
        let mut failed = None;
        for outcome in futures::future::join_all(queues).await {
            match outcome {
                Ok(events) => done += events,
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None if done > 0 => Ok(Step::Worked { bytes: 0 }),
            None => Ok(Step::Idle),
        }
    }
}

/// What all queues of a target share.
struct To<'a> {
    meta: &'a Meta,
    deliver: &'a dyn Deliver,
    metrics: &'a EventMetrics,
    target: &'a str,
    terms: DeliveryTerms,
}

/// One queue of a target.
struct Queue {
    stripe: u8,
    /// Failures in a row.
    failures: u32,
    /// How often the first event was refused.
    refused: Option<(EventPlace, u32)>,
    /// Nothing is tried before.
    due: Instant,
}

impl Queue {
    fn new(stripe: u8) -> Self {
        Self { stripe, failures: 0, refused: None, due: Instant::now() }
    }

    /// Delivers for a while, or until one fails; how many events left the queue.
    async fn go_on(&mut self, to: &To<'_>) -> Result<usize, MetaError> {
        let began = Instant::now();
        if began < self.due {
            return Ok(0);
        }
        let mut done = 0;
        while began.elapsed() < STEP {
            let page = to.meta.queued_events(to.target, self.stripe, PAGE).await?;
            let (delivered, failure) = self.tell(to, &page, began).await;
            let places: Vec<EventPlace> = page[..delivered].iter().map(|queued| queued.place).collect();
            to.meta.events_delivered(to.target, &places).await?;
            done += delivered;
            if let Some(failure) = failure {
                return Ok(done + self.failed(to, &page[delivered..], failure).await?);
            }
            if page.len() < PAGE {
                break;
            }
        }
        Ok(done)
    }

    /// How many of a page were delivered, and why the next was not.
    async fn tell(&mut self, to: &To<'_>, page: &[QueuedEvent], began: Instant) -> (usize, Option<Undelivered>) {
        for (number, event) in page.iter().enumerate() {
            if number > 0 && began.elapsed() >= STEP {
                return (number, None);
            }
            if let Err(why) = to.deliver.deliver(to.target, event).await {
                to.metrics.failures.with_label_values(&[to.target]).inc();
                return (number, Some(why));
            }
            to.metrics.delivered.with_label_values(&[to.target]).inc();
            self.failures = 0;
        }
        (page.len(), None)
    }

    /// The first of `rest` failed. How many are given up for that.
    async fn failed(&mut self, to: &To<'_>, rest: &[QueuedEvent], why: Undelivered) -> Result<usize, MetaError> {
        let Some(first) = rest.first() else { return Ok(0) };
        let refusals = match (&why, self.refused) {
            (Undelivered::Failed(_), _) => 0,
            (Undelivered::Refused(_), Some((place, times))) if place == first.place => times + 1,
            (Undelivered::Refused(_), _) => 1,
        };
        self.refused = (refusals > 0).then_some((first.place, refusals));
        let now_ms = to.meta.now_ms();
        let dead_after_ms = u64::try_from(to.terms.dead_after.as_millis()).unwrap_or(u64::MAX);
        let is_old = |queued: &&QueuedEvent| now_ms.saturating_sub(queued.event.queued_ms) >= dead_after_ms;
        let mut dead: Vec<EventPlace> = rest.iter().take_while(is_old).map(|queued| queued.place).collect();
        if dead.is_empty() && refusals >= to.terms.refusals {
            dead.push(first.place);
        }
        if dead.is_empty() {
            let doubled = to.terms.first_pause.saturating_mul(2u32.saturating_pow(self.failures));
            let pause = doubled.min(to.terms.longest_pause);
            self.failures = self.failures.saturating_add(1);
            self.due = Instant::now() + pause;
            if self.failures == 1 {
                tracing::info!(target_name = to.target, %why, ?pause, "an event was not delivered; it is tried again");
            }
            return Ok(0);
        }
        tracing::warn!(target_name = to.target, %why, events = dead.len(), "events were given up");
        to.meta.bury_events(to.target, &dead, &why.to_string()).await?;
        Ok(dead.len())
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
