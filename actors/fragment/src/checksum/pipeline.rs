//! Digests of a body computed in order, off the async threads, MD5 beside the others.
//!
//! MD5 is what limits one upload, so it has a lane of its own. A lane's state travels into a blocking task with the
//! bytes that have gathered and comes back with the result; no thread waits for a client. A body too small to be worth
//! a thread is hashed where it stands.

use std::{collections::VecDeque, sync::LazyLock};

use bytes::Bytes;
use md5_simd::Md5;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinHandle},
};

use super::digester::{BodyDigests, Digester, Others};
use super::{DigestPlan, Digests};

/// Bytes that are worth a blocking task; fewer wait for more, or are hashed in place at the end.
const TASK_BYTES: usize = 64 * 1024;

/// Hash tasks of all bodies together. More than the processors gains nothing, and the disks' blocking work needs
/// threads too.
static HASHING: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(2 * std::thread::available_parallelism().map_or(1, usize::from)));

/// A digest that could not be computed because its task did not end: a panic in it, or the runtime shutting down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body's digests could not be computed: {0}")]
pub struct DigestError(String);

/// Takes a body's bytes in order and gives its digests at the end. Holds at most `max_lag_bytes` and one more push
/// unhashed.
pub struct DigestPipeline {
    md5: Option<Lane<Md5>>,
    others: Lane<Others>,
    max_lag_bytes: usize,
}

impl DigestPipeline {
    /// `max_lag_bytes`: how many bytes may wait to be hashed before [`push`](Self::push) waits too.
    pub fn new(plan: DigestPlan, max_lag_bytes: usize) -> Self {
        let (md5, others) = Digester::new(plan).split();
        Self { md5: md5.map(Lane::new), others: Lane::new(others), max_lag_bytes }
    }

    /// Bytes taken but not hashed yet by the lane that is furthest behind.
    pub fn lag_bytes(&self) -> usize {
        self.md5.as_ref().map_or(0, Lane::lag).max(self.others.lag())
    }

    /// Takes the body's next bytes; waits only while too many are unhashed. Cancel-safe: the bytes count as taken at
    /// once.
    pub async fn push(&mut self, bytes: Bytes) -> Result<(), DigestError> {
        if let Some(md5) = &mut self.md5 {
            md5.take(bytes.clone());
        }
        self.others.take(bytes);
        let Self { md5, others, max_lag_bytes } = self;
        let md5 = async {
            match md5 {
                Some(lane) => lane.advance(*max_lag_bytes).await,
                None => Ok(()),
            }
        };
        futures::try_join!(md5, others.advance(*max_lag_bytes))?;
        Ok(())
    }

    /// Waits until everything is hashed.
    pub async fn finish(self) -> Result<BodyDigests, DigestError> {
        let md5 = async {
            match self.md5 {
                Some(lane) => Ok(Some(lane.finish().await?.finalize())),
                None => Ok(None),
            }
        };
        let (md5, others) = futures::try_join!(md5, self.others.finish())?;
        let body = others.finish();
        Ok(BodyDigests { digests: Digests { md5, ..body.digests }, xxh3: body.xxh3 })
    }
}

/// A hash that bytes can be fed to.
trait Hash: Send + 'static {
    fn feed(&mut self, bytes: &[u8]);
}

impl Hash for Md5 {
    fn feed(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Hash for Others {
    fn feed(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// One hash, where it is, and the bytes that wait for it.
struct Lane<H> {
    /// Here while no task runs.
    idle: Option<H>,
    running: Option<JoinHandle<Result<H, JoinError>>>,
    running_bytes: usize,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
}

impl<H: Hash> Lane<H> {
    fn new(hash: H) -> Self {
        Self { idle: Some(hash), running: None, running_bytes: 0, waiting: VecDeque::new(), waiting_bytes: 0 }
    }

    fn lag(&self) -> usize {
        self.running_bytes + self.waiting_bytes
    }

    fn take(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(bytes);
        }
    }

    /// Starts what is worth starting, and waits while more than `max_lag_bytes` are unhashed.
    async fn advance(&mut self, max_lag_bytes: usize) -> Result<(), DigestError> {
        loop {
            if self.running.as_ref().is_some_and(|task| task.is_finished() || self.lag() > max_lag_bytes) {
                self.join().await?;
            }
            if self.running.is_none() && self.waiting_bytes >= TASK_BYTES {
                self.start();
            }
            if self.lag() <= max_lag_bytes || self.running.is_none() {
                return Ok(());
            }
        }
    }

    fn start(&mut self) {
        let Some(mut hash) = self.idle.take() else { return };
        let batch = std::mem::take(&mut self.waiting);
        self.running_bytes = std::mem::take(&mut self.waiting_bytes);
        self.running = Some(tokio::spawn(async move {
            // Never closed, so always granted in the end.
            let _permit = HASHING.acquire().await;
            let work = move || {
                batch.iter().for_each(|bytes| hash.feed(bytes));
                hash
            };
            tokio::task::spawn_blocking(work).await
        }));
    }

    async fn join(&mut self) -> Result<(), DigestError> {
        if let Some(task) = &mut self.running {
            let done = task.await;
            self.running = None;
            self.running_bytes = 0;
            self.idle = Some(done.flatten().map_err(|error| DigestError(error.to_string()))?);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<H, DigestError> {
        self.join().await?;
        if self.waiting_bytes >= TASK_BYTES {
            self.start();
            self.join().await?;
        }
        let mut hash = self.idle.take().ok_or_else(|| DigestError("an earlier part of the body failed".into()))?;
        for bytes in self.waiting {
            hash.feed(&bytes);
        }
        Ok(hash)
    }
}
