//! Clients whose latency is measured: requests at fixed times, whatever became of those before, so that a server that
//! is slow for a while is asked as often as one that is fast.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cairn_bench::Failure;
use cairn_chaos::s3::S3;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) const BUCKET: &str = "clients";
pub(crate) const OBJECT_BYTES: usize = 1 << 20;
/// Objects that are read, and as many that are written over and over.
const KEYS: usize = 64;
/// Requests under way; those that are due beyond count as failed.
const AT_ONCE: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Put,
}

/// One request: when it was due, and how long after that it was done; None if it failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub verb: Verb,
    pub due: Instant,
    pub took: Option<Duration>,
}

pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Vec<Sample>>,
}

impl Clients {
    /// Writes what will be read, then asks `per_second` times for a GET and as often for a PUT, of each endpoint in
    /// turn.
    pub(crate) async fn start(endpoints: Vec<S3>, per_second: f64) -> Result<Self, Failure> {
        let first = endpoints.first().ok_or("no endpoint")?;
        first.create_bucket(BUCKET).await?;
        let body = random_body(1, OBJECT_BYTES);
        for key in 0..KEYS {
            first.put(BUCKET, &format!("read/{key}"), body.clone()).await?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let asking = tokio::spawn(ask(endpoints, per_second, body, stop.clone()));
        Ok(Self { stop, asking })
    }

    /// Ends when every request has.
    pub(crate) async fn stop(self) -> Result<Vec<Sample>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.asking.await?)
    }
}

async fn ask(endpoints: Vec<S3>, per_second: f64, body: Bytes, stop: Arc<AtomicBool>) -> Vec<Sample> {
    let mut rng = SmallRng::seed_from_u64(7);
    let (mut samples, mut under_way) = (Vec::new(), JoinSet::new());
    let begun = Instant::now();
    for number in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = begun + Duration::from_secs_f64(f64::from(number) / 2.0 / per_second);
        tokio::time::sleep_until(due.into()).await;
        while let Some(Ok(sample)) = under_way.try_join_next() {
            samples.push(sample);
        }
        let verb = if number % 2 == 0 { Verb::Get } else { Verb::Put };
        if under_way.len() >= AT_ONCE {
            samples.push(Sample { verb, due, took: None });
            continue;
        }
        let s3 = endpoints[number as usize / 2 % endpoints.len()].clone();
        let (key, body) = (rng.random_range(0..KEYS), body.clone());
        under_way.spawn(async move {
            let done = match verb {
                Verb::Get => s3.get(BUCKET, &format!("read/{key}")).await.map(drop),
                Verb::Put => s3.put(BUCKET, &format!("written/{key}"), body).await,
            };
            Sample { verb, due, took: done.is_ok().then(|| due.elapsed()) }
        });
    }
    while let Some(Ok(sample)) = under_way.join_next().await {
        samples.push(sample);
    }
    samples
}

pub(crate) fn random_body(seed: u64, bytes: usize) -> Bytes {
    let mut body = vec![0; bytes];
    SmallRng::seed_from_u64(seed).fill(body.as_mut_slice());
    body.into()
}

/// A time of the run, and what the clients saw of it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub name: &'static str,
    pub from: Instant,
    pub to: Instant,
    /// The part of all processors' time that neither the cluster nor this program used.
    pub others: f64,
}

/// What the requests of one kind took that were due in a window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    pub done: usize,
    pub failed: usize,
    pub p50: Duration,
    pub p99: Duration,
}

impl Window {
    pub(crate) fn latency(&self, verb: Verb, samples: &[Sample]) -> Latency {
        let within = |sample: &&Sample| sample.verb == verb && sample.due >= self.from && sample.due < self.to;
        let all: Vec<&Sample> = samples.iter().filter(within).collect();
        let mut took: Vec<Duration> = all.iter().filter_map(|sample| sample.took).collect();
        took.sort_unstable();
        let at = |percent: usize| {
            let index = (took.len() * percent).div_ceil(100).saturating_sub(1);
            took.get(index).copied().unwrap_or_default()
        };
        Latency { done: took.len(), failed: all.len() - took.len(), p50: at(50), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_the_requests_that_were_due_in_it() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let sample =
            |ms: u64, took: Option<u64>| Sample { verb: Verb::Get, due: at(ms), took: took.map(Duration::from_millis) };
        let samples =
            [sample(0, Some(9)), sample(10, Some(1)), sample(20, Some(3)), sample(30, None), sample(40, Some(9))];
        let window = Window { name: "w", from: at(10), to: at(40), others: 0.0 };
        let latency = window.latency(Verb::Get, &samples);
        assert_eq!((latency.done, latency.failed), (2, 1));
        assert_eq!((latency.p50.as_millis(), latency.p99.as_millis()), (1, 3));
        assert_eq!(window.latency(Verb::Put, &samples).done, 0);
    }
}
