//! One stripe on its way to a group, and to another when the first fails or is slow. The first group that has made it
//! safe keeps it; what the others have of it is deleted.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use cairn_schema::{ids::GroupId, record::Group};
use futures::future::select_all;

use super::{
    fan_out::{EncodedStripe, Sending},
    stripe::{SentStripe, WriteContext},
};
use crate::error::StoreError;

/// Groups that a stripe is sent to at the same time. More would only add load where something is slow already: one
/// beside a slow one, and a third if both wait for the same failure domain, which then is silent rather than one of its
/// disks.
const AT_ONCE: usize = 3;

/// Makes one stripe safe.
///
/// # Errors
/// Why the last group failed when all tries are used up, or why no group can be had.
pub(super) async fn write(context: Arc<WriteContext>, stripe: u32, bytes: Bytes) -> Result<SentStripe, StoreError> {
    let encoded = context.encode(stripe, bytes).await?;
    Race::new(context, stripe, encoded).run().await
}

/// What becomes of a stripe, over all groups that it is tried in.
struct Race {
    context: Arc<WriteContext>,
    stripe: u32,
    encoded: EncodedStripe,
    /// Every group that it was sent to.
    tried: Vec<GroupId>,
    /// Those that may still make it safe.
    running: Vec<Attempt>,
    /// Groups that could be had beside those that are slow have been: no other is looked for before one of them ends.
    alone: bool,
    /// Why the last group failed.
    failure: Option<StoreError>,
}

struct Attempt {
    group: Arc<Group>,
    sending: Sending,
    started: Instant,
}

/// Which of the running attempts has ended, and how.
type Ended = (usize, Result<(), StoreError>);

impl Race {
    fn new(context: Arc<WriteContext>, stripe: u32, encoded: EncodedStripe) -> Self {
        let (tried, running) = (Vec::new(), Vec::new());
        Self { context, stripe, encoded, tried, running, alone: false, failure: None }
    }

    async fn run(mut self) -> Result<SentStripe, StoreError> {
        self.try_another().await?;
        loop {
            match self.ended().await {
                None => {}
                Some((index, Ok(()))) => return Ok(self.won(index)),
                Some((index, Err(error))) => {
                    self.lost(index, error);
                    if self.running.is_empty() {
                        self.try_another().await?;
                    }
                }
            }
        }
    }

    /// Waits until a group has made the stripe safe or cannot any more; None when another was begun beside a slow one
    /// instead.
    async fn ended(&mut self) -> Option<Ended> {
        let Some(hedge_at) = self.hedge_at() else { return Some(first(&mut self.running).await) };
        match tokio::time::timeout_at(hedge_at.into(), first(&mut self.running)).await {
            Ok(ended) => Some(ended),
            Err(_) => self.hedge().await,
        }
    }

    /// When all groups under way will count as slow, if there may be another beside them.
    fn hedge_at(&self) -> Option<Instant> {
        let last = self.running.iter().map(|attempt| attempt.started).max()?;
        let may = !self.alone && self.tries_left() && self.running.len() < AT_ONCE;
        let data = &self.context.data;
        may.then(|| last + data.reach.write_latencies.hedge_after(self.encoded.fragment_bytes(), &data.limits))
    }

    fn tries_left(&self) -> bool {
        self.tried.len() < self.context.data.limits.stripe_tries.max(1)
            && !self.context.cancelled.load(Ordering::Relaxed)
    }

    /// Sends the stripe to another group as well. If only some disks are slow, they are avoided from now on, so that
    /// the other group, and those of stripes to come, are made of others.
    async fn hedge(&mut self) -> Option<Ended> {
        let second = self.running.len() > 1;
        // However it comes out, these attempts are not looked at again.
        self.alone = second;
        let data = self.context.data.clone();
        if !data.reach.write_latencies.may_hedge(self.context.scheme.width()) {
            self.alone = true;
            return None;
        }
        if second {
            let domain = self.silent_domain()?;
            tracing::debug!(blob = %self.context.blob, stripe = self.stripe, %domain, "a failure domain is silent");
            data.placement.doubt(&domain);
        }
        for slow in &mut self.running {
            slow.sending.blame_slow(&data.reach);
            self.context.leave(&slow.group);
        }
        // A task of its own: a choice that forms groups must not be broken off when the first group is done meanwhile.
        let (context, tried) = (self.context.clone(), self.tried.clone());
        let choice = tokio::spawn(async move { context.group(&tried).await });
        tokio::select! {
            ended = first(&mut self.running) => Some(ended),
            choice = choice => {
                if let Ok(Ok(group)) = choice {
                    tracing::debug!(blob = %self.context.blob, stripe = self.stripe, group = %group.id, "a slow stripe goes to another group as well");
                    self.context.data.metrics.put_hedges.inc();
                    self.send(group);
                } else {
                    self.alone = true;
                }
                None
            }
        }
    }

    /// The one failure domain that every group under way waits for, if there is one.
    fn silent_domain(&mut self) -> Option<String> {
        let placement = self.context.data.placement.clone();
        let topology = placement.topology();
        let level = topology.policy().failure_domain;
        let mut waited_for = self.running.iter_mut().map(|attempt| -> BTreeSet<String> {
            let slow = attempt.sending.slow();
            slow.iter().filter_map(|disk| Some(topology.disk(*disk)?.domain(level))).collect()
        });
        let first = waited_for.next()?;
        let common = waited_for.fold(first, |common, other| &common & &other);
        let mut domains = common.into_iter();
        domains.next().filter(|_| domains.next().is_none())
    }

    /// After a failure, or at first.
    async fn try_another(&mut self) -> Result<(), StoreError> {
        if !self.tries_left() {
            return Err(self.failure.take().unwrap_or(StoreError::Busy("the write was given up")));
        }
        match self.context.group(&self.tried).await {
            Ok(group) => {
                self.alone = false;
                self.send(group);
                Ok(())
            }
            // Why the groups that there are failed tells more than that there are no others.
            Err(error) => Err(self.failure.take().unwrap_or(error)),
        }
    }

    fn send(&mut self, group: Arc<Group>) {
        self.context.touch(&group, self.stripe);
        self.tried.push(group.id);
        let sending = Sending::start(&self.context.data.reach, &group, &self.encoded);
        self.running.push(Attempt { group, sending, started: Instant::now() });
    }

    fn won(mut self, index: usize) -> SentStripe {
        let Attempt { group, sending, .. } = self.running.swap_remove(index);
        for mut loser in self.running.drain(..) {
            // Its fragments hold the stripe's memory, and nobody needs them any more.
            loser.sending.abandon();
            self.context.data.cleaner.clean(loser.sending.into_remains(self.context.blob, loser.group, self.stripe));
        }
        self.context.data.metrics.put_stripes.inc();
        SentStripe { stripe: self.stripe, group, sending }
    }

    fn lost(&mut self, index: usize, error: StoreError) {
        let Attempt { group, sending, .. } = self.running.swap_remove(index);
        let (blob, stripe) = (self.context.blob, self.stripe);
        tracing::debug!(%blob, stripe, group = %group.id, %error, "a group did not take a stripe");
        self.context.data.metrics.stripe_retries.inc();
        self.context.leave(&group);
        self.context.data.cleaner.clean(sending.into_remains(blob, group, stripe));
        self.failure = Some(error);
    }
}

/// The first of the attempts, of which there is at least one, that makes the stripe safe or cannot any more.
async fn first(running: &mut [Attempt]) -> Ended {
    let attempts = running.iter_mut().map(|attempt| Box::pin(attempt.sending.safe()));
    let (result, index, _) = select_all(attempts).await;
    (index, result)
}
