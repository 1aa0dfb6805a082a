//! Clients that each own a few keys and know after every request what the keys may hold: a request that succeeded
//! leaves one possibility, one that failed adds one. Whatever is read must be possible (DUR-1, CON-1, INT-1), and every
//! request must end in time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    error::ChaosError,
    s3::{S3, S3Error},
};

pub const BUCKET: &str = "registers";
/// Few enough that keys are written again and again, and that one page of a listing holds them all.
const KEYS: usize = 24;
/// Empty, replicated, one short stripe, several stripes.
const SIZES: [usize; 5] = [0, 1, 5_000, 200_000, 1_200_000];
/// A client whose request failed waits, as S3's own clients do.
const PAUSE: Duration = Duration::from_millis(50);

/// The seeds of the bodies that a key may hold; None: it may be absent.
type Possible = Vec<Option<u64>>;

/// What came of the requests of all clients.
#[derive(Default)]
pub struct Outcomes {
    /// When requests that changed something were acknowledged.
    pub acknowledged: Vec<Instant>,
    /// By operation: how many succeeded.
    pub succeeded: BTreeMap<&'static str, u64>,
    /// By operation and status, or `transport`: how many failed.
    pub failed: BTreeMap<String, u64>,
    /// The longest that a request took.
    pub longest: (Duration, &'static str),
    violated: Option<ChaosError>,
}

/// What all clients share.
#[derive(Default)]
struct Course {
    outcomes: Mutex<Outcomes>,
    stop: AtomicBool,
}

impl Course {
    fn outcomes(&self) -> std::sync::MutexGuard<'_, Outcomes> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clients at work.
pub struct Registers {
    shared: Arc<Course>,
    clients: Vec<tokio::task::JoinHandle<Client>>,
}

impl Registers {
    /// One client for each of `endpoints`' S3 clients, which go around among them.
    pub fn start(endpoints: &[S3], count: usize, seed: u64) -> Self {
        let shared = Arc::new(Course::default());
        let clients = (0..count).map(|number| {
            let client = Client {
                number,
                endpoints: endpoints.to_vec(),
                rng: StdRng::seed_from_u64(seed ^ (number as u64) << 32),
                keys: vec![vec![None]; KEYS],
            };
            tokio::spawn(client.work(shared.clone()))
        });
        Self { clients: clients.collect(), shared }
    }

    /// Looks at the outcomes so far; the violation of a promise, if there was one.
    pub fn look<T>(&self, look: impl FnOnce(&Outcomes) -> T) -> Result<T, ChaosError> {
        let mut outcomes = self.shared.outcomes();
        match outcomes.violated.take() {
            Some(violated) => Err(violated),
            None => Ok(look(&outcomes)),
        }
    }

    /// Lets every client end its request, then reads every key through every endpoint: how many keys hold an
    /// acknowledged object, and how many must be absent.
    pub async fn finish(self, endpoints: &[S3], readable: Duration) -> Result<(u64, u64), ChaosError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut clients = Vec::new();
        for client in self.clients {
            clients.push(client.await.map_err(|error| ChaosError::Workload(error.to_string()))?);
        }
        if let Some(violated) = self.shared.outcomes().violated.take() {
            return Err(violated);
        }
        let (mut objects, mut absent) = (0, 0);
        for client in &clients {
            for (index, possible) in client.keys.iter().enumerate() {
                // Every endpoint must say the same, also of a key whose last change nobody was told of.
                let mut possible = possible.clone();
                for s3 in endpoints {
                    let state = client.settled(s3, index, &possible, readable).await?;
                    possible = vec![state];
                }
                match client.keys[index][..] {
                    [Some(_)] => objects += 1,
                    [None] => absent += 1,
                    _ => {}
                }
            }
        }
        Ok((objects, absent))
    }
}

struct Client {
    number: usize,
    endpoints: Vec<S3>,
    rng: StdRng,
    keys: Vec<Possible>,
}

/// What a request that succeeded says of keys.
enum Answer {
    /// They hold just this now.
    Holds(Vec<usize>, Option<u64>),
    Read(usize, Option<Bytes>),
    Listed(Vec<String>),
}

impl Client {
    fn key(&self, index: usize) -> String {
        format!("c{}/k{index:02}", self.number)
    }

    async fn work(mut self, shared: Arc<Course>) -> Self {
        while !shared.stop.load(Ordering::Relaxed) {
            let (name, succeeded) = match self.step(&shared).await {
                Ok(step) => step,
                Err(violated) => {
                    shared.outcomes().violated.get_or_insert(violated);
                    return self;
                }
            };
            if succeeded {
                *shared.outcomes().succeeded.entry(name).or_default() += 1;
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
        self
    }

    /// One request; whether it succeeded.
    async fn step(&mut self, shared: &Course) -> Result<(&'static str, bool), ChaosError> {
        let s3 = self.endpoints[self.rng.random_range(0..self.endpoints.len())].clone();
        let index = self.rng.random_range(0..KEYS);
        let (key, seed) = (self.key(index), self.rng.random());
        let started = Instant::now();
        // What a request may change it may also have changed when it fails.
        let (name, changes, answer) = match self.rng.random_range(0..100) {
            0..45 => {
                let answer = s3.put(BUCKET, &key, body(seed)).await;
                ("PUT", vec![(index, Some(seed))], answer.map(|()| Answer::Holds(vec![index], Some(seed))))
            }
            45..65 => ("GET", vec![], read(&s3, &key).await.map(|state| Answer::Read(index, state))),
            65..78 => {
                let answer = s3.delete(BUCKET, &key).await;
                ("DELETE", vec![(index, None)], answer.map(|()| Answer::Holds(vec![index], None)))
            }
            78..83 => {
                let all: Vec<usize> = (index..KEYS.min(index + 4)).collect();
                let keys: Vec<String> = all.iter().map(|index| self.key(*index)).collect();
                let answer = s3.delete_batch(BUCKET, &keys).await.and_then(all_deleted);
                let changes = all.iter().map(|index| (*index, None)).collect();
                ("DELETE of several", changes, answer.map(|()| Answer::Holds(all, None)))
            }
            83..92 => ("LIST", vec![], s3.list(BUCKET, &format!("c{}/", self.number)).await.map(Answer::Listed)),
            _ => {
                let answer = s3.put_in_parts(BUCKET, &key, &[body(seed)]).await;
                ("multipart", vec![(index, Some(seed))], answer.map(|()| Answer::Holds(vec![index], Some(seed))))
            }
        };
        let took = started.elapsed();
        let mut outcomes = shared.outcomes();
        outcomes.longest = outcomes.longest.max((took, name));
        match answer {
            Ok(answer) => {
                if !changes.is_empty() {
                    outcomes.acknowledged.push(Instant::now());
                }
                drop(outcomes);
                self.learn(answer)?;
                Ok((name, true))
            }
            Err(error) => {
                *outcomes.failed.entry(format!("{name}: {}", reason(&error)?)).or_default() += 1;
                for (index, may_hold) in changes {
                    if !self.keys[index].contains(&may_hold) {
                        self.keys[index].push(may_hold);
                    }
                }
                Ok((name, false))
            }
        }
    }

    fn learn(&mut self, answer: Answer) -> Result<(), ChaosError> {
        match answer {
            Answer::Holds(indices, what) => {
                indices.into_iter().for_each(|index| self.keys[index] = vec![what]);
                Ok(())
            }
            Answer::Read(index, state) => self.judge(index, &self.keys[index], state).map(drop),
            Answer::Listed(listed) => self.judge_listing(&listed),
        }
    }

    /// CON-1: what is certain to be there is listed, what is certain to be gone is not.
    fn judge_listing(&self, listed: &[String]) -> Result<(), ChaosError> {
        for (index, possible) in self.keys.iter().enumerate() {
            let key = self.key(index);
            let (is_listed, may_be_absent) = (listed.contains(&key), possible.contains(&None));
            if (is_listed && *possible == [None]) || (!is_listed && !may_be_absent) {
                let what = format!("{key}: listed {is_listed}, may hold {possible:?}");
                return Err(ChaosError::Violated { invariant: "CON-1", what });
            }
        }
        Ok(())
    }

    /// Which of what is possible was read.
    fn judge(&self, index: usize, possible: &Possible, read: Option<Bytes>) -> Result<Option<u64>, ChaosError> {
        let fits = |possible: &&Option<u64>| possible.map(body) == read;
        if let Some(which) = possible.iter().find(fits) {
            return Ok(*which);
        }
        let invariant = if read.is_some() { "INT-1" } else { "DUR-1" };
        let held = read.map_or("nothing".to_owned(), |bytes| format!("{} other bytes", bytes.len()));
        Err(ChaosError::Violated { invariant, what: format!("{}: {held}, may hold {possible:?}", self.key(index)) })
    }

    /// Reads a key, again and again if it fails, and judges it.
    async fn settled(
        &self,
        s3: &S3,
        index: usize,
        possible: &Possible,
        within: Duration,
    ) -> Result<Option<u64>, ChaosError> {
        let key = self.key(index);
        let got = crate::admin::until(&key, within, async || Ok(read(s3, &key).await?), |_| true).await;
        let lost = |error: ChaosError| ChaosError::Violated { invariant: "DUR-1", what: error.to_string() };
        self.judge(index, possible, got.map_err(lost)?)
    }
}

async fn read(s3: &S3, key: &str) -> Result<Option<Bytes>, S3Error> {
    match s3.get(BUCKET, key).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A batch that answered errors for some keys has failed for our purposes.
fn all_deleted(kept: Vec<String>) -> Result<(), S3Error> {
    let [first, ..] = &kept[..] else { return Ok(()) };
    let (path, body) = (first.clone(), "not deleted in a batch".to_owned());
    Err(S3Error::Status { method: http::Method::POST, path, status: StatusCode::SERVICE_UNAVAILABLE, body })
}

/// How a request failed, if in a way that a cluster in trouble may answer.
fn reason(error: &S3Error) -> Result<String, ChaosError> {
    match error {
        S3Error::Status { status: StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR, .. } => {
            Ok(error.status().map_or_else(String::new, |status| status.as_u16().to_string()))
        }
        S3Error::Transport { .. } => Ok("transport".into()),
        S3Error::Deadline { .. } => Err(ChaosError::Violated { invariant: "BND-1", what: error.to_string() }),
        S3Error::Status { .. } => Err(ChaosError::Workload(error.to_string())),
    }
}

/// The same for the same seed.
fn body(seed: u64) -> Bytes {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut body = vec![0; SIZES[rng.random_range(0..SIZES.len())]];
    rng.fill(body.as_mut_slice());
    body.into()
}
