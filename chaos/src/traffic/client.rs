//! One client: it draws requests, sends them one after another, and writes down what it was answered.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{
    content::{self, Label},
    endpoints::Endpoints,
    record::{Book, Class, Copy, Key, Sample, Version},
};
use crate::{
    error::ChaosError,
    history::{Need, Op, State},
    s3::{S3Error, elements, escaped},
    script::Workload,
};

pub const PLAIN: &str = "chaos-plain";
pub const VERSIONED: &str = "chaos-versions";
/// Of a part that is not the last.
const PART: usize = 5 << 20;
/// A client whose request failed waits, as S3's own clients do.
const PAUSE: Duration = Duration::from_millis(100);
const NONCE: &str = "x-amz-meta-nonce";

/// Clients at work.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    /// Lets every client end its request.
    pub async fn stop(self) -> Result<(), ChaosError> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.map_err(|error| ChaosError::Workload(error.to_string()))?;
        }
        Ok(())
    }
}

/// Starts as many clients as the workload has.
pub fn start(endpoints: &Endpoints, book: &Book, workload: &Workload, seed: u64) -> Traffic {
    let stop = Arc::new(AtomicBool::new(false));
    let between = Duration::from_secs_f64(workload.clients as f64 / f64::from(workload.requests_per_second));
    // One more asks whom nobody should ask.
    let tasks = (0..=workload.clients).map(|number| {
        let client = Client::new(number, endpoints.clone(), book.clone(), workload.clone(), seed);
        let client = Client { is_stubborn: number == workload.clients, ..client };
        tokio::spawn(client.work(stop.clone(), between))
    });
    Traffic { tasks: tasks.collect(), stop }
}

/// What an answer that is no success says.
#[derive(Debug)]
pub enum Refusal {
    /// A definite answer: 404 or 412.
    Status(StatusCode),
    /// Whether it was done is unknown.
    Silent,
}

struct Asked {
    name: &'static str,
    node: usize,
    mark: u64,
    begun: u64,
}

enum Condition {
    None,
    Absent,
    Match(String, Label),
}

pub struct Client {
    number: usize,
    endpoints: Endpoints,
    /// Ask this one only.
    fixed: Option<usize>,
    /// Ask only nodes that are cut off.
    is_stubborn: bool,
    book: Book,
    workload: Workload,
    rng: StdRng,
    serial: u64,
    /// The entity tags last seen.
    tags: HashMap<Key, (String, Label)>,
    once: Vec<Key>,
}

impl Client {
    pub fn new(number: usize, endpoints: Endpoints, book: Book, workload: Workload, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ ((number as u64 + 1) << 32));
        let (fixed, is_stubborn) = (None, false);
        Self {
            number,
            endpoints,
            fixed,
            is_stubborn,
            book,
            workload,
            rng,
            serial: 0,
            tags: HashMap::new(),
            once: Vec::new(),
        }
    }

    /// The same, asking one node only.
    pub fn of_node(self, node: usize) -> Self {
        Self { fixed: Some(node), ..self }
    }

    async fn work(mut self, stop: Arc<AtomicBool>, between: Duration) {
        // Not all at the same moment.
        let mut next = tokio::time::Instant::now() + between.mul_f64(self.rng.random());
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep_until(next).await;
            next = (next + between).max(tokio::time::Instant::now());
            if self.is_stubborn && self.endpoints.choose_doubtful(&mut self.rng).is_none() {
                continue;
            }
            if self.step().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// One request that is drawn.
    async fn step(&mut self) -> Result<(), Refusal> {
        let mix = &self.workload.mix;
        let weights = [
            mix.put,
            mix.get,
            mix.head,
            mix.delete,
            mix.list,
            mix.multipart,
            mix.copy,
            mix.put_if_absent,
            mix.put_if_match,
            mix.put_once,
            mix.get_old,
        ];
        let mut drawn = self.rng.random_range(0..weights.iter().sum::<u32>().max(1));
        let mut kind = 0;
        while let Some(weight) = weights.get(kind).filter(|weight| drawn >= **weight) {
            drawn -= weight;
            kind += 1;
        }
        let key = self.hot();
        match kind {
            0 => self.put("PUT", &key, Condition::None).await,
            1 => {
                let key = self.read_key();
                self.get(&key).await.map(drop)
            }
            2 => {
                let key = self.read_key();
                self.head(&key).await
            }
            3 => self.delete(&key).await,
            4 => self.list(key.0).await,
            5 => self.multipart(&key).await,
            6 => self.copy().await,
            7 => self.put("PUT if-none-match", &key, Condition::Absent).await,
            8 => match self.tags.get(&key).cloned() {
                Some((tag, label)) => self.put("PUT if-match", &key, Condition::Match(tag, label)).await,
                None => self.get(&key).await.map(drop),
            },
            9 => self.put_once().await,
            _ => self.get_old().await,
        }
    }

    fn bucket(&mut self) -> &'static str {
        if self.rng.random() { PLAIN } else { VERSIONED }
    }

    fn hot(&mut self) -> Key {
        (self.bucket(), format!("hot/{:03}", self.rng.random_range(0..self.workload.hot_keys)))
    }

    fn copied(&mut self) -> Key {
        (self.bucket(), format!("copy/{:03}", self.rng.random_range(0..self.workload.hot_keys.div_ceil(2))))
    }

    fn read_key(&mut self) -> Key {
        if self.workload.mix.copy > 0 && self.rng.random_range(0..5) == 0 { self.copied() } else { self.hot() }
    }

    /// A label that no other write has.
    fn label(&mut self) -> Label {
        self.serial += 1;
        let nonce = (self.number as u64 + 1) << 32 | self.serial;
        let length = self.workload.sizes.choose(&mut self.rng).map_or(0, |size| size.0 as usize);
        self.book.pages().labels.insert(nonce, length);
        Label { nonce, length }
    }

    fn ask(&mut self, name: &'static str) -> Asked {
        let (node, mark) = match self.fixed {
            Some(node) => (node, u64::MAX),
            None => {
                let doubtful = self.is_stubborn.then(|| self.endpoints.choose_doubtful(&mut self.rng)).flatten();
                doubtful.unwrap_or_else(|| self.endpoints.choose(&mut self.rng))
            }
        };
        Asked { name, node, mark, begun: self.book.now() }
    }

    /// Writes down how a request ended.
    fn told<T>(&self, asked: &Asked, answer: Result<T, S3Error>) -> Result<T, Refusal> {
        let ended = self.book.now();
        let (class, answer) = match answer {
            Ok(answer) => (Class::Succeeded, Ok(answer)),
            Err(error) => self.refused(asked, &error),
        };
        let sample = Sample { ended, took: ended - asked.begun, name: asked.name, class };
        self.book.pages().samples.push(sample);
        answer
    }

    fn refused<T>(&self, asked: &Asked, error: &S3Error) -> (Class, Result<T, Refusal>) {
        let class = match error {
            S3Error::Status { status, body, .. } => match *status {
                StatusCode::SERVICE_UNAVAILABLE => Class::Unavailable,
                StatusCode::INTERNAL_SERVER_ERROR => Class::Internal,
                StatusCode::CONFLICT if body.contains("ConditionalRequestConflict") => Class::Unavailable,
                // As AWS answers whoever is more than 15 minutes off; a HEAD has no body that tells.
                StatusCode::FORBIDDEN if body.is_empty() || body.contains("RequestTimeTooSkewed") => Class::Skewed,
                status @ StatusCode::PRECONDITION_FAILED => return (Class::Succeeded, Err(Refusal::Status(status))),
                // A HEAD has no body that tells more.
                status @ StatusCode::NOT_FOUND if body.is_empty() || body.contains("NoSuchKey") => {
                    return (Class::Succeeded, Err(Refusal::Status(status)));
                }
                _ => {
                    self.book.broken("CON-1", format!("an answer that nothing explains: {error}"));
                    Class::Internal
                }
            },
            S3Error::Transport { .. } => Class::Transport,
            S3Error::Deadline { .. } => {
                if self.fixed.is_none() && self.endpoints.could_answer_since(asked.node, asked.mark) {
                    self.book.broken("BND-1", format!("{}: {error}, of a node that works", asked.name));
                }
                Class::Deadline
            }
        };
        (class, Err(Refusal::Silent))
    }

    /// Puts a request into the history of a key.
    fn note(&self, asked: &Asked, key: &Key, need: Need, writes: Option<State>, is_known: bool) {
        let ended = is_known.then(|| self.book.now());
        let op = Op { client: self.number, name: asked.name, need, writes, begun: asked.begun, ended };
        self.book.took_place(key, op);
    }

    async fn exchange(
        &self,
        asked: &Asked,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&'static str, &str)],
    ) -> Result<(HeaderMap, Bytes), Refusal> {
        let answer = self.endpoints.s3(asked.node).exchange(method, path, body, headers).await;
        self.told(asked, answer)
    }

    async fn put(&mut self, name: &'static str, key: &Key, condition: Condition) -> Result<(), Refusal> {
        let label = self.label();
        let nonce = label.header();
        let mut headers = vec![(NONCE, &*nonce)];
        let need = match &condition {
            Condition::None => Need::Anything,
            Condition::Absent => {
                headers.push(("if-none-match", "*"));
                Need::Is(None)
            }
            Condition::Match(tag, seen) => {
                headers.push(("if-match", tag));
                Need::Is(Some(seen.nonce))
            }
        };
        let body = content::body(&whole(key), label);
        let asked = self.ask(name);
        let answer = self.exchange(&asked, Method::PUT, &path(key), body, &headers).await;
        let writes = Some(Some(label.nonce));
        match (&answer, condition) {
            (Ok((headers, _)), _) => {
                self.note(&asked, key, need, writes, true);
                self.acknowledged(key, headers, Some(label));
            }
            (Err(Refusal::Status(StatusCode::PRECONDITION_FAILED)), Condition::Absent) => {
                self.note(&asked, key, Need::IsNot(None), None, true);
            }
            (Err(Refusal::Status(StatusCode::PRECONDITION_FAILED)), Condition::Match(_, seen)) => {
                self.note(&asked, key, Need::IsNot(Some(seen.nonce)), None, true);
                self.tags.remove(key);
            }
            (Err(Refusal::Status(StatusCode::NOT_FOUND)), Condition::Match(..)) => {
                self.note(&asked, key, Need::Is(None), None, true);
                self.tags.remove(key);
            }
            (Err(Refusal::Status(status)), _) => {
                self.book.broken("CON-1", format!("{name} of {}: {status} for a PUT that may not have it", whole(key)));
            }
            (Err(Refusal::Silent), _) => self.note(&asked, key, need, writes, false),
        }
        settled(answer)
    }

    /// Remembers a version that is promised to stay, and the tag.
    fn acknowledged(&mut self, key: &Key, headers: &HeaderMap, label: Option<Label>) {
        if key.0 == VERSIONED {
            match text(headers, "x-amz-version-id") {
                Some(id) => self.book.pages().versions.push(Version { key: key.clone(), id, label }),
                None => self.book.broken("CON-1", format!("no version id in an answer about {}", whole(key))),
            }
        }
        if let Some(label) = label {
            self.saw(key, headers, label);
        }
    }

    /// Of short bodies and copies the tags are not theirs alone.
    fn saw(&mut self, key: &Key, headers: &HeaderMap, label: Label) {
        if label.length >= 16
            && key.1.starts_with("hot/")
            && let Some(tag) = text(headers, "etag")
        {
            self.tags.insert(key.clone(), (tag, label));
        }
    }

    /// What the key holds; Err: nobody told.
    pub async fn get(&mut self, key: &Key) -> Result<State, Refusal> {
        let asked = self.ask("GET");
        let answer = self.exchange(&asked, Method::GET, &path(key), Bytes::new(), &[]).await;
        match answer {
            Ok((headers, bytes)) => {
                let label = self.judged(&asked, key, &headers, Some(&bytes));
                let state = label.map(|label| label.nonce);
                if let Some(label) = label {
                    self.note(&asked, key, Need::Is(state), None, true);
                    self.saw(key, &headers, label);
                }
                Ok(state)
            }
            Err(Refusal::Status(_)) => {
                self.note(&asked, key, Need::Is(None), None, true);
                Ok(None)
            }
            Err(silent) => Err(silent),
        }
    }

    async fn head(&mut self, key: &Key) -> Result<(), Refusal> {
        let asked = self.ask("HEAD");
        let answer = self.exchange(&asked, Method::HEAD, &path(key), Bytes::new(), &[]).await;
        match &answer {
            Ok((headers, _)) => {
                if let Some(label) = self.judged(&asked, key, headers, None) {
                    self.note(&asked, key, Need::Is(Some(label.nonce)), None, true);
                }
            }
            Err(Refusal::Status(_)) => self.note(&asked, key, Need::Is(None), None, true),
            Err(Refusal::Silent) => {}
        }
        settled(answer)
    }

    /// Which write was read, if header and bytes are those of one that was sent.
    fn judged(&self, asked: &Asked, key: &Key, headers: &HeaderMap, bytes: Option<&[u8]>) -> Option<Label> {
        let wrong = |why: String| {
            self.book.broken("INT-1", format!("{} of {} by node {}: {why}", asked.name, whole(key), asked.node + 1));
            None
        };
        let label = text(headers, NONCE).and_then(|text| Label::parse(&text));
        let Some(label) = label else { return wrong("it has no label".into()) };
        let (sent, copy) = {
            let pages = self.book.pages();
            (pages.labels.contains_key(&label.nonce), pages.copies.get(&label.nonce).cloned())
        };
        if !sent {
            return wrong(format!("nobody wrote {:x}", label.nonce));
        }
        let length = text(headers, "content-length").and_then(|length| length.parse::<usize>().ok());
        let verified = match (&copy, bytes) {
            (Some(copy), Some(bytes)) => content::verify_copy(&whole(&copy.source), bytes)
                .map(|found| self.copied_from(label.nonce, copy, found)),
            (None, Some(bytes)) => content::verify(&whole(key), label, bytes),
            (None, None) if length.is_some_and(|length| length != label.length) => {
                Err(format!("it has {length:?} bytes by its header, and {} were written", label.length))
            }
            (_, None) => Ok(()),
        };
        match verified {
            Ok(()) => Some(label),
            Err(why) => wrong(why),
        }
    }

    /// What a copy holds was read from its source while it was made: a read of the source, told late.
    fn copied_from(&self, nonce: u64, copy: &Copy, found: Option<Label>) {
        let (Some(found), Some(ended)) = (found, copy.ended) else { return };
        if self.book.pages().copies.get_mut(&nonce).is_some_and(|copy| std::mem::replace(&mut copy.is_seen, true)) {
            return;
        }
        let need = Need::Is(Some(found.nonce));
        let op =
            Op { client: self.number, name: "COPY from", need, writes: None, begun: copy.begun, ended: Some(ended) };
        self.book.took_place(&copy.source, op);
    }

    async fn delete(&mut self, key: &Key) -> Result<(), Refusal> {
        let asked = self.ask("DELETE");
        let answer = self.exchange(&asked, Method::DELETE, &path(key), Bytes::new(), &[]).await;
        self.note(&asked, key, Need::Anything, Some(None), answer.is_ok());
        if let Ok((headers, _)) = &answer {
            self.acknowledged(key, headers, None);
        }
        settled(answer)
    }

    /// Each key is there or not at some moment of the request.
    async fn list(&mut self, bucket: &'static str) -> Result<(), Refusal> {
        let asked = self.ask("LIST");
        let path = format!("/{bucket}?list-type=2&prefix={}", escaped("hot/"));
        let (_, page) = self.exchange(&asked, Method::GET, &path, Bytes::new(), &[]).await?;
        let page = String::from_utf8_lossy(&page).into_owned();
        let listed: Vec<&str> = elements(&page, "Key").collect();
        for number in 0..self.workload.hot_keys {
            let key = (bucket, format!("hot/{number:03}"));
            let need = if listed.contains(&&*key.1) { Need::IsNot(None) } else { Need::Is(None) };
            self.note(&asked, &key, need, None, true);
        }
        Ok(())
    }

    async fn multipart(&mut self, key: &Key) -> Result<(), Refusal> {
        let label = self.label();
        let nonce = label.header();
        let body = content::body(&whole(key), label);
        let asked = self.ask("upload");
        let s3 = self.endpoints.s3(asked.node).clone();
        let upload = self.told(&asked, s3.begin_upload_with(key.0, &key.1, &[(NONCE, &nonce)]).await)?;
        let mut list = String::new();
        let parts = body.len().div_ceil(PART).max(1);
        for part in 0..parts {
            let piece = body.slice(part * PART..body.len().min((part + 1) * PART));
            let asked = Asked { name: "part", begun: self.book.now(), ..asked };
            let tag = self.told(&asked, s3.put_part(key.0, &key.1, &upload, part + 1, piece).await)?;
            list += &format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>", part + 1);
        }
        let asked = Asked { name: "complete", begun: self.book.now(), ..asked };
        let answer = self.told(&asked, s3.completed(key.0, &key.1, &upload, &list).await);
        self.note(&asked, key, Need::Anything, Some(Some(label.nonce)), answer.is_ok());
        if let Ok(headers) = &answer {
            // Its tag comes with a read.
            self.acknowledged(key, headers, Some(label));
        }
        settled(answer)
    }

    async fn copy(&mut self) -> Result<(), Refusal> {
        let source = (PLAIN, format!("hot/{:03}", self.rng.random_range(0..self.workload.hot_keys)));
        let key = self.copied();
        let label = Label { length: 0, ..self.label() };
        let (nonce, from) = (label.header(), path(&source));
        let asked = self.ask("COPY");
        let copy = Copy { source: source.clone(), begun: asked.begun, ended: None, is_seen: false };
        self.book.pages().copies.insert(label.nonce, copy);
        let headers = [("x-amz-copy-source", &*from), ("x-amz-metadata-directive", "REPLACE"), (NONCE, &*nonce)];
        let answer = self.exchange(&asked, Method::PUT, &path(&key), Bytes::new(), &headers).await;
        // An error may come after the status 200.
        let answer = answer.and_then(|(headers, body)| {
            let is_done = String::from_utf8_lossy(&body).contains("<CopyObjectResult");
            if is_done { Ok(headers) } else { Err(Refusal::Silent) }
        });
        match &answer {
            Ok(headers) => {
                self.note(&asked, &key, Need::Anything, Some(Some(label.nonce)), true);
                let ended = Some(self.book.now());
                if let Some(copy) = self.book.pages().copies.get_mut(&label.nonce) {
                    copy.ended = ended;
                }
                self.acknowledged(&key, headers, Some(label));
            }
            Err(Refusal::Status(_)) => self.note(&asked, &source, Need::Is(None), None, true),
            Err(Refusal::Silent) => self.note(&asked, &key, Need::Anything, Some(Some(label.nonce)), false),
        }
        settled(answer)
    }

    async fn put_once(&mut self) -> Result<(), Refusal> {
        let key = (self.bucket(), format!("once/{}-{:05}", self.number, self.serial));
        self.once.push(key.clone());
        self.put("PUT", &key, Condition::None).await
    }

    /// A version by its id, or a key that is written once.
    async fn get_old(&mut self) -> Result<(), Refusal> {
        let version = self.book.pages().versions.choose(&mut self.rng).cloned();
        match version {
            Some(version) if version.label.is_some() && self.rng.random() => self.get_version(&version).await,
            _ => {
                let key = self.once.choose(&mut self.rng).cloned();
                let key = key.unwrap_or_else(|| self.hot());
                self.get(&key).await.map(drop)
            }
        }
    }

    /// DUR-1: a version that was acknowledged is what it was.
    pub async fn get_version(&mut self, version: &Version) -> Result<(), Refusal> {
        let asked = self.ask("GET of a version");
        let path = format!("{}?versionId={}", path(&version.key), escaped(&version.id));
        let answer = self.exchange(&asked, Method::GET, &path, Bytes::new(), &[]).await;
        let place = format!("version {} of {}", version.id, whole(&version.key));
        match &answer {
            Ok((headers, bytes)) => {
                let read = self.judged(&asked, &version.key, headers, Some(bytes));
                if read.map(|label| label.nonce) != version.label.map(|label| label.nonce) {
                    self.book.broken("DUR-1", format!("{place} is {read:?}, and {:?} was written", version.label));
                }
            }
            Err(Refusal::Status(status)) => {
                self.book.broken("DUR-1", format!("{place} was acknowledged, and is {status}"));
            }
            Err(Refusal::Silent) => {}
        }
        settled(answer)
    }
}

/// A definite answer is as good as any.
fn settled<T>(answer: Result<T, Refusal>) -> Result<(), Refusal> {
    match answer {
        Err(Refusal::Silent) => Err(Refusal::Silent),
        _ => Ok(()),
    }
}

fn whole(key: &Key) -> String {
    format!("{}/{}", key.0, key.1)
}

fn path(key: &Key) -> String {
    format!("/{}/{}", key.0, key.1)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
