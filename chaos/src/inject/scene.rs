//! What is looked at each second while faults go on: what the cluster says of itself, and what its processes take.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{admin, process::rss_bytes, traffic::Book};

const EVERY: Duration = Duration::from_secs(1);
/// A node that does not answer in this time is asked again later.
const PATIENCE: Duration = Duration::from_secs(3);
/// A read of the metadata gives up after 10 s; after that nobody may call itself ready.
const UNREADY: Duration = Duration::from_secs(20);

/// What one process took at most.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Taken {
    pub rss_bytes: u64,
    pub threads: u64,
    pub handles: u64,
}

/// One look.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Second {
    /// Milliseconds since the run began.
    pub at_ms: u64,
    /// None: nobody told.
    pub missing_fragments: Option<u64>,
    pub disks_up: Option<usize>,
    pub rss_bytes: u64,
}

/// What the one who does the faults knows, and the one who looks.
#[derive(Default)]
pub struct Scene {
    /// Names and ids.
    pub processes: Vec<(String, u32)>,
    /// Admin addresses of the nodes that should answer.
    pub answering: Vec<String>,
    pub metadata_away_since: Option<Instant>,
    /// Admin addresses of the nodes that are cut off from the metadata, and since when.
    pub lonely: BTreeMap<String, Instant>,
    /// The last status, and when it was asked for.
    pub status: Option<(Instant, Value)>,
    pub seconds: Vec<Second>,
    pub most: BTreeMap<String, Taken>,
}

#[derive(Clone, Default)]
pub struct Shared {
    scene: Arc<Mutex<Scene>>,
    stop: Arc<AtomicBool>,
}

impl Shared {
    pub fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Looks each second until it is stopped.
pub async fn watch(shared: Shared, book: Book) {
    let mut turn = 0usize;
    while !shared.stop.load(Ordering::Relaxed) {
        let next = tokio::time::Instant::now() + EVERY;
        turn += 1;
        let (admins, away, lonely) = {
            let scene = shared.scene();
            (scene.answering.clone(), scene.metadata_away_since, scene.lonely.clone())
        };
        let asked = Instant::now();
        let status = match admins.get(turn % admins.len().max(1)) {
            Some(url) => patiently(admin::json(&format!("{url}/v1/status"))).await,
            None => None,
        };
        look(&shared, &book, asked, status);
        if away.is_some_and(|since| since.elapsed() > UNREADY) {
            for url in &admins {
                honest(&shared, &book, url).await;
            }
        }
        for (url, _) in lonely.iter().filter(|(_, since)| since.elapsed() > UNREADY) {
            honest(&shared, &book, url).await;
        }
        tokio::time::sleep_until(next).await;
    }
}

async fn patiently<T, E>(asking: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(PATIENCE, asking).await.ok()?.ok()
}

/// A node calls itself ready if a write can be made durable now; without metadata none can.
async fn honest(shared: &Shared, book: &Book, url: &str) {
    let is_ready = patiently(admin::get(&format!("{url}/readyz"))).await.is_some();
    let away = {
        let scene = shared.scene();
        scene.metadata_away_since.or_else(|| scene.lonely.get(url).copied())
    };
    if let Some(since) = away.filter(|since| is_ready && since.elapsed() > UNREADY) {
        let seconds = since.elapsed().as_secs();
        book.broken("READY", format!("{url} calls itself ready, and the metadata are away for {seconds} s"));
    }
}

fn look(shared: &Shared, book: &Book, asked: Instant, status: Option<Value>) {
    let processes = shared.scene().processes.clone();
    let taken: Vec<(String, Taken)> =
        processes.into_iter().filter_map(|(name, pid)| Some((name, taken(pid)?))).collect();
    let mut scene = shared.scene();
    let second = Second {
        at_ms: book.now() / 1000,
        missing_fragments: status.as_ref().and_then(|status| status["missing_fragments"].as_u64()),
        disks_up: status.as_ref().map(|status| admin::disks_in(status, "up")),
        rss_bytes: taken.iter().map(|(_, taken)| taken.rss_bytes).sum(),
    };
    scene.seconds.push(second);
    for (name, now) in taken {
        let most = scene.most.entry(name).or_default();
        most.rss_bytes = most.rss_bytes.max(now.rss_bytes);
        most.threads = most.threads.max(now.threads);
        most.handles = most.handles.max(now.handles);
    }
    if let Some(status) = status {
        scene.status = Some((asked, status));
    }
}

fn taken(pid: u32) -> Option<Taken> {
    let count = |folder: &str| Some(fs::read_dir(format!("/proc/{pid}/{folder}")).ok()?.count() as u64);
    Some(Taken { rss_bytes: rss_bytes(pid)?, threads: count("task")?, handles: count("fd")? })
}

/// How long ago the bytes of each disk of a node were verified, at the longest.
pub(super) async fn scrub_ages(url: &str) -> Option<Vec<f64>> {
    let text = admin::get(&format!("{url}/metrics")).await.ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter(|line| line.starts_with("cairn_scrub_oldest_seconds{"));
    Some(lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect())
}

/// Of a status, what says how far healing is.
pub(super) fn brief(status: &Value) -> String {
    let disks = ["up", "down", "lost"].map(|state| format!("{} {state}", admin::disks_in(status, state)));
    format!(
        "{} fragments missing {}, {} members lost; disks: {}",
        status["missing_fragments"],
        status["ledger_by_cause"],
        status["lost_members"],
        disks.join(", ")
    )
}
