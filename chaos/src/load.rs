//! Load: closed-loop clients that put or get objects of one size, and what that cost the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    process::cpu_seconds,
    s3::{S3, S3Error},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Put,
    Get,
}

/// One cell of the table: a verb, a size, a number of clients.
#[derive(Clone, Debug)]
pub struct Step {
    pub verb: Verb,
    pub bytes: usize,
    pub clients: usize,
    pub time: Duration,
    /// Objects the clients put or get in turn; bounds what the run leaves on disk.
    pub keys: usize,
    /// The server's processes, whose processor time is counted.
    pub pids: Vec<u32>,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub operations: u64,
    pub seconds: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// The server's processor seconds per GiB moved; None when no process was named.
    pub cpu_seconds_per_gib: Option<f64>,
}

impl Outcome {
    pub fn mib_per_second(&self, bytes: usize) -> f64 {
        self.operations as f64 * bytes as f64 / (1 << 20) as f64 / self.seconds
    }
}

const BUCKET: &str = "load";

fn key(bytes: usize, number: usize) -> String {
    format!("{bytes}/{number:06}")
}

/// Runs one step; the first error of any client ends it.
pub async fn run(s3: &S3, step: &Step) -> Result<Outcome, S3Error> {
    let body = body(step.bytes);
    s3.create_bucket(BUCKET).await?;
    if step.verb == Verb::Get {
        for number in 0..step.keys {
            s3.put(BUCKET, &key(step.bytes, number), body.clone()).await?;
        }
    }
    let cpu_before: Option<f64> = step.pids.iter().map(|pid| cpu_seconds(*pid)).sum();
    let start = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..step.clients)
        .map(|_| tokio::spawn(client(s3.clone(), step.clone(), body.clone(), start, next.clone())))
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        match client.await {
            Ok(done) => latencies.extend(done?),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu_after: Option<f64> = step.pids.iter().map(|pid| cpu_seconds(*pid)).sum();
    latencies.sort_unstable();
    let gib = latencies.len() as f64 * step.bytes as f64 / (1u64 << 30) as f64;
    Ok(Outcome {
        operations: latencies.len() as u64,
        seconds,
        p50: percentile(&latencies, 50),
        p99: percentile(&latencies, 99),
        cpu_seconds_per_gib: (!step.pids.is_empty())
            .then_some(())
            .and(cpu_before.zip(cpu_after))
            .map(|(b, a)| (a - b) / gib),
    })
}

async fn client(
    s3: S3,
    step: Step,
    body: Bytes,
    start: Instant,
    next: Arc<AtomicU64>,
) -> Result<Vec<Duration>, S3Error> {
    let mut latencies = Vec::new();
    // At least one operation a client, however slow, so that there is something to report.
    while start.elapsed() < step.time || latencies.is_empty() {
        let number = next.fetch_add(1, Ordering::Relaxed) as usize % step.keys;
        let began = Instant::now();
        match step.verb {
            Verb::Put => s3.put(BUCKET, &key(step.bytes, number), body.clone()).await?,
            Verb::Get => drop(s3.drain(BUCKET, &key(step.bytes, number), |_| ()).await?),
        }
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

fn body(bytes: usize) -> Bytes {
    let mut body = vec![0; bytes];
    rand::Rng::fill(&mut rand::rng(), body.as_mut_slice());
    body.into()
}

/// The value below which `percent` of the sorted values lie; zero of none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few_and_many() {
        let ms = Duration::from_millis;
        assert_eq!(percentile(&[], 50), Duration::ZERO);
        assert_eq!(percentile(&[ms(7)], 99), ms(7));
        let hundred: Vec<_> = (1..=100).map(ms).collect();
        assert_eq!(percentile(&hundred, 50), ms(50));
        assert_eq!(percentile(&hundred, 99), ms(99));
    }
}
